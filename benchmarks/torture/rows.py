"""The table that the torture prints."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MADE: list[Row] = []
"""All rows of this process, also those of a kind that is stopped before its end."""


@dataclass
class Row:
    """What one kind of torture came to.

    Attributes:
        name: what was done.
        good: outcomes that are promised; any other is a failure.
        outcomes: how often each was seen.
        examples: of failures, a few.
        seconds: how long it took.
    """

    name: str
    good: tuple[str, ...]
    outcomes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        MADE.append(self)

    @property
    def tried(self) -> int:
        """How often it was done."""
        return self.outcomes.total()

    @property
    def failures(self) -> int:
        """How often something else came out than what is promised."""
        return sum(count for name, count in self.outcomes.items() if name not in self.good)

    def add(self, outcome: str, example: str = "") -> None:
        """Count an outcome; a failure's example is kept."""
        self.outcomes[outcome] += 1
        if outcome not in self.good and example:
            self.examples.append(f"{outcome}: {example}")


@dataclass
class Watch:
    """Tells on standard error how far a kind of torture is, every few seconds."""

    name: str
    total: int
    _started: float = field(default_factory=time.monotonic)
    _told: float = 0.0
    _done: int = 0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._told > 5 or self._done == self.total:
            self._told = now
            print(
                f"{self.name}: {self._done:,} of {self.total:,} in {now - self._started:.0f} s",
                file=sys.stderr,
                flush=True,
            )


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what was done | times | what came of it | not as promised |",
             "| --- | --: | --- | --: |"]  # fmt: skip
    for row in rows:
        came = ", ".join(f"{count:,} {name}" for name, count in sorted(row.outcomes.items()))
        lines.append(f"| {row.name} | {row.tried:,} | {came} | {row.failures:,} |")
    return "\n".join(lines)
