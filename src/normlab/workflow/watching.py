"""What a comparison tells while it works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..studies import Plan, Reporter


@dataclass(frozen=True)
class Estimate:
    """What a study will take, known before it starts.

    Attributes:
        runs: runs to be made.
        already: runs that are complete already.
        seconds: an estimate of the time, trials and tuned runs included.
        workers: processes side by side.
        trials: runs that choose a setting, before the grid grows.
        tuned: runs at the chosen values, at most.
        added: runs that looks may add; the time is without them.
    """

    runs: int
    already: int
    seconds: float
    workers: int
    trials: int = 0
    tuned: int = 0
    added: int = 0


class Watcher(Reporter, Protocol):
    """What a comparison tells while it works: the data, the plan, then the runs."""

    def reading(self, stage: str, done: int, total: int) -> None:
        """Images are being decoded."""

    def planned(self, plan: Plan, data: dict[str, Any], folder: Path, estimate: Estimate) -> None:
        """The data is loaded and nothing has been run yet."""

    def stage(self, text: str) -> None:
        """Another part of the work begins, or a part is done: a sentence."""
