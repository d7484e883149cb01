"""How often the intervals of a study with folds are right, on data whose truth is known.

python benchmarks/folds_coverage.py

A population of Gaussian classes, from which each study draws a small set of its own, deals it into
folds as a study does, and trains two arms on the same images. The arms are one cheap learner on
different features of the image: some that both see, and some that each sees alone. Where the
latter are alike, the arms are equally accurate on average by symmetry. Where the second arm sees
fewer of them it is worse; by how much is measured on independent training sets of the same size.

An interval is right if it contains the difference of the arms' expected accuracies: over training
sets of this size, over images, and over what a learner draws itself.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from normlab.data.splitting import deal
from normlab.results import Results, Run
from normlab.results.statistics import Verdict, judge
from normlab.runs.rule import Rule

STUDIES = 500
IMAGES, CLASSES, VALIDATION = 300, 3, 0.15
SHARED, OWN, FEWER = 4, 4, 1
"""Features that both arms see, that each sees alone, and that a worse arm has left of its own."""
SHIFT = 0.5
"""Standard deviation of the classes' means in each feature, whose noise is 1."""
SCHEMES = ((2, 2), (3, 1), (5, 1), (5, 4), (10, 1), (10, 2))
"""Folds and repetitions."""
TRUTHS, TESTED = 2000, 300
"""Independent training sets that tell the true difference, and test images of each."""
MARGIN = 0.02
FALSE = {Verdict.BETTER, Verdict.WORSE}

Images = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Fit = Callable[[Images, Labels, Images, np.random.Generator], Labels]


def nearest_mean(x: Images, y: Labels, new: Images, drawn: np.random.Generator) -> Labels:
    """The class whose mean is nearest: stable, and the same whatever is drawn."""
    means = np.stack([x[y == label].mean(0) for label in range(CLASSES)])
    return np.asarray((new @ means.T - 0.5 * (means**2).sum(1)).argmax(1))


def nearest_neighbour(x: Images, y: Labels, new: Images, drawn: np.random.Generator) -> Labels:
    """The class of the nearest training image: each image of the training set matters."""
    return np.asarray(y[(new @ x.T - 0.5 * (x**2).sum(1)).argmax(1)])


def logistic(x: Images, y: Labels, new: Images, drawn: np.random.Generator) -> Labels:
    """Logistic regression by a few steps of SGD from drawn weights, in a drawn order."""
    weights = drawn.normal(0, 0.5, (x.shape[1] + 1, CLASSES))
    x, new = (np.hstack([part, np.ones((len(part), 1))]) for part in (x, new))
    target = np.eye(CLASSES)[y]
    for rows in np.array_split(drawn.permutation(len(x)), 12):
        scores = x[rows] @ weights
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        weights -= 0.5 * x[rows].T @ (shares - target[rows]) / len(rows)
    return np.asarray((new @ weights).argmax(1))


LEARNERS: dict[str, Fit] = {
    "nearest mean": nearest_mean,
    "nearest neighbour": nearest_neighbour,
    "logistic, 12 steps": logistic,
}


@dataclass(frozen=True)
class Population:
    """Classes in all features, and the features that each arm sees."""

    means: Images
    arms: tuple[list[int], list[int]]

    @classmethod
    def of(cls, *, equal: bool) -> Population:
        """The two arms see features that are alike, as means go; or the second sees fewer."""
        drawn = np.random.default_rng(7)
        both, own = (drawn.normal(0, SHIFT, (CLASSES, many)) for many in (SHARED, OWN))
        first = list(range(SHARED + OWN))
        left = OWN if equal else FEWER
        second = [*range(SHARED), *range(SHARED + OWN, SHARED + OWN + left)]
        return cls(np.hstack([both, own, own]), (first, second))

    def draw(self, count: int, drawn: np.random.Generator) -> tuple[Images, Labels]:
        """Images, equally many of each class."""
        labels = np.arange(count) % CLASSES
        return self.means[labels] + drawn.normal(size=(count, self.means.shape[1])), labels

    def accuracies(
        self, fit: Fit, train: tuple[Images, Labels], test: tuple[Images, Labels], seed: int
    ) -> list[float]:
        """Of both arms, which draw the same where they draw."""
        return [
            float(
                np.mean(
                    fit(train[0][:, seen], train[1], test[0][:, seen], np.random.default_rng(seed))
                    == test[1]
                )
            )
            for seen in self.arms
        ]


def sizes(folds: int) -> tuple[int, int, int]:
    """Training, validation and test images of a run."""
    tested = IMAGES // folds
    validated = round(VALIDATION * (IMAGES - tested))
    return IMAGES - tested - validated, validated, tested


def true_difference(population: Population, fit: Fit, trained: int) -> float:
    drawn = np.random.default_rng(3)
    differences = []
    for number in range(TRUTHS):
        train, test = population.draw(trained, drawn), population.draw(TESTED, drawn)
        first, second = population.accuracies(fit, train, test, number)
        differences.append(second - first)
    return float(np.mean(differences))


