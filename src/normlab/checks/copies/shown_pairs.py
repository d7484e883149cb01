"""Which pairs of near copies the page shows, and what it shows of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...files import csv_text
from ...pages.images import data_uri
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from ..page.pictures import described
from .decisions import COLUMNS, written
from .groups import Copies
from .laid import laid_on

Rows = npt.NDArray[np.int64]

DOUBTFUL_SHARE = 2 / 3
"""Of the pairs shown, at most this share is in doubt if there are as many sure ones."""
_FAR = 40
"""How many times as many pairs as are wanted are searched for different ones."""
# A pair is shown in the first of these pairs of splits that its files allow.
_CROSSINGS = ((0, 2), (2, 0), (1, 2), (2, 1), (0, 1), (1, 0))


@dataclass(frozen=True, eq=False)
class Crossing:
    """Which pairs cross from one split to another.

    Attributes:
        across: (k,) whether the pair does.
        rows: (k, 2) rows that show it.
    """

    across: npt.NDArray[np.bool_]
    rows: Rows


def crossing_pairs(copies: Copies) -> Crossing:
    """Find pairs across splits. A pair stands for all files of its two images."""
    image_set, pairs, node = copies.image_set, copies.near.pairs, copies.exact.group
    first = np.full((int(node.max(initial=-1)) + 1, len(SPLITS)), -1, np.int64)
    backwards = np.argsort(image_set.names, kind="stable")[::-1]
    first[node[backwards], image_set.split[backwards]] = backwards
    one, two = first[node[pairs[:, 0]]], first[node[pairs[:, 1]]]
    rows = pairs.copy()
    across = np.zeros(len(pairs), np.bool_)
    for left, right in _CROSSINGS:
        here = ~across & (one[:, left] >= 0) & (two[:, right] >= 0)
        rows[here] = np.stack([one[here, left], two[here, right]], 1)
        across |= here
    return Crossing(across, rows)


def where(image_set: ImageSet, rows: Rows) -> list[tuple[str, int]]:
    """How many pairs are between which splits."""
    splits = np.sort(image_set.split[rows], axis=1).astype(np.int64)
    found = Counter(map(tuple, splits.tolist()))
    across = [
        (f"between {SPLIT_WORDS[SPLITS[one]]} and {SPLIT_WORDS[SPLITS[two]]}", found[one, two])
        for one, two in ((0, 2), (1, 2), (0, 1))
    ]
    within = [
        (f"within {SPLIT_WORDS[name]}", found[index, index]) for index, name in enumerate(SPLITS)
    ]
    return [*across, *within]


def choose(copies: Copies, places: Rows, rows: Rows, most: int) -> list[tuple[str, list[int]]]:
    """Of pairs, those in doubt, nearest to even chances first, and then sure ones.

    Different groups and different splits come first, so that one photograph does not fill the page.

    Args:
        copies: the pairs.
        places: those to choose from.
        rows: what shows each pair (:attr:`Crossing.rows`).
        most: how many to choose.
    """
    doubt = np.abs(copies.near.probability[places] - 0.5)
    ordered = places[np.argsort(doubt, kind="stable")]
    sure = copies.near.sure[ordered]
    doubtful, certain = ordered[~sure].tolist(), ordered[sure].tolist()
    room = max(most - len(certain), round(DOUBTFUL_SHARE * most))
    chooser = _Chooser(copies.group[rows[:, 0]], np.sort(copies.image_set.split[rows], axis=1))
    shown = chooser.take(doubtful[: _FAR * most], min(room, len(doubtful)))
    rest = chooser.take(certain[: _FAR * most], min(most - len(shown), len(certain)))

    def by_doubt(chosen: list[int]) -> list[int]:
        return sorted(chosen, key=lambda at: abs(float(copies.near.probability[at]) - 0.5))

    parts = [("In doubt", by_doubt(shown)), ("Sure", by_doubt(rest))]
    return [(words, chosen) for words, chosen in parts if chosen]


class _Chooser:
    """Takes pairs in turn, and remembers which pairs and groups were taken."""

    def __init__(self, group: Rows, splits: npt.NDArray[np.int8]) -> None:
        self.group, self.splits = group, splits
        self.taken: set[int] = set()
        self.groups: set[int] = set()

    def take(self, candidates: Sequence[int], count: int) -> list[int]:
        """The first of them, at first only as many of each pair of splits as is fair."""
        if not count:
            return []
        kinds = {place: tuple(self.splits[place].tolist()) for place in candidates}
        quota = -(-count // len(set(kinds.values())))
        of_kind: Counter[tuple[int, ...]] = Counter()
        here: list[int] = []
        for picky in (2, 1, 0):
            for place in candidates:
                if len(here) == count or place in self.taken:
                    continue
                if picky and int(self.group[place]) in self.groups:
                    continue
                if picky == 2 and of_kind[kinds[place]] == quota:
                    continue
                here.append(place)
                self.taken.add(place)
                self.groups.add(int(self.group[place]))
                of_kind[kinds[place]] += 1
        return sorted(here)


def cards(copies: Copies, places: Sequence[int], rows: Rows) -> list[dict[str, Any]]:
    """What the page shows of these pairs."""
    image_set, near = copies.image_set, copies.near
    first, second = (image_set.images(near.pairs[places, side]) for side in (0, 1))
    laid = laid_on(first, second, near.maps[places])
    return [
        {
            "first": {**described(image_set, int(rows[place, 0])), "src": data_uri(first[at])},
            "second": {**described(image_set, int(rows[place, 1])), "src": data_uri(second[at])},
            "laid": data_uri(laid[at]),
            "probability": _probability(float(near.probability[place])),
            "row": decision_row(image_set, *rows[place].tolist()),
        }
        for at, place in enumerate(places)
    ]


def decision_row(image_set: ImageSet, first: int, second: int) -> str:
    """What stands before the decision in a row of a file of decisions."""
    cells = {
        "first": str(image_set.names[first]),
        "second": str(image_set.names[second]),
        "first_content": written(int(image_set.contents[first])),
        "second_content": written(int(image_set.contents[second])),
    }
    return csv_text(COLUMNS, [cells]).partition("\n")[2].removesuffix("\n").removesuffix(",")


def _probability(value: float) -> str:
    return "above 0.99" if value > 0.99 else f"{value:.2f}"
