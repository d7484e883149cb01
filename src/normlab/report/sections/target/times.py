"""The table of times to a target, and what its reader has to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ....files import csv_text
from ....pages.tables import Cell, Column, Table
from ....pages.words import NO_VALUE, counted, duration, listed
from ....results.spent import PROCESSOR
from ....results.statistics import PairedComparison
from ....results.target import (
    MEASURES,
    Median,
    Ratio,
    Reached,
    all_reached,
    default_target,
    different_conditions,
    kind_of,
    median_of,
    ratio_of,
)
from ....runs.rule import LEAST_SEEDS
from ...context import Report

MOST_REASONS = 3
"""Arms without a ratio to which a sentence each is given."""
COLUMNS = ("arm", "seed", "status", "target", "reached", *MEASURES, "kind_of_seconds", "epochs_run")


@dataclass(frozen=True)
class TimeToTarget:
    """When the runs of a study reached a target.

    Attributes:
        report: of the study.
        target: validation accuracy, a share of 1.
        stated: how the target came about, in words that follow a comma.
        kind: of time.
        of_arm: of every arm its runs.
        different: in what conditions differ that decide how long runs take.
    """

    report: Report
    target: float
    stated: str
    kind: str
    of_arm: dict[str, list[Reached]]
    different: list[str]

    def explained(self) -> list[str]:
        """What the target is, and where it comes from."""
        return [
            f"When runs first reach a validation accuracy of {_percent(self.target)}, {self.stated}"
            " Validation accuracy is measured after each epoch, so times are known to one epoch. "
            "Verdicts do not depend on this."
        ]

    def table(self) -> Table:
        """One row per arm."""
        return Table(
            (
                Column("arm", "left"),
                Column("runs that reach it"),
                Column("epochs", group="median until then", alone="epochs, median"),
                Column("updates", group="median until then", alone="updates, median"),
                Column(self.kind, group="median until then", alone=f"{self.kind}, median"),
                Column("epochs", group="relative to the reference", alone="epochs, relative"),
                Column("updates", group="relative to the reference", alone="updates, relative"),
                Column(
                    self.kind, group="relative to the reference", alone=f"{self.kind}, relative"
                ),
            ),
            tuple(
                (Cell(arm, "name"), *map(Cell, self._cells(arm, found)))
                for arm, found in self.of_arm.items()
            ),
            title=f"{self.report.title}: time to a validation accuracy of {_percent(self.target)}",
            caption=f"Until validation accuracy is {_percent(self.target)} for the first time",
        )

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        said = ["Medians are over all runs of an arm that have ended."]
        never = {arm: sum(not one.there for one in of_arm) for arm, of_arm in self.of_arm.items()}
        if any(never.values()):
            which = listed(
                f"{count} of {counted(len(self.of_arm[arm]), 'run')} of {arm}"
                for arm, count in never.items()
                if count
            )
            said.append(
                f"{which} never reached it, in whatever way they ended. They count in the medians "
                "as later than all others; a value with > is what the median is above."
            )
        said.append(
            "A value relative to the reference is the geometric mean of the ratios seed by seed, "
            "with a t interval of their logarithms; below 1 an arm is faster. The intervals of one "
            "column hold simultaneously, like those of the verdicts and over the same seeds."
        )
        missing = [
            found
            for found in self.report.judgement.comparisons
            if self._ratio(found, "epochs") is None
        ]
        said += self._reasons(missing)
        processor = (
            "of the process, over all threads, from the start of the run, validation included"
        )
        passed = "that passed in training and validation, whatever else the machine was doing"
        said.append(
            f"{self.kind.capitalize()} is the time "
            f"{processor if self.kind == PROCESSOR else passed}."
        )
        if self.different:
            said.append(
                f"Times are not compared, because the runs were not made under the same "
                f"conditions: they have different {listed(self.different)}."
            )
        return said

    def csv(self) -> str:
        """One row per run that has ended; times are empty for a run that never reached it."""
        return csv_text(COLUMNS, [self._csv_row(one) for of in self.of_arm.values() for one in of])

    def _csv_row(self, one: Reached) -> dict[str, Any]:
        return {
            "arm": one.run.arm,
            "seed": one.run.seed,
            "status": one.run.status,
            "target": self.target,
            "reached": "yes" if one.there else "no",
            **({name: getattr(one, name) for name in MEASURES} if one.there else {}),
            "kind_of_seconds": self.kind,
            "epochs_run": sum(row["split"] == "val" for row in one.run.history),
        }

    def _cells(self, arm: str, found: list[Reached]) -> list[str]:
        there = sum(one.there for one in found)
        share = f" ({100 * there / len(found):.0f} %)" if found else ""
        compared = self.report.judgement.of(arm)
        relative = [
            "reference" if compared is None else _ratio(self._ratio(compared, measure))
            for measure in MEASURES
        ]
        return [
            f"{there} of {len(found)}{share}",
            *(_median(median_of(found, measure), measure) for measure in MEASURES),
            *relative,
        ]

    def _ratio(self, compared: PairedComparison, measure: str) -> Ratio | None:
        if measure == "seconds" and self.different:
            return None
        return ratio_of(self.report.results, compared, self.target, measure, self.kind)

    def _reasons(self, missing: list[PairedComparison]) -> list[str]:
        """Why these have no ratio; of many, those without a run that arrived share a sentence."""
        late = [found for found in missing if self._never(found)]
        if len(late) <= MOST_REASONS:
            return [self._why(found) for found in missing]
        others = [self._why(found) for found in missing if found not in late]
        shared = (
            f"{listed(found.arm for found in late)} have no value relative to "
            f"{listed(dict.fromkeys(found.reference for found in late))}: some of their runs never "
            "reached the target, and the others were selected by reaching it."
        )
        return [shared, *others]

    def _never(self, found: PairedComparison) -> list[str]:
        """How many runs of the two arms never reached the target."""
        return [
            f"{count} of {counted(len(of), 'run')} of {arm}"
            for arm in (found.arm, found.reference)
            if (of := [one for one in self.of_arm[arm] if one.run.seed in found.seeds])
            and (count := sum(not one.there for one in of))
        ]

    def _why(self, found: PairedComparison) -> str:
        """Why there is no ratio."""
        if never := self._never(found):
            return (
                f"{found.arm} has no value relative to {found.reference}: {listed(never)} never "
                "reached the target, and the others were selected by reaching it."
            )
        return (
            f"{found.arm} has no value relative to {found.reference}: that takes {LEAST_SEEDS} "
            "seeds for which both have ended."
        )


def time_to_target(report: Report) -> TimeToTarget | None:
    """None where no target is stated and none can be chosen, or nothing has been validated."""
    results, judgement = report.results, report.judgement
    target = report.target if report.target is not None else judgement.rule.target
    if target is None:
        target = default_target(results, judgement)
    if target is None or not any(run.history for run in results.runs):
        return None
    kind = kind_of(results)
    of_arm = {arm: all_reached(results, arm, target, kind) for arm in results.arms}
    different = different_conditions(results, kind)
    return TimeToTarget(report, target, _stated(report), kind, of_arm, different)


def _stated(report: Report) -> str:
    """How the target came about."""
    rule = report.judgement.rule
    if report.target is not None:
        own = "" if rule.target is None else f" The study states {_percent(rule.target)}."
        return f"which was asked of this report, after the runs.{own}"
    if rule.target is None:
        named = dict.fromkeys(found.reference for found in report.judgement.comparisons)
        whose = f"of {listed(named)} " if named else ""
        return (
            f"the highest whole percentage that every complete run {whose}reached. It was chosen "
            "after the runs and from some of them, and another target may order the arms "
            "otherwise: --target states one."
        )
    if rule.lost:
        return "stated at a time that is no longer known."
    if not rule.retargeted:
        return "stated before the runs."
    changes = listed(
        f"after {counted(int(earlier['runs']), 'run')} had ended (before that, "
        f"{_percent(earlier['target'] / 100) if 'target' in earlier else 'none was stated'})"
        for earlier in rule.retargeted
    )
    return f"stated {changes}. A target that is chosen after seeing results can favour any arm."


def _percent(share: float) -> str:
    return f"{round(100 * share, 10):g} %"


def _median(median: Median | None, measure: str) -> str:
    if median is None:
        return NO_VALUE
    text = duration(median.value) if measure == "seconds" else f"{round(median.value, 1):,g}"
    return f"> {text}" if median.above else text


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return NO_VALUE
    low, high = (_times(bound) for bound in (ratio.interval.low, ratio.interval.high))
    return f"{_times(ratio.value)} [{low}, {high}]"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
