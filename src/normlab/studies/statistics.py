"""Differences between arms, paired over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .results import Results


@dataclass(frozen=True)
class Difference:
    """An arm's metric less the reference's, paired over seeds, as shares of 1.

    Attributes:
        arm, reference: which two.
        mean: of the differences.
        low, high: the t interval, None with fewer than two pairs.
        seeds: the seeds that both arms completed.
        level: of the interval.
    """

    arm: str
    reference: str
    mean: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    level: float


def paired_difference(
    results: Results,
    arm: str,
    reference: str,
    *,
    split: str = "test",
    metric: str = "accuracy",
    level: float = 0.95,
) -> Difference | None:
    """The difference with its t interval, or None if the two share no complete seed."""
    ours, theirs = (
        {run.seed: run.metric(split, metric) for run in results.of_arm(name) if run.complete}
        for name in (arm, reference)
    )
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    differences = [(ours[seed] or 0.0) - (theirs[seed] or 0.0) for seed in seeds]
    if not differences:
        return None
    half = half_width(differences, level)
    mean = statistics.fmean(differences)
    low, high = (None, None) if half is None else (mean - half, mean + half)
    return Difference(arm, reference, mean, low, high, seeds, level)


def half_width(values: Sequence[float], level: float) -> float | None:
    """Half of the t interval of a mean: t * s / sqrt(n) with n - 1 degrees of freedom."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    quantile = float(t.ppf(0.5 + level / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))
