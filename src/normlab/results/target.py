"""Time to target: when runs first reach a validation accuracy, and how many never do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..runs import RUNNING
from ..runs.rule import LEAST_SEEDS
from .reading import Results, Run
from .spent import PROCESSOR, kind_of_time
from .statistics import Interval, Judgement, PairedComparison, t_interval

MEASURES = ("epochs", "updates", "seconds")
_ROUNDING = 1e-9
"""A share that is stated as a percentage is reached also where it is not exact in binary."""
_LARGEST_LOG = 700.0
"""Of a ratio that is still a number."""
_MOST_SECONDS = 1e10
"""As in run.json."""


@dataclass(frozen=True)
class Reached:
    """When a run first reached the target; for a run that never did, how far it went without.

    Attributes:
        run: which has ended.
        there: whether it reached the target.
        epochs: the first epoch after which validation accuracy was at least the target, counted
            from 1; for a run that never got there, all of its epochs.
        updates: of the weights until then; None where the run did not record them.
        seconds: until then, of the kind of time that was asked for; None likewise.
    """

    run: Run
    there: bool
    epochs: int
    updates: float | None
    seconds: float | None


@dataclass(frozen=True)
class Median:
    """A median over runs of which some may never have reached the target.

    Attributes:
        value: the median, or a bound that it is above.
        above: whether it is only known to be above ``value``.
    """

    value: float
    above: bool = False


@dataclass(frozen=True)
class Ratio:
    """How many times as long an arm takes as its reference, the geometric mean over seeds.

    Attributes:
        value: below 1 where the arm is faster.
        interval: the t interval of the log ratios, as ratios.
        seeds: how many pairs.
    """

    value: float
    interval: Interval
    seeds: int


def default_target(results: Results, judgement: Judgement) -> float | None:
    """The highest whole percentage of validation accuracy that every complete run of the reference
    reached, of all references in a grid; without a comparison, every complete run of the study.
    None where there is none above 0.
    """
    named = {found.reference for found in judgement.comparisons} or set(results.arms)
    best = [
        max(accuracies)
        for run in results.runs
        if run.arm in named and run.complete and (accuracies := _accuracies(run))
    ]
    percent = math.floor(100 * min(best) + _ROUNDING) if best else 0
    return percent / 100 if percent else None


def reached(run: Run, target: float, kind: str) -> Reached:
    """When a run first reached a validation accuracy.

    Args:
        run: that has ended.
        target: a share of 1.
        kind: of time: see :mod:`.spent`. Processor time counts from the start of the run; else it
            is the time of training and validation.
    """
    accuracies = _accuracies(run)
    there = (k for k, accuracy in enumerate(accuracies, 1) if accuracy >= target - _ROUNDING)
    first = next(there, None)
    epochs = len(accuracies) if first is None else first
    steps, done = run.record.get("steps_done"), run.record.get("epochs_done")
    updates = epochs * steps / done if steps and done else None
    return Reached(run, first is not None, epochs, updates, _seconds_until(run, epochs, kind))


def all_reached(results: Results, arm: str, target: float, kind: str) -> list[Reached]:
    """When the runs of an arm first reached a target, those that have ended."""
    return [reached(run, target, kind) for run in results.of_arm(arm) if run.ended]


def median_of(found: Sequence[Reached], measure: str) -> Median | None:
    """The median over runs, of which those that never reached the target count as later than all
    others. Where that leaves it open, it is above the median of what all runs went through.

    Args:
        found: of the runs of an arm.
        measure: one of ``MEASURES``.

    Returns:
        None where there is no run, or the measure is not known.
    """
    values = [getattr(one, measure) for one in found]
    if not found or None in values:
        return None
    ordered = sorted(
        value if one.there else math.inf for one, value in zip(found, values, strict=True)
    )
    median = statistics.median(ordered)
    if math.isfinite(median):
        return Median(median)
    return Median(statistics.median(values), above=True)


def ratio_of(
    results: Results, compared: PairedComparison, target: float, measure: str, kind: str
) -> Ratio | None:
    """How many times as long an arm takes as its reference, over the seeds of their comparison.

    The t interval of the log ratios, at the level of the comparison. The epoch is known to one
    epoch, so their spread is taken to be at least that of rounding two counts up.

    Returns:
        None where a run of either never reached the target, where fewer than ``LEAST_SEEDS`` pairs
        have ended, or where a value is not known.
    """
    ours, theirs = (
        {
            one.run.seed: one
            for one in all_reached(results, arm, target, kind)
            if one.run.seed in compared.seeds
        }
        for arm in (compared.arm, compared.reference)
    )
    if not all(one.there for one in (*ours.values(), *theirs.values())):
        return None
    pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    values = [(getattr(one, measure), getattr(two, measure)) for one, two in pairs]
    if len(pairs) < LEAST_SEEDS or not all(one and two for one, two in values):
        return None
    logs = [math.log(one) - math.log(two) for one, two in values]
    epochs = [[one.epochs for one in side] for side in zip(*pairs, strict=True)]
    least = math.hypot(*(1 / statistics.fmean(side) for side in epochs)) / math.sqrt(12)
    found = t_interval(logs, compared.level, least_sd=least)
    if found is None:
        return None
    mean, low, high = (
        math.exp(min(log, _LARGEST_LOG)) for log in (statistics.fmean(logs), found.low, found.high)
    )
    return Ratio(mean, Interval(low, high, found.level), len(pairs))


def different_conditions(results: Results, kind: str) -> list[str]:
    """In what the conditions of the study's runs differ that decide how long they take; empty where
    their times can be compared. How many ran side by side matters to the time that passes."""
    told: dict[str, Callable[[Run], Any]] = {
        "machines": lambda run: run.record.get("hardware"),
        "versions": lambda run: run.record.get("versions"),
        **({} if kind == PROCESSOR else {
            "numbers of runs side by side": lambda run: run.record.get("side_by_side"),
        }),
    }  # fmt: skip
    runs = [run for run in results.runs if run.ended]
    return [name for name, of in told.items() if _differ(of(run) for run in runs)]


def kind_of(results: Results) -> str:
    """Processor time where every run recorded it by epoch, else the time that passed."""
    return kind_of_time(
        [run for run in results.runs if run.ended], field="processor_seconds_by_epoch"
    )


def _differ(values: Iterable[Any]) -> bool:
    return len({str(value) for value in values}) > 1


def _accuracies(run: Run) -> list[float]:
    return [float(row["accuracy"]) for row in run.history if row["split"] == "val"]


def _seconds_until(run: Run, epochs: int, kind: str) -> float | None:
    """None where the run does not tell, or says what no time can be."""
    if kind == PROCESSOR:
        known = run.record.get("processor_seconds_by_epoch", ())
        spent = list(known[:epochs]) if len(known) >= epochs else []
    else:
        rows = [row for row in run.history if row["epoch"] <= epochs]
        told = any(row["split"] == RUNNING for row in rows)
        spent = [float(row["seconds"]) for row in rows] if told else []
    return sum(spent) if spent and 0 <= sum(spent) <= _MOST_SECONDS else None
