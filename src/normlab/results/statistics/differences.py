"""Differences between arms, paired over seeds."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from ...runs import METRICS
from ...runs.rule import LEAST_SEEDS
from ..reading import Results
from .intervals import Interval, t_interval


@dataclass(frozen=True)
class Difference:
    """An arm's metric minus the reference's, seed by seed, as shares of 1.

    Attributes:
        arm, reference: which two.
        seeds: the seeds that both arms completed.
        values: the difference of each of them.
        grain: the step in which the metric moves: one image of the split. Differences of a few
            seeds may be equal although their spread is not 0, so intervals use the spread of
            rounding to this step (``grain / sqrt(6)``, two accuracies of variance grain²/12 each)
            as a minimum.
        largest: the largest difference that there can be: 1 for a metric that is a share.
        shared: what the variance of the mean has beyond that of independent seeds, in units of
            sd², see :func:`~normlab.results.statistics.t_interval`: 0, or with folds the test
            images of a run per training image.
        folds: how many there are; 1 where all runs have the same splits.
    """

    arm: str
    reference: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    grain: float = 0.0
    largest: float = math.inf
    shared: float = 0.0
    folds: int = 1

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over the seeds, not below that of rounding; None for one."""
        if len(self.values) < 2:
            return None
        return max(statistics.stdev(self.values), self.least_sd)

    @property
    def least_sd(self) -> float:
        """The spread that the grain alone causes."""
        return self.grain / math.sqrt(6)

    def interval(self, level: float) -> Interval | None:
        """The possible part of the t interval of the mean; None with fewer than ``LEAST_SEEDS``
        seeds."""
        if len(self.seeds) < LEAST_SEEDS:
            return None
        found = t_interval(self.values, level, least_sd=self.least_sd, shared=self.shared)
        return None if found is None else found.within(self.largest)


def paired_difference(
    results: Results,
    arm: str,
    reference: str,
    *,
    split: str = "test",
    metric: str = "accuracy",
    seeds: tuple[int, ...] | None = None,
) -> Difference | None:
    """The difference of two arms, or None if they share no completed seed.

    Args:
        results: of a study.
        arm, reference: names of two of its arms.
        split, metric: of the table.
        seeds: only these; None takes all.
    """
    ours, theirs = (
        {
            run.seed: value
            for run in results.of_arm(name)
            if (value := run.metric(split, metric)) is not None
            and (seeds is None or run.seed in seeds)
        }
        for name in (arm, reference)
    )
    shared = tuple(sorted(ours.keys() & theirs.keys()))
    if not shared:
        return None
    folds = results.folds
    images = results.data.get("images", {}).get(split)
    if folds is not None:
        images = min(folds.sizes[split])
    grain = 1 / images if images and metric in ("accuracy", "micro_f1") else 0.0
    return Difference(
        arm,
        reference,
        shared,
        tuple(ours[seed] - theirs[seed] for seed in shared),
        grain,
        1.0 if metric in METRICS else math.inf,
        *(() if folds is None else (folds.shared(split), folds.number)),
    )
