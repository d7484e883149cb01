"""Ratios that benchmarks find, printed one by one and kept for the page of all."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

KEPT = "NORMLAB_RATIOS"
"""The variable that names the file to which ratios are appended, a line of JSON each."""


@dataclass(frozen=True)
class Ratio:
    """What was compared with what, and how it came out.

    Attributes:
        what: in words, such as "a step with bn beside one without normalization".
        median, low, high: of the repeats; low and high are quartiles from four repeats on, and the
            least and the greatest otherwise.
        n: repeats.
        at_most, at_least: the goal, if there is one.
    """

    what: str
    median: float
    low: float
    high: float
    n: int
    at_most: float | None = None
    at_least: float | None = None

    @classmethod
    def of(
        cls,
        what: str,
        values: Sequence[float],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> Ratio:
        """From the values of all repeats."""
        low, high = min(values), max(values)
        if len(values) > 3:
            low, _, high = statistics.quantiles(values, n=4)
        middle = statistics.median(values)
        return cls(what, middle, low, high, len(values), at_most, at_least)

    @property
    def goal(self) -> str:
        """The goal in words; "" where there is none."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"

    @property
    def met(self) -> bool | None:
        """Whether the median meets the goal, as it is printed; None where there is none."""
        shown = round(self.median, 2)
        if self.at_most is not None:
            return shown <= self.at_most
        return None if self.at_least is None else shown >= self.at_least

    @property
    def outcome(self) -> str:
        """The goal, and whether it is met; "" where there is none."""
        return f"{self.goal}: {'met' if self.met else 'missed'}" if self.goal else ""

    def __str__(self) -> str:
        spread = f" ({self.low:.2f} to {self.high:.2f})" if self.n > 1 else ""
        goal = f"; goal {self.outcome}" if self.goal else ""
        return f"{self.what}: {self.median:.2f}{spread}, n = {self.n}{goal}"


def tell(*ratios: Ratio) -> None:
    """Print ratios, and keep them where :data:`KEPT` says."""
    print()
    for ratio in ratios:
        print(ratio, flush=True)
    place = os.environ.get(KEPT)
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(ratio)) + "\n" for ratio in ratios)


def read(place: Path) -> list[Ratio]:
    """What was kept."""
    lines = place.read_text(encoding="utf-8").splitlines() if place.exists() else []
    return [Ratio(**json.loads(line)) for line in lines]
