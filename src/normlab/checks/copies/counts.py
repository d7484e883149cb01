"""How many files of a split are copies: facts, an expected count, and how far it may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...pages.findings import Level
from ...splits import SPLITS
from ..image_set import ImageSet
from .exact import NEGLIGIBLE, SPLIT_PAIRS
from .links import Links, facts
from .probability import SURE

SURE_PRECISION = 0.97
"""At least this share of sure pairs is right on kinds of images that the search was not adjusted
to: the lower end of the interval that the bench measures (docs/data-checks.md). Lower bounds take
every probability times this."""

_Z = 1.959964


@dataclass(frozen=True)
class Copied:
    """Files of a split that are copies of files in others.

    Attributes:
        split: the split whose numbers are affected.
        others: the splits it shares images with.
        total: files of ``split``.
        exact: files that are exact copies; a fact.
        confirmed: further files that a person confirmed; a fact.
        likely: further files that may be copies.
        expected: files that are copies, on average over what the probabilities say.
        lower: at least this many are, with a probability of 97.5 %; ``upper`` at most.
    """

    split: str
    others: tuple[str, ...]
    total: int
    exact: int
    confirmed: int
    likely: int
    expected: float
    lower: int
    upper: int

    @property
    def number(self) -> int:
        """The expected count, to be read."""
        return round(self.expected)

    @property
    def share(self) -> float:
        """The expected share of the split's files; from 0 to 1."""
        return self.expected / self.total if self.total else 0.0

    @property
    def certain(self) -> int:
        """Files that are copies as a matter of fact."""
        return self.exact + self.confirmed

    @property
    def level(self) -> Level:
        """How bad it is: only facts, or a lower bound, can invalidate numbers."""
        if not self.certain and not self.likely:
            return Level.FINE
        beyond = max(self.certain, self.lower) > NEGLIGIBLE * self.total
        return Level.INVALID if beyond else Level.LOOK

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "split": self.split,
            "others": list(self.others),
            "of": self.total,
            "exact": self.exact,
            "confirmed_by_hand": self.confirmed,
            "likely": self.likely,
            "expected": round(self.expected, 2),
            "lower": self.lower,
            "upper": self.upper,
            "share": self.share,
        }


def copied_between(image_set: ImageSet, links: Links) -> tuple[Copied, ...]:
    """What validation has from training, and test from both.

    The probability that a file is a copy is the highest of the pairs that make it one. A file whose
    photograph is in another split through other pairs has that of a sure pair. Files that hang
    together count as right or wrong together, which makes the bounds wider than independent ones.
    """
    certain = facts(links)
    return tuple(_copied(image_set, links, certain, split, others) for split, others in SPLIT_PAIRS)


def _copied(
    image_set: ImageSet, links: Links, certain: Rows, split: str, others: tuple[str, ...]
) -> Copied:
    here = image_set.split == SPLITS.index(split)
    there = np.isin(image_set.split, [SPLITS.index(name) for name in others])
    exact = _present(links.node, there)[links.node[here]]
    fact = _present(certain, there)[certain[here]] & ~exact
    chance = _chances(links, certain, there)[links.node[here]]
    grouped = _present(links.photograph, there)[links.photograph[here]]
    chance = np.where(grouped, np.maximum(chance, SURE), chance)
    chance[exact | fact] = 0
    found = int(exact.sum()), int(fact.sum())
    lower, upper = _bounds(chance, links.together[here])
    return Copied(
        split=split,
        others=others,
        total=int(here.sum()),
        exact=found[0],
        confirmed=found[1],
        likely=int((chance > 0).sum()),
        expected=sum(found) + float(chance.sum()),
        lower=sum(found) + lower,
        upper=sum(found) + upper,
    )


Rows = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


def _present(number: Rows, there: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """By number: whether a row there has it."""
    found = np.zeros(int(number.max(initial=-1)) + 1, np.bool_)
    found[number[there]] = True
    return found


def _chances(links: Links, certain: Rows, there: npt.NDArray[np.bool_]) -> Shares:
    """By node: the highest probability of a pair with an image there."""
    open_ = links.linked & ~links.confirmed
    pairs, probability = links.pairs[open_], links.probability[open_]
    count = int(links.node.max(initial=-1)) + 1
    count = max(count, int(links.pairs.max(initial=-1)) + 1)
    # Through a confirmed copy, an image is where the other one is.
    of_node = np.zeros(count, np.int64)
    of_node[links.node] = certain
    inside = np.zeros(count, np.bool_)
    inside[links.node] = True
    by_fact = _present(certain, there)
    present = inside & by_fact[of_node]
    chance = np.zeros(count)
    for one, two in ((0, 1), (1, 0)):
        crossing = present[pairs[:, two]]
        np.maximum.at(chance, pairs[crossing, one], probability[crossing])
    # What is known of one of several confirmed copies holds for all of them.
    best = np.zeros(len(by_fact))
    np.maximum.at(best, of_node[inside], chance[inside])
    return np.where(inside, best[of_node], 0.0)


def _bounds(chance: Shares, together: Rows) -> tuple[int, int]:
    """Bounds of a count of files of which each is a copy with its probability (95 %).

    The files of a group stand or fall together: with n files of mean probability p, its share of
    the variance is n^2 p (1 - p). The sum is taken as normal.
    """
    likely = np.flatnonzero(chance > 0)
    if not len(likely):
        return 0, 0
    _, group = np.unique(together[likely], return_inverse=True)
    files = np.bincount(group).astype(np.float64)

    def end(values: Shares, sign: int) -> float:
        mean = np.bincount(group, weights=values) / files
        spread = math.sqrt(float((files**2 * mean * (1 - mean)).sum()))
        return float((files * mean).sum()) + sign * _Z * spread

    lower = math.floor(end(chance[likely] * SURE_PRECISION, -1))
    upper = math.ceil(end(chance[likely], 1))
    return max(lower, 0), min(upper, len(likely))
