"""What the finite number of test images leaves undecided, with the trained models fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...keyed import rng
from ...runs import SplitPredictions
from ..predictions import answers
from ..reading import Results, Run
from .differences import Difference
from .intervals import Interval

RESAMPLES = 10_000


@dataclass(frozen=True)
class ImageNoise:
    """A difference in accuracy over other images of the same kind, with the models fixed.

    Attributes:
        interval: percentile bootstrap over images.
        variance: of the bootstrap distribution, shares of 1 squared.
        images: how many images.
    """

    interval: Interval
    variance: float
    images: int


def image_noise(
    results: Results, difference: Difference, *, split: str = "test", level: float = 0.95
) -> ImageNoise | None:
    """Bootstrap a difference over images: paired on images, stratified by class, seeds fixed.

    For each image the arm's correctness minus the reference's, averaged over the seeds; images are
    drawn with replacement within their class (Efron and Tibshirani 1993, chapters 8 and 13).
    An image takes few values (k right runs more or fewer), so drawing images is drawing counts of
    these values from a multinomial, which gives the same distribution and takes no memory.

    Args:
        results: of a study.
        difference: which arms and seeds.
        split: of which images.
        level: of the interval.

    Returns:
        None where predictions of one of the runs are missing; also with folds, whose runs are
        tested on different images, so that the spread over seeds has this noise already.
    """
    if results.folds is not None:
        return None
    found = answers(results, split)
    ours, theirs = (found.of_arm[name] for name in (difference.arm, difference.reference))
    if found.first is None or not set(difference.seeds) <= ours.keys() & theirs.keys():
        return None
    labels = found.first.labels
    gained = np.zeros(len(labels), dtype=np.int64)
    for seed in difference.seeds:
        gained += theirs[seed].wrong.astype(np.int64) - ours[seed].wrong
    drawn = _resampled(gained, labels, difference) / (len(labels) * len(difference.seeds))
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return ImageNoise(
        Interval(float(low), float(high), level), float(drawn.var(ddof=1)), len(labels)
    )


@dataclass(frozen=True)
class McNemar:
    """Two checkpoints on the same images.

    This compares two trained models. It says nothing about the methods that trained them: another
    seed is another model.

    Attributes:
        first, second: names of the runs.
        split: of the images.
        images: how many both predicted.
        only_first, only_second: images that one gets right and the other gets wrong.
        p_value: exact, two-sided: how often a count this uneven or more would occur if both were
            alone in being right equally often.
    """

    first: str
    second: str
    split: str
    images: int
    only_first: int
    only_second: int
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second, as a share of 1."""
        return (self.only_first - self.only_second) / self.images


def mcnemar(first: Run, second: Run, *, split: str = "test") -> McNemar:
    """The exact test of McNemar (1947) of two checkpoints: a binomial test of the images that only
    one of them gets right.

    Raises:
        InputError: a run is not complete or has no predictions, or the two predicted different
            images.
    """
    from scipy.stats import binomtest

    found = []
    for run in (first, second):
        if not run.complete:
            how = "is not complete" if not run.ended else run.status
            raise InputError(f"{run.folder} cannot be tested: the run {how}. Give another.")
        try:
            found.append(run.predictions(split))
        except InputError as error:
            raise InputError(f"{run.folder} cannot be tested: {error}") from error
    ours, theirs = found
    gained = _gained(ours, theirs, second)
    alone = int((gained > 0).sum()), int((gained < 0).sum())
    p_value = float(binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0
    names = [f"{run.arm} seed {run.seed}" for run in (first, second)]
    return McNemar(names[0], names[1], split, len(gained), *alone, p_value)


def _gained(ours: SplitPredictions, theirs: SplitPredictions, other: Run) -> npt.NDArray[np.int64]:
    """For each image 1 where ours alone is right, -1 where theirs alone is, else 0."""
    folds = ((other.record.get("data") or {}).get("config") or {}).get("folds")
    with_folds = ": with folds, two runs with the same seed" if folds else ""
    one, two = (np.argsort(found.images, kind="stable") for found in (ours, theirs))
    if not (
        np.array_equal(ours.images[one], theirs.images[two])
        and np.array_equal(ours.labels[one], theirs.labels[two])
    ):
        raise InputError(
            f"{other.folder} predicted other images than the first run. McNemar's test needs two "
            f"models on the same images{with_folds}."
        )
    return theirs.wrong[two].astype(np.int64) - ours.wrong[one]


def _resampled(
    gained: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], difference: Difference
) -> npt.NDArray[np.float64]:
    """Sums over resampled images, one per resample."""
    generator = rng("bootstrap", difference.arm, difference.reference)
    sums = np.zeros(RESAMPLES)
    for label in np.unique(labels):
        values, counts = np.unique(gained[labels == label], return_counts=True)
        size = int(counts.sum())
        sums += generator.multinomial(size, counts / size, RESAMPLES) @ values
    return sums
