"""Every arm of a study compared with its reference: differences, verdicts, what would decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ...runs import DIVERGED
from ...runs.rule import LEAST_SEEDS, Rule, pairs
from ..reading import Results, how_lost
from .differences import Difference, paired_difference
from .images import ImageNoise, image_noise
from .intervals import Interval, quantile, simultaneous_level
from .planning import (
    seeds_for_equivalence,
    seeds_to_hold,
    seeds_to_see,
    spread_range,
    visible_difference,
)
from .verdict import Verdict, verdict


@dataclass(frozen=True)
class PairedComparison:
    """An arm compared with its reference.

    All differences are shares of 1, positive where the arm is higher.

    Attributes:
        arm, reference: the two arms.
        difference: over the seeds that both completed; None if there is no such seed.
        level: of the simultaneous interval.
        unadjusted_level: of the interval for this comparison alone; the error is still divided
            over looks.
        margin: of the verdict.
        seeds: those that decide: the seeds of the first look at which the comparison was settled,
            or else of the last one that both arms have reached; all of them without looks.
        later: seeds that both arms have run besides.
        lost: seeds that ended without a model, of the arm and of the reference.
        ends: what became of them in a word, of the arm and of the reference.
        correlation: of the two arms' values over seeds, None with fewer than three.
        images: the noise of the finite test split, where predictions were kept.
    """

    arm: str
    reference: str
    difference: Difference | None
    level: float
    unadjusted_level: float
    margin: float
    lost: tuple[tuple[int, ...], tuple[int, ...]]
    correlation: float | None
    images: ImageNoise | None
    ends: tuple[str, str] = (DIVERGED, DIVERGED)
    seeds: tuple[int, ...] = ()
    later: tuple[int, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """The simultaneous t interval, which decides the verdict; None with fewer than
        ``LEAST_SEEDS`` seeds."""
        return None if self.difference is None else self.difference.interval(self.level)

    @property
    def unadjusted(self) -> Interval | None:
        """The t interval for this comparison alone; None with fewer than ``LEAST_SEEDS``."""
        return None if self.difference is None else self.difference.interval(self.unadjusted_level)

    @property
    def verdict(self) -> Verdict:
        """By the rule, for these test images, or with folds for images of their kind; withheld
        where runs without a model could reverse it.

        An arm that lost runs is not called better than or equivalent to a reference, and no arm is
        called worse than or equivalent to a reference that lost runs: the seeds that are left
        were selected by not failing.
        """
        found = self._by_interval
        ours, theirs = self.lost
        if (ours and found in (Verdict.BETTER, Verdict.EQUIVALENT)) or (
            theirs and found in (Verdict.WORSE, Verdict.EQUIVALENT)
        ):
            return Verdict.WITHHELD
        return found

    @property
    def withheld(self) -> Verdict | None:
        """The verdict that is withheld because of runs without a model; None where none is."""
        return self._by_interval if self.verdict is Verdict.WITHHELD else None

    @property
    def general(self) -> bool:
        """Whether the interval of the verdict is for other images of the same kind, as with folds,
        and not for the test images alone."""
        return self.difference is not None and self.difference.folds > 1

    @property
    def elsewhere(self) -> Verdict:
        """The verdict for other test images of the same kind: that of the interval ``both``, or
        with folds that of the interval itself. No verdict where there is none for these images or
        where no predictions were kept."""
        if self.general and self.verdict.decided:
            return self.verdict
        if not self.verdict.decided or self.both is None:
            return Verdict.NONE
        return verdict(self.both, self.margin)

    @property
    def local(self) -> bool:
        """Whether the verdict is known to hold for these test images alone."""
        return self.verdict.decided and self.both is not None and self.elsewhere != self.verdict

    @property
    def settled(self) -> bool:
        """Whether more seeds would decide nothing: there is a verdict, or it is withheld, or an
        arm has no run with a model."""
        return self._by_interval.decided or (self.difference is None and any(self.lost))

    @property
    def _by_interval(self) -> Verdict:
        return verdict(self.interval, self.margin)

    @property
    def _enough(self) -> Difference | None:
        """The difference, where it is over enough seeds for an interval."""
        if self.difference is None or len(self.difference.seeds) < LEAST_SEEDS:
            return None
        return self.difference

    @property
    def both(self) -> Interval | None:
        """For other seeds and other images of the same kind: the two variances add.

        ``mean ± t sqrt(s²/n + v)``, where v is the bootstrap variance over images. t has the n - 1
        degrees of freedom of the seeds: cautious, as v is known far better than s², and so never
        narrower than the interval over seeds alone.
        """
        found = self._enough
        if self.images is None or found is None or found.sd is None:
            return None
        n = len(found.values)
        half = quantile(self.level, n - 1) * math.sqrt(found.sd**2 / n + self.images.variance)
        return Interval(found.mean - half, found.mean + half, self.level).within(found.largest)

    @property
    def seeds_to_hold(self) -> int | None:
        """With how many seeds the verdict would hold for other test images too, if mean and spread
        stay as they are; None where no number would do, or nothing is to be decided."""
        found = self._enough
        if self.images is None or found is None or found.sd is None:
            return None
        return seeds_to_hold(found.mean, found.sd, self.images.variance, self.margin, self.level)

    @cached_property
    def visible(self) -> float | None:
        """The smallest difference that this many seeds with this spread find in four out of five
        studies; infinite where that is larger than any difference can be."""
        found = self._enough
        if found is None or found.sd is None:
            return None
        size = visible_difference(len(found.values), found.sd, self.level, shared=found.shared)
        return size if size <= found.largest else math.inf

    @cached_property
    def seeds_to_see_margin(self) -> tuple[int | None, int | None] | None:
        """The range of the number of seeds that would find a difference of the margin."""
        return self.seeds_to_see(self.margin)

    def seeds_to_see(self, difference: float) -> tuple[int | None, int | None] | None:
        """The range of the number of seeds that would find ``difference``, as far as these seeds
        tell the spread (95 %). None means more than anybody runs; with folds, that it takes more
        images."""
        found, bounds = self._enough, self._spreads
        if found is None or bounds is None:
            return None
        more: dict[str, Any] = {"shared": found.shared, "folds": found.folds}
        low, high = (seeds_to_see(difference, sd, self.level, **more) for sd in bounds)
        return low, high

    @cached_property
    def seeds_for_equivalence(self) -> tuple[int | None, int | None] | None:
        """The range of the number of seeds that would find two arms without a difference
        equivalent. None as for :meth:`seeds_to_see`."""
        found, bounds = self._enough, self._spreads
        if found is None or bounds is None:
            return None
        more: dict[str, Any] = {"shared": found.shared, "folds": found.folds}
        low, high = (seeds_for_equivalence(self.margin, sd, self.level, **more) for sd in bounds)
        return low, high

    @property
    def _spreads(self) -> tuple[float, float] | None:
        found = self._enough
        if found is None or found.sd is None:
            return None
        return spread_range(found.sd, len(found.values))


@dataclass(frozen=True)
class Judgement:
    """All comparisons of a study.

    Attributes:
        rule: as stated before the runs.
        comparisons: in the order of the arms.
        split, metric: what was compared.
    """

    rule: Rule
    comparisons: tuple[PairedComparison, ...]
    split: str
    metric: str

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the comparison that has the most."""
        return max((found.seeds for found in self.comparisons), key=len, default=())

    @property
    def settled(self) -> bool:
        """Whether more seeds would decide nothing."""
        return all(comparison.settled for comparison in self.comparisons)

    @property
    def wanted(self) -> dict[str, int]:
        """Arms to the number of seeds that they need for the next look at a comparison of theirs
        that is not settled; empty where no look is left, or none is needed."""
        found: dict[str, int] = {}
        for comparison in self.comparisons:
            more = next((look for look in self.rule.looks if look > len(comparison.seeds)), None)
            if not comparison.settled and more is not None:
                for arm in (comparison.arm, comparison.reference):
                    found[arm] = max(more, found.get(arm, 0))
        return found

    def of(self, arm: str) -> PairedComparison | None:
        """The comparison of an arm; None for the reference."""
        return next((found for found in self.comparisons if found.arm == arm), None)

    @property
    def error_bound(self) -> float:
        """The largest share of studies with a false better or worse somewhere, with what was
        judged before the rule was stated: every such time adds the whole error again."""
        rule = self.rule
        times = 1 + len(rule.looked) + len(rule.grown) + len(rule.edited)
        return min(1.0, (1 - self.rule.level) * times)


