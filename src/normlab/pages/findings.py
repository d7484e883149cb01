"""What a check says: a level, and a sentence that can be understood on its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is, mildest first."""

    FINE = "fine"
    LOOK = "look at this"
    INVALID = "this invalidates your numbers"

    @property
    def rank(self) -> int:
        """0 for the mildest."""
        return list(Level).index(self)


@dataclass(frozen=True)
class Finding:
    """One line of the summary.

    Attributes:
        check: what it is about, in kebab case: ``exact-duplicates``, ``shortcuts``, ...
        level: how bad it is.
        sentence: plain words with the numbers, understandable without the page.
        advice: what to do about it; empty if nothing needs to be done.
    """

    check: str
    level: Level
    sentence: str
    advice: str = ""

    def describe(self) -> dict[str, str]:
        """Ready for JSON."""
        return {
            "check": self.check,
            "level": str(self.level),
            "sentence": self.sentence,
            "advice": self.advice,
        }

    @classmethod
    def read(cls, described: dict[str, str]) -> Finding:
        """The inverse of :meth:`describe`."""
        return cls(
            described["check"],
            Level(described["level"]),
            described["sentence"],
            described.get("advice", ""),
        )


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among them; fine if there are none.

    >>> worst([Finding("health", Level.FINE, "Every file is an image.")])
    <Level.FINE: 'fine'>
    >>> worst([Finding("copies", Level.INVALID, "12 test images are in train.")]).rank
    2
    """
    return max(
        (finding.level for finding in findings), key=lambda level: level.rank, default=Level.FINE
    )


def troubles(findings: Iterable[Finding]) -> list[Finding]:
    """Those that are not fine, worst first, otherwise in their order."""
    found = [finding for finding in findings if finding.level is not Level.FINE]
    return sorted(found, key=lambda finding: -finding.level.rank)
