"""The table of what runs started from, and what its reader has to know."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ....pages.tables import Cell, Column, Table
from ....pages.words import NO_VALUE, counted, listed
from ....results import Run
from ....results.spent import PROCESSOR
from ....results.statistics import t_interval
from ....results.target import Reached, median_of, reached
from ....runs import AS_IS
from ....runs.rule import LEAST_SEEDS
from ...context import Report

LEVEL = 0.95
_AFTER = (1, 2, 4, 8, 16, 32, 64)
"""Epochs after which validation is shown, besides the last."""
_COLUMNS = 4
_WAYS = {
    "": "as they were",
    "exact": "as layers that compute the same",
    "distilled": "matched and then distilled",
    "distilled_all": "matched and then distilled, with all other parameters",
    "matched": "matched to the outputs of the old ones",
    "copied": "with the old ones' weight, bias and statistics",
    "fresh": "anew",
}
"""How layers start, as run.json says it, and in words."""


@dataclass(frozen=True)
class Starts:
    """What the runs of a study started from.

    Attributes:
        report: of the study.
        of_arm: of every arm the runs that have ended and started from trained weights.
    """

    report: Report
    of_arm: Mapping[str, Sequence[Run]]

    @property
    def runs(self) -> list[Run]:
        """All of them."""
        return [run for runs in self.of_arm.values() for run in runs]

    @property
    def epochs(self) -> list[int]:
        """The epochs that have a column."""
        most = max((len(_validated(run)) for run in self.runs), default=0)
        chosen = [epoch for epoch in _AFTER if epoch < most]
        step = max(1, -(-len(chosen) // _COLUMNS))
        return [*chosen[::step], *([most] if most else [])]

    def explained(self) -> list[str]:
        """Where the weights are from."""
        found = dict.fromkeys(str(run.record["start"]["norm"]) for run in self.runs)
        norms = listed("the network's own" if norm == AS_IS else norm for norm in found)
        files = {str(run.record["start"]["weights"]) for run in self.runs}
        where = next(iter(files)) if len(files) == 1 else f"{len(files)} files"
        return [
            f"Runs started from trained weights ({where}), in which the normalization is {norms}. "
            "Where an arm has another one, layers were converted first. The table has validation "
            "accuracy of the network as it was, of the converted one before any training, and "
            "after epochs of it."
        ]

    def table(self) -> Table:
        """One row per arm."""
        epochs = self.epochs
        return Table(
            (
                Column("arm", "left"),
                Column("as it was", group="validation accuracy"),
                Column("at the start", group="validation accuracy"),
                *(Column(f"epoch {epoch}", group="validation accuracy") for epoch in epochs),
                Column("epochs", group="median until it is back"),
                Column("updates", group="median until it is back"),
                Column("runs that get there"),
            ),
            tuple((Cell(arm, "name"), *self._cells(runs)) for arm, runs in self.of_arm.items()),
            title=f"{self.report.title}: what the start lost",
            caption="Validation accuracy from trained weights, in percent",
        )

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        margin = 100 * self.report.judgement.rule.margin
        said = [
            f"Brackets are {100 * LEVEL:g} % t intervals over the seeds of an arm, where it has "
            f"{LEAST_SEEDS} or more that differ. Seeds that start from one file share its luck: "
            "the intervals say how much the start and the training vary, not how much training "
            "the original again would.",
            f"A run is back once validation accuracy is within {margin:g} points of what the "
            "network had as it was. Where less than half of the runs get there, a value with > is "
            "what the median is above.",
        ]
        ways: dict[str, list[str]] = {}
        for arm, runs in self.of_arm.items():
            for how in dict.fromkeys(str(run.record["start"].get("how", "")) for run in runs):
                ways.setdefault(how, []).append(arm)
        said += [f"Layers start {_WAYS[how]}: {listed(ways[how])}." for how in _WAYS if how in ways]
        replaced = dict.fromkeys(
            str(run.record["start"]["classifier"])
            for run in self.runs
            if run.record["start"].get("classifier")
        )
        if replaced:
            said.append(
                f"The classifier ({listed(replaced)}) was replaced, since it is of another size in "
                "the weights. So the network as it was has no accuracy on these classes."
            )
        shares = [float(run.record["start"]["loaded"]) for run in self.runs]
        if min(shares) < 1:
            least = math.floor(1000 * min(shares)) / 10
            few = "" if min(shares) == max(shares) else "At least "
            said.append(f"{few}{least:g} % of the parameters were loaded.")
        return said

    def _cells(self, runs: Sequence[Run]) -> list[Cell]:
        starts = [run.record["start"] for run in runs]
        known = [one["original"]["accuracy"] for one in starts if "original" in one]
        found = [
            _mean(known),
            _mean([one["val"]["accuracy"] for one in starts if "val" in one]),
        ]
        for epoch in self.epochs:
            there = [values[epoch - 1] for run in runs if len(values := _validated(run)) >= epoch]
            found.append(_mean(there) if len(there) == len(runs) else Cell(NO_VALUE))
        if len(known) < len(runs):
            return [*found, *(Cell(NO_VALUE) for _ in range(3))]
        back = [self._back(run) for run in runs]
        medians = []
        for measure in ("epochs", "updates"):
            median = median_of(back, measure)
            medians.append(
                NO_VALUE
                if median is None
                else f"{'> ' if median.above else ''}{round(median.value, 1):,g}"
            )
        there_in_all = sum(one.there for one in back)
        return [*found, *map(Cell, medians), Cell(f"{there_in_all} of {counted(len(runs), 'run')}")]

    def _back(self, run: Run) -> Reached:
        """When a run was back at what the network had as it was; at once, where the start is."""
        start = run.record["start"]
        least = start["original"]["accuracy"] - self.report.judgement.rule.margin
        found = reached(run, least, PROCESSOR)
        if "val" in start and start["val"]["accuracy"] >= least:
            return replace(found, there=True, epochs=0, updates=0.0)
        return found


def starts(report: Report) -> Starts | None:
    """None where no run that has ended started from trained weights."""
    of_arm = {
        arm: [run for run in report.results.of_arm(arm) if run.ended and _has_start(run)]
        for arm in report.arms
    }
    found = {arm: runs for arm, runs in of_arm.items() if runs}
    return Starts(report, found) if found else None


def _has_start(run: Run) -> bool:
    start: Any = run.record.get("start")
    return bool(start)


def _validated(run: Run) -> list[float]:
    return [float(row["accuracy"]) for row in run.history if row["split"] == "val"]


def _mean(values: Sequence[float]) -> Cell:
    if not values:
        return Cell(NO_VALUE)
    mean = f"{100 * statistics.fmean(values):.1f}"
    if len(values) < LEAST_SEEDS or len(set(values)) == 1:
        return Cell(mean)
    interval = t_interval([100 * value for value in values], LEVEL)
    if interval is None:
        return Cell(mean)
    low, high = max(0.0, interval.low), min(100.0, interval.high)
    return Cell(mean, small=f"[{low:.1f}, {high:.1f}]")
