"""Which images a gallery shows: a fixed rule, so that nobody can pick the pretty ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError, did_you_mean
from ..options import whole

Kind = Literal["right", "wrong"]
End = Literal["most", "least"]

RULE = (
    "From the images of a class that the model gets right: the most confident, the least "
    "confident, the second most, the second least, and so on. From those it gets wrong: the most "
    "confident, the second most, and so on. Confidence is the probability of the predicted class; "
    "ties are ordered by the image's name."
)


@dataclass(frozen=True)
class Chosen:
    """One image of a gallery.

    Attributes:
        row: its position in the split.
        name: the image's name inside the source.
        label: index of the true class.
        kind: whether the model that selects gets it right.
        place: 1, 2, ... among the class's images of this kind, in the order shown.
        end: whether it is among the most or the least confident.
        rank: 1, 2, ... from that end.
    """

    row: int
    name: str
    label: int
    kind: Kind
    place: int
    end: End
    rank: int


@dataclass(frozen=True)
class Selection:
    """The images of a gallery, and the classes that had fewer than asked.

    Attributes:
        classes: indices of the classes shown, in the order shown.
        images: by class, right ones before wrong ones.
        short: class index to a sentence, for classes with fewer images than asked.
    """

    classes: tuple[int, ...]
    images: tuple[Chosen, ...]
    short: dict[int, str]


def choose(
    names: Sequence[str],
    labels: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating],
    classes: Sequence[str],
    asked: Sequence[str] | None = None,
    right: int = 5,
    wrong: int = 5,
) -> Selection:
    """Select images by :data:`RULE`.

    Args:
        names: of the images of the split, (n,).
        labels: true classes, (n,).
        probabilities: of the model that selects, (n, K). The prediction is the first largest.
        classes: the K names.
        asked: names of the classes to show, in that order; None takes all.
        right: at most this many images per class that the model gets right.
        wrong: at most this many that it gets wrong.

    Raises:
        InputError: an unknown class or one named twice, numbers below 0, or both 0.
    """
    right, wrong = whole("right", right, 0), whole("wrong", wrong, 0)
    if right == wrong == 0:
        raise InputError("right and wrong are both 0, so there is nothing to show.")
    shown = _indices(asked, classes)
    predicted = probabilities.argmax(1)
    confidence = probabilities.max(1)
    images: list[Chosen] = []
    short: dict[int, str] = {}
    for label in shown:
        of_class = np.flatnonzero(labels == label)
        hit = predicted[of_class] == label
        counts = []
        kinds: tuple[tuple[Kind, npt.NDArray[np.int64], int], ...] = (
            ("right", of_class[hit], right),
            ("wrong", of_class[~hit], wrong),
        )
        for kind, rows, limit in kinds:
            most = sorted(rows.tolist(), key=lambda row: (-confidence[row], names[row]))
            least = sorted(rows.tolist(), key=lambda row: (confidence[row], names[row]))
            order = _alternating(most, least) if kind == "right" else _from_the_top(most)
            for place in range(1, min(limit, len(most)) + 1):
                row, end, rank = next(order)
                images.append(Chosen(row, str(names[row]), label, kind, place, end, rank))
            if len(most) < limit:
                counts.append(f"{len(most) or 'none'} {kind} instead of {limit}")
        if counts:
            short[label] = f"Fewer images than asked for: {', '.join(counts)}."
    return Selection(tuple(shown), tuple(images), short)


def _indices(asked: Sequence[str] | None, classes: Sequence[str]) -> list[int]:
    if asked is None:
        return list(range(len(classes)))
    if not asked:
        raise InputError("classes is empty. Name at least one class, or omit it to show all.")
    found: list[int] = []
    for name in asked:
        if name not in classes:
            raise InputError(
                f"There is no class {name!r}{did_you_mean(name, classes)}. "
                f"The classes are {', '.join(classes)}."
            )
        index = list(classes).index(name)
        if index in found:
            raise InputError(f"The class {name!r} is named twice.")
        found.append(index)
    return found


def _alternating(most: list[int], least: list[int]) -> Iterator[tuple[int, End, int]]:
    """Every row once, from both ends in turn."""
    taken: set[int] = set()
    for rank, pair in enumerate(zip(most, least, strict=True), 1):
        ends: tuple[End, End] = ("most", "least")
        for end, row in zip(ends, pair, strict=True):
            if row not in taken:
                taken.add(row)
                yield row, end, rank


def _from_the_top(most: list[int]) -> Iterator[tuple[int, End, int]]:
    for rank, row in enumerate(most, 1):
        yield row, "most", rank
