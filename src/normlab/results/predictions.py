"""What the runs of a study predicted, image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..runs import SplitPredictions, f1
from ..seals import DamagedError
from ..splits import SPLIT_WORDS
from .folds import Folds
from .reading import Results, Run, Spread, check_split


@dataclass(frozen=True, eq=False)
class Answers:
    """The runs of a study whose predictions of a split can be compared image by image.

    With folds, a run is tested on a part of the images, and the runs of a repetition together on
    all of them. They then count as one: ``of_arm`` has the repetitions of each arm.

    Attributes:
        classes: names of the classes, in the order of the labels.
        of_arm: arm to its runs' predictions by seed (with folds, by repetition); empty for an arm
            without any. All contain the same images in the same order.
        left_out: a sentence for every complete run that is missing here, with the reason; with
            folds, for every repetition.
        folds: how many runs each entry of ``of_arm`` is of; 1 without folds.
    """

    classes: tuple[str, ...]
    of_arm: Mapping[str, Mapping[int, SplitPredictions]]
    left_out: tuple[str, ...]
    folds: int = 1

    @cached_property
    def first(self) -> SplitPredictions | None:
        """Any of them, for images and labels; None where there is none."""
        return next((p for seeds in self.of_arm.values() for p in seeds.values()), None)


@dataclass(frozen=True)
class Mistakes:
    """How the runs of one arm classified an image.

    Attributes:
        wrong: how many of them mistook it for another class.
        runs: how many of them were tested on it.
        taken_for: index of the class they most often mistook it for; among equals the one with the
            higher mean probability. None where none was wrong.
    """

    wrong: int
    runs: int
    taken_for: int | None


@dataclass(frozen=True)
class HardImage:
    """An image that runs get wrong.

    Attributes:
        name: path of the image inside the source.
        label: index of the true class.
        share: of the runs that get it wrong, with the same weight for each arm.
        probability: mean probability of the true class, with the same weight for each arm.
        taken_for: every class that runs mistook it for, with how many did, most first.
        arms: how each arm classified it.
    """

    name: str
    label: int
    share: float
    probability: float
    taken_for: tuple[tuple[int, int], ...]
    arms: Mapping[str, Mistakes]

    @property
    def wrong(self) -> int:
        """How many runs get it wrong."""
        return sum(of_arm.wrong for of_arm in self.arms.values())

    @property
    def runs(self) -> int:
        """How many runs were tested on it."""
        return sum(of_arm.runs for of_arm in self.arms.values())


def answers(results: Results, split: str = "test") -> Answers:
    """The predictions of all complete runs for a split, as far as they can be compared.

    A run is left out, with a reason, if its predictions are missing, cannot be read, or are of
    other images, labels or classes than those of the first run.

    Raises:
        DamagedError: predictions are not what a run wrote.
        InputError: there is no such split.
    """
    check_split(split)
    return results.once(("answers", split), lambda: _answers(results, split))


def _answers(results: Results, split: str) -> Answers:
    found: dict[str, dict[int, SplitPredictions]] = {arm: {} for arm in results.arms}
    left_out = []
    first: SplitPredictions | None = None
    named = tuple(str(name) for name in results.data.get("classes", ()))
    folds = results.folds
    if folds is None:
        parts, stated = _by_run(results, split), results.data.get("images", {}).get(split)
    elif split == "test":
        parts, stated = _by_repetition(results, folds), folds.images
    else:
        said = f"With folds, no two runs of an arm have the same {SPLIT_WORDS[split]} images."
        return Answers(named, found, (said,), folds.number)
    for arm, number, own in parts:
        place = f"{arm}, {'seed' if folds is None else 'repetition'} {number + (folds is not None)}"
        if isinstance(own, str):
            left_out.append(f"{place}: {own.rstrip('.')}.")
            continue
        classes = len(named) or (first or own).probabilities.shape[1]
        if stated is not None and len(own.labels) != stated:
            said = (
                f"its predictions are of {len(own.labels):,} images, and data.json has {stated:,}"
            )
        elif own.probabilities.shape[1] != classes:
            said = f"its predictions are of {own.probabilities.shape[1]} classes, not {classes}"
        elif first is not None and not (
            np.array_equal(own.images, first.images) and np.array_equal(own.labels, first.labels)
        ):
            said = "its predictions are of other images than those of the first run"
        else:
            first = first or own
            found[arm][number] = own
            continue
        left_out.append(f"{place}: {said}.")
    if not named and first is not None:
        named = tuple(str(index) for index in range(first.probabilities.shape[1]))
    return Answers(named, found, tuple(left_out), 1 if folds is None else folds.number)


_Part = tuple[str, int, SplitPredictions | str]
"""Arm, seed or repetition, and predictions, or why there are none."""


def _by_run(results: Results, split: str) -> Iterator[_Part]:
    """The predictions of every complete run."""
    for run in results.runs:
        if run.complete:
            yield run.arm, run.seed, _read(run, split)


def _by_repetition(results: Results, folds: Folds) -> Iterator[_Part]:
    """The test predictions of every repetition, in the order of the images' names. One that lost a
    run lacks images, so it is left out."""
    for arm in results.arms:
        complete = {run.seed: run for run in results.of_arm(arm) if run.complete}
        for number, seeds in folds.repetitions(results.question["seeds"]).items():
            lacking = sum(seed not in complete for seed in seeds)
            if lacking == len(seeds):
                continue
            if lacking:
                are = "is" if lacking == 1 else "are"
                yield arm, number, f"{lacking} of its {len(seeds)} runs {are} without a model"
                continue
            read = [_read(complete[seed], "test") for seed in seeds]
            failed = [one for one in read if isinstance(one, str)]
            yield (
                arm,
                number,
                failed[0] if failed else _pooled([one for one in read if not isinstance(one, str)]),
            )


def _read(run: Run, split: str) -> SplitPredictions | str:
    """A run's predictions, or why there are none.

    Raises:
        DamagedError: they are not what the run wrote.
    """
    try:
        return run.predictions(split)
    except DamagedError:
        raise
    except InputError as error:
        return str(error)


def _pooled(parts: Sequence[SplitPredictions]) -> SplitPredictions | str:
    """The predictions of several runs of different images as one."""
    if len({part.probabilities.shape[1] for part in parts}) > 1:
        return "its runs predict different numbers of classes"
    images = np.concatenate([part.images for part in parts])
    order = np.argsort(images, kind="stable")
    if len(np.unique(images)) < len(images):
        return "two of its runs were tested on the same image"
    return SplitPredictions(
        images[order],
        np.concatenate([part.labels for part in parts])[order],
        np.concatenate([part.probabilities for part in parts])[order],
    )


def confusion(results: Results, arm: str, split: str = "test") -> npt.NDArray[np.int64]:
    """Confusion matrix of an arm: (K, K), rows the true class, columns the predicted one.

    Counts are summed over the arm's seeds, so that every image counts once per run (with folds,
    once per repetition). All zero where no run of the arm has predictions.

    Raises:
        InputError: there is no such arm or split.
    """
    found, seeds = _of_arm(results, arm, split)
    classes = len(found.classes)
    total = np.zeros((classes, classes), dtype=np.int64)
    for own in seeds.values():
        total += f1.confusion(own.labels, own.predicted, classes)
    return total


def class_f1(results: Results, arm: str, split: str = "test") -> list[Spread | None]:
    """F1 of every class of the data set, over the seeds of an arm.

    With folds it is over the repetitions, whose runs together predict all images.

    F1 is 2 TP / (2 TP + FP + FN); 0 where a run neither has nor predicts the class, as in macro
    F1, which is the plain mean of a run's values here. None where no run has predictions.

    Raises:
        InputError: there is no such arm or split.
    """
    found, seeds = _of_arm(results, arm, split)
    classes = len(found.classes)
    values = [f1.class_f1(own.labels, own.predicted, classes) for own in seeds.values()]
    return [Spread.of([float(of_run[index]) for of_run in values]) for index in range(classes)]


def hardest(results: Results, split: str = "test", count: int = 24) -> list[HardImage]:
    """The images that most arms get wrong, at most ``count`` of them.

    Ordered by the share of runs that get an image wrong, where each arm has the same weight
    however many seeds it has; then by the mean probability of the true class, the lowest first;
    then by name.
    Images that no run gets wrong are left out.

    Raises:
        InputError: there is no such split.
    """
    found = answers(results, split)
    of_arm = {arm: list(seeds.values()) for arm, seeds in found.of_arm.items() if seeds}
    first = found.first
    if first is None:
        return []
    share = np.mean([np.mean([p.wrong for p in runs], axis=0) for runs in of_arm.values()], axis=0)
    given = {arm: _mean_probabilities(runs) for arm, runs in of_arm.items()}
    every = np.arange(len(first.labels))
    probability = np.mean([of_one[every, first.labels] for of_one in given.values()], axis=0)
    order = np.lexsort((first.images, probability, -share))
    return [
        HardImage(
            str(first.images[row]),
            int(first.labels[row]),
            float(share[row]),
            float(probability[row]),
            _taken_for([run for runs in of_arm.values() for run in runs], row),
            {arm: _mistakes(runs, given[arm], row) for arm, runs in of_arm.items()},
        )
        for row in order[:count].tolist()
        if share[row] > 0
    ]


def _of_arm(
    results: Results, arm: str, split: str
) -> tuple[Answers, Mapping[int, SplitPredictions]]:
    found = answers(results, split)
    if arm not in found.of_arm:
        raise InputError(f"The study has no arm {arm!r}. Its arms are {', '.join(results.arms)}.")
    return found, found.of_arm[arm]


def _mean_probabilities(runs: Sequence[SplitPredictions]) -> npt.NDArray[np.float64]:
    total = np.zeros(runs[0].probabilities.shape)
    for run in runs:
        total += run.probabilities
    return total / len(runs)


def _taken_for(runs: Sequence[SplitPredictions], row: int) -> tuple[tuple[int, int], ...]:
    counted = Counter(int(run.predicted[row]) for run in runs if run.wrong[row])
    return tuple(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def _mistakes(
    runs: Sequence[SplitPredictions], given: npt.NDArray[np.float64], row: int
) -> Mistakes:
    answered = [int(run.predicted[row]) for run in runs if run.wrong[row]]
    if not answered:
        return Mistakes(0, len(runs), None)
    taken = max(sorted(set(answered)), key=lambda one: (answered.count(one), given[row, one]))
    return Mistakes(len(answered), len(runs), taken)