def judge(
    results: Results,
    rule: Rule | None = None,
    *,
    compared: Sequence[tuple[str, str]] | None = None,
    split: str = "test",
    metric: str = "accuracy",
    images: bool = True,
) -> Judgement:
    """Compare every arm of a study with its reference.

    The error is divided over all comparisons that were asked, including those that a diverged arm
    leaves without a number, and over the looks if there are any. If looks were fixed, a comparison
    is that of the first look at which it was settled, whatever seeds its arms have run since, or
    else of the last look that both arms have reached. With the error divided over all of them, the
    intervals of all comparisons hold at all looks simultaneously, so an arm may stop at its own.

    Args:
        results: of a study.
        rule: by default the one that study.toml states.
        compared: (reference, arm) pairs, by default those of the rule.
        split, metric: what to compare.
        images: whether to estimate the noise of the finite split too (needs predictions).

    Raises:
        InputError: the reference is not an arm of the study.
    """
    rule = rule or Rule.read(results.question)
    if compared is None:
        compared = pairs({arm: results.question["arms"][arm] for arm in results.arms},
                         rule.reference)  # fmt: skip
    looks = max(1, len(rule.looks))
    level = simultaneous_level(rule.level, max(1, len(compared)), looks)
    alone = simultaneous_level(rule.level, 1, looks)
    found = []
    for reference, arm in compared:
        made = None
        for seeds, later in _looks(results, rule, (arm, reference)):
            difference = paired_difference(
                results, arm, reference, split=split, metric=metric, seeds=seeds
            )
            made = PairedComparison(
                arm,
                reference,
                difference,
                level,
                alone,
                rule.margin,
                (_lost(results, arm, seeds), _lost(results, reference, seeds)),
                None,
                None,
                (how_lost(results.of_arm(arm)), how_lost(results.of_arm(reference))),
                seeds,
                later,
            )
            if made.settled:
                break
        assert made is not None
        found.append(_completed(results, made, split, metric, images=images))
    return Judgement(rule, tuple(found), split, metric)