@cache
def dealt_into(folds: int, seed: int) -> list[Labels]:
    """Folds as a study deals them; the same for every learner."""
    names = [str(label) for label in range(CLASSES)]
    ids = np.arange(IMAGES, dtype=np.uint64)
    return deal(np.arange(IMAGES) % CLASSES, ids, names, folds, seed)


def runs_of(
    population: Population, fit: Fit, folds: int, repetitions: int, number: int
) -> Iterator[list[float]]:
    """Test accuracies of both arms, seed by seed, on a set of the study's own."""
    drawn = np.random.default_rng([number, folds])
    images, labels = population.draw(IMAGES, drawn)
    trained = sizes(folds)[0]
    for repetition in range(repetitions):
        dealt = dealt_into(folds, 1000 * number + repetition)
        for fold, tested in enumerate(dealt):
            rest = np.concatenate([rows for k, rows in enumerate(dealt) if k != fold])
            kept = drawn.permutation(rest)[:trained]
            seed = repetition * folds + fold
            yield population.accuracies(
                fit, (images[kept], labels[kept]), (images[tested], labels[tested]), seed
            )


def judged(accuracies: list[list[float]], folds: int | None, rule: Rule) -> Results:
    seeds = len(accuracies)
    runs = tuple(
        Run(arm, seed, Path(), {"status": "complete", "metrics": {"test": {"accuracy": a[k]}}}, [])
        for k, arm in enumerate(("first", "second"))
        for seed, a in enumerate(accuracies)
    )
    question = {"arms": {"first": {}, "second": {}}, "seeds": list(range(seeds))}
    data = {}
    if folds is not None:
        parts = zip(("train", "val", "test"), sizes(folds), strict=True)
        of_split = {name: [size] * folds for name, size in parts}
        data = {"folds": {"number": folds, "images": IMAGES, "counts": {}, "sizes": of_split}}
    return Results(Path(), {**question, "verdict": rule.describe()}, data,
                   ("first", "second"), runs)  # fmt: skip


def shares(
    fit: Fit, folds: int, studies: int, *, equal: bool
) -> tuple[float, dict[int, dict[str, float]]]:
    """The true difference, and by repetitions how many of the studies found what."""
    rule = Rule("first", margin=MARGIN)
    population = Population.of(equal=equal)
    truth = 0.0 if equal else true_difference(population, fit, sizes(folds)[0])
    many = [repetitions for k, repetitions in SCHEMES if k == folds]
    found: dict[int, Counter[str]] = {repetitions: Counter() for repetitions in many}
    for number in range(studies):
        reached = list(runs_of(population, fit, folds, max(many), number))
        for repetitions in many:
            part = reached[: repetitions * folds]
            corrected, plain = (
                judge(judged(part, known, rule), images=False).comparisons[0]
                for known in (folds, None)
            )
            assert corrected.interval is not None
            assert plain.interval is not None
            found[repetitions]["corrected"] += truth in corrected.interval
            found[repetitions]["uncorrected"] += truth in plain.interval
            found[repetitions][corrected.verdict] += 1
            found[repetitions][f"uncorrected {plain.verdict}"] += 1
    return truth, {r: {k: 100 * v / studies for k, v in of_r.items()} for r, of_r in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    studies = parser.parse_args().studies
    began = time.process_time()
    columns = (
        "equal arms: interval right", "uncorrected", "better or worse", "uncorrected",
        "arms that differ by", "interval right", "uncorrected", "worse", "better",
    )  # fmt: skip
    print(f"| learner | folds × repetitions | {' | '.join(columns)} |")
    print(f"| --- | --- |{' ---: |' * len(columns)}")
    for name, fit in LEARNERS.items():
        for folds in dict.fromkeys(folds for folds, _ in SCHEMES):
            _, alike = shares(fit, folds, studies, equal=True)
            truth, apart = shares(fit, folds, studies, equal=False)
            for repetitions, same in alike.items():
                other = apart[repetitions]
                false, plain = (
                    sum(same.get(f"{which}{verdict}", 0.0) for verdict in FALSE)
                    for which in ("", "uncorrected ")
                )
                held = [same["corrected"], same["uncorrected"], false, plain]
                held += [other["corrected"], other["uncorrected"]]
                held += [other.get(verdict, 0.0) for verdict in (Verdict.WORSE, Verdict.BETTER)]
                written = [f"{share:.1f} %" for share in held]
                written.insert(4, f"{100 * truth:+.1f}".replace("-", "−"))
                print(f"| {name} | {folds} × {repetitions} | {' | '.join(written)} |", flush=True)
    error = 100 * math.sqrt(0.05 * 0.95 / studies)
    print(
        f"\n{studies:,} studies of {IMAGES} images each; a share of 5 % is known to ±{error:.1f} %."
    )
    print(f"Processor time: {time.process_time() - began:.0f} s")


if __name__ == "__main__":
    main()
