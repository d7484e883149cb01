"""Two halves of each class: something is found on one and judged on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...keyed import rng
from ..image_set import ImageSet
from ..measures.frames import chunk
from ..proportions import wilson
from .balanced import Rows, first_of_each

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]

SIDE = 64
"""Images are looked at in at most this many pixels a side."""
_MOST = 20_000
_MOST_OF_A_CLASS = 400
_LEAST = 10
_FEW = 0.25


@dataclass(frozen=True)
class Halves:
    """Rows of different images, by class; a class with fewer than 20 images has none.

    Attributes:
        find: for finding something.
        judge: for judging what was found.
    """

    find: tuple[Rows, ...]
    judge: tuple[Rows, ...]

    @property
    def classes(self) -> list[int]:
        """Those that have images."""
        return [index for index, rows in enumerate(self.find) if len(rows)]


@dataclass(frozen=True)
class Judged:
    """How many images of a class have something, counted on images that did not help to find it.

    Attributes:
        share: of the class's images that have it; ``low`` and ``high`` its 95 % interval (Wilson).
        others: share of the other classes' images; ``others_high`` the upper end of its interval.
        images: how many images of the class were counted.
    """

    share: float
    low: float
    high: float
    others: float
    others_high: float
    images: int

    @property
    def difference(self) -> float:
        """What the class surely has beyond the others: from the near ends of both intervals."""
        return self.low - self.others_high

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "share": self.share,
            "interval": [self.low, self.high],
            "others": self.others,
            "others_at_most": self.others_high,
            "images": self.images,
        }


def halves(image_set: ImageSet) -> Halves:
    """Up to 400 different images of each class, 20,000 in all, in two halves.

    Files with equal pixels count once, and a group (:attr:`.ImageSet.group_names`) is in one half.
    """
    draw = rng(0, "halves")
    order = draw.permutation(len(image_set))
    _, first = np.unique(image_set.digests[order], return_index=True)
    order = order[np.sort(first)]
    classes = len(image_set.classes)
    each = max(min(_MOST // max(classes, 1), _MOST_OF_A_CLASS), 2 * _LEAST)
    rows = first_of_each(order, image_set.labels, each)
    side = np.arange(len(rows)) % 2
    if image_set.group_names:
        names = np.array(image_set.group_names)[rows]
        known, which = np.unique(names, return_inverse=True)
        side = draw.permutation(len(known))[which] % 2
    labels = image_set.labels[rows]
    parts: list[tuple[Rows, Rows]] = []
    for index in range(classes):
        mine = labels == index
        find, judge = rows[mine & (side == 0)], rows[mine & (side == 1)]
        enough = min(len(find), len(judge)) >= _LEAST
        parts.append((find, judge) if enough else (rows[:0], rows[:0]))
    return Halves(tuple(find for find, _ in parts), tuple(judge for _, judge in parts))


def looked_at(image_set: ImageSet, rows: Rows) -> Pixels:
    """These images with at most 64 pixels a side, each the mean of what it covers."""
    size = image_set.data.image_size
    if size <= SIDE:
        return image_set.images(rows)
    step = chunk(size)
    made = np.empty((len(rows), SIDE, SIDE, image_set.data.channels), np.uint8)
    for start in range(0, len(rows), step):
        for at, image in enumerate(image_set.images(rows[start : start + step]), start):
            flat = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
            small = flat.resize((SIDE, SIDE), Image.Resampling.BOX)
            made[at] = np.asarray(small).reshape(SIDE, SIDE, -1)
    return made


def control(values: Floats) -> Floats:
    """Of values by class (k, ...), one that at least a quarter of the classes do not exceed.

    Other classes may have what a class has, so neither their mean nor their median will do.
    """
    return np.asarray(np.sort(values, axis=0)[control_rank(len(values))])


def control_rank(classes: int) -> int:
    """The place of :func:`control` among sorted values, from 0."""
    return int(_FEW * (classes - 1))


def cut(own: Floats, others: Sequence[Floats], slack: float = 0.0) -> tuple[float, float]:
    """The threshold that separates a class's scores from those of others best.

    Returns the threshold and the distance there: the share of the class at or above it minus the
    same share of the others, each class counting alike (Youden's index).

    Args:
        own: scores of the class.
        others: scores of the other classes.
        slack: the highest threshold counts whose distance is at most this much below the best.
    """
    weights = np.concatenate([np.full(len(part), 1 / (len(part) * len(others))) for part in others])
    rest = np.concatenate(others)
    order = np.argsort(-rest)
    values = np.unique(own)
    mine = 1 - np.searchsorted(np.sort(own), values) / len(own)
    total = np.concatenate([[0.0], np.cumsum(weights[order])])
    theirs = total[np.searchsorted(-rest[order], -values, side="right")]
    apart = mine - theirs
    best = int(np.flatnonzero(apart >= apart.max() - slack)[-1])
    return float(values[best]), float(apart[best])


def judged(has: Sequence[npt.NDArray[np.bool_]], index: int, carriers: Sequence[int]) -> Judged:
    """Count what images have.

    Args:
        has: by class, whether each judged image has it; empty for a class without images.
        index: the class.
        carriers: classes that have something of this kind; where there are further classes, these
            are not among the others.
    """
    rest = [at for at, found in enumerate(has) if at != index and len(found)]
    plain = [at for at in rest if at not in carriers] or rest
    others = float(np.mean([has[at].mean() for at in plain]))
    own = has[index]
    share = float(own.mean())
    low, high = wilson(share, len(own))
    _, most = wilson(others, sum(len(has[at]) for at in plain))
    return Judged(share, low, high, others, most, len(own))