def every_pair(results: Results) -> list[tuple[str, str]]:
    """All pairs of arms, for ``judge(results, compared=every_pair(results))``."""
    return list(itertools.combinations(results.arms, 2))


def _looks(
    results: Results, rule: Rule, arms: tuple[str, str]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The seeds of each look that two arms have reached, and those that they have run besides; all
    seeds where no looks were fixed."""
    seeds = tuple(sorted(results.question["seeds"]))
    if not rule.looks:
        yield seeds, ()
        return
    ended = [{run.seed for run in results.of_arm(arm) if run.ended} for arm in arms]
    whole = 0
    while whole < len(seeds) and all(seeds[whole] in of_arm for of_arm in ended):
        whole += 1
    reached = [look for look in sorted(rule.looks) if look <= whole]
    for look in reached or [0]:
        yield seeds[:look], seeds[look:whole]


def _completed(
    results: Results, found: PairedComparison, split: str, metric: str, *, images: bool
) -> PairedComparison:
    """With what takes longer than the verdict."""
    difference = found.difference
    noise = None
    enough = difference is not None and len(difference.seeds) >= LEAST_SEEDS
    if images and enough and difference is not None and metric == "accuracy":
        noise = image_noise(results, difference, split=split, level=found.level)
    correlation = _correlation(results, found.arm, found.reference, difference, split, metric)
    return replace(found, correlation=correlation, images=noise)


def _lost(results: Results, arm: str, seeds: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(run.seed for run in results.of_arm(arm) if run.seed in seeds and run.lost)


def _correlation(
    results: Results,
    arm: str,
    reference: str,
    difference: Difference | None,
    split: str,
    metric: str,
) -> float | None:
    if difference is None or len(difference.seeds) < LEAST_SEEDS:
        return None
    ours, theirs = (
        [run.metric(split, metric) for run in results.of_arm(name) if run.seed in difference.seeds]
        for name in (arm, reference)
    )
    if len(set(ours)) == 1 or len(set(theirs)) == 1:
        return None
    return float(np.corrcoef(np.array(ours, float), np.array(theirs, float))[0, 1])
