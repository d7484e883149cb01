"""What runs took: processor time where it was recorded, else the time that passed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .reading import Results, Run
from .statistics import Judgement

PROCESSOR, PASSED = "processor time", "running time"


@dataclass(frozen=True)
class Spared:
    """Runs that were not made because their arms were decided.

    Attributes:
        arms: which, in the order asked.
        runs: how many.
        seconds: what they would have taken, if each had taken as long as the runs of its arm on
            average; None where the runs of an arm do not tell.
        kind: of time.
    """

    arms: tuple[str, ...]
    runs: int
    seconds: float | None
    kind: str


def kind_of_time(runs: Sequence[Run], field: str = "processor_seconds") -> str:
    """Processor time where all of these runs recorded it and none computed on a GPU; else the time
    that training and validation took."""
    told = all(
        field in run.record and (run.record.get("config") or {}).get("device", "cpu") == "cpu"
        for run in runs
    )
    return PROCESSOR if told and runs else PASSED


def seconds_of(run: Run, kind: str) -> float | None:
    """What a run took in all, of this kind of time; None where its record does not tell."""
    found = run.record.get("processor_seconds" if kind == PROCESSOR else "seconds")
    return None if found is None else float(found)


def mean_seconds(results: Results, arm: str, kind: str) -> float | None:
    """What the runs of an arm took on average, those that diverged included."""
    found = [seconds_of(run, kind) for run in results.of_arm(arm) if run.ended]
    told = [seconds for seconds in found if seconds is not None]
    return statistics.fmean(told) if told else None


def spared(results: Results, judgement: Judgement) -> Spared | None:
    """What was not run: arms that no open comparison needs have fewer seeds than others. None
    where every arm has the same, or seeds are not added look by look.

    Without this, all arms would have gone on until every comparison was decided.
    """
    _, most = results.seed_counts
    open_ones = {
        arm
        for found in judgement.comparisons
        if not found.settled
        for arm in (found.arm, found.reference)
    }
    left = {arm: most - len(results.seeds_of(arm)) for arm in results.arms if arm not in open_ones}
    left = {arm: count for arm, count in left.items() if count}
    if not left or not judgement.rule.looks:
        return None
    kind = kind_of_time([run for run in results.runs if run.ended])
    each = {arm: mean_seconds(results, arm, kind) for arm in left}
    told = [count * each[arm] for arm, count in left.items() if each[arm] is not None]  # type: ignore[operator]
    seconds = sum(told) if len(told) == len(left) else None
    return Spared(tuple(left), sum(left.values()), seconds, kind)
