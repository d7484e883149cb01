"""Faint marks: details that are alike in sign and strength at one place in many images of a class.

The details of different pictures average out; what was laid over all of them remains, as in the
detection of watermarks by Dekel et al. (2017), "On the effectiveness of visible watermarks". It may
be half transparent, thinner than a pixel or different in each image, such as a date.

Objects that are centred and scaled alike average to a shape as well. Then every class shows one, so
a class has to exceed the others by far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .constant import Bools
from .halves import Floats, Pixels, control, control_rank

_CLIP = (60.0, 30.0, 30.0)
_NOISE = 9.0
_LEAST = 0.7
_OVER_OTHERS = 2.5
_ERRORS = 5.0
_LARGEST = 4.3
_REGION = 0.5
_AREA = 0.6
_ALIGNED = 0.17
_TENTH = 1.645

Means = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Details:
    """Details at places: what a faint mark looks like.

    Attributes:
        region: (S, S), where.
        weights: (S, S, K), of each detail, 0 outside the region.
        strength: the largest distance from other classes' details, in standard deviations of one
            image.
    """

    region: Bools
    weights: Means
    strength: float

    def scores(self, images: Pixels) -> Floats:
        """(n,): how much of the mark an image shows: a matched filter."""
        return np.asarray(
            _details(images)[:, self.region].reshape(len(images), -1)
            @ self.weights[self.region].ravel()
        )


def coherent_marks(images: Mapping[int, Pixels]) -> tuple[dict[int, Details], bool]:
    r"""Faint marks by class, and whether objects are aligned, in which case no faint mark is told.

    The details of an image are its values minus their mean over 3 x 3 pixels, in brightness and two
    differences of colours. Let m and v be their mean and variance over the images of a class, and
    d the difference of m from that of a control (of the other classes, one in which a quarter of
    them is at most as constant), over the root of the mean of both v. The class has a mark where
    \|d\| is at least 0.7, at least 2.5 times what the other classes reach, and at least 5.5
    standard errors.

    Objects are aligned if a tenth of all places has a \|m\| / sqrt(v) of more than 0.17 in
    brightness beyond what chance gives, in the control of the classes. Photographs have 0 to 0.1,
    Fashion-MNIST and digits 0.2 and more.

    Args:
        images: (n, S, S, C) by class; at least two classes.
    """
    order = list(images)
    parts = [_moments(images[index]) for index in order]
    mean = np.stack([part[0] for part in parts])
    variance = np.stack([part[1] for part in parts])
    own = mean / np.sqrt(variance + _NOISE)
    if _aligned(own, [len(images[index]) for index in order]):
        return {}, True
    rank = control_rank(len(order) - 1)
    by_size = np.argsort(np.abs(own), axis=0)[: rank + 2]
    distances, weights = [], []
    for at in range(len(order)):
        # Without the class itself, what follows it moves up.
        early = (by_size[: rank + 1] == at).any(0)
        other = np.where(early, by_size[rank + 1], by_size[rank])[None]
        m = mean[at] - np.take_along_axis(mean, other, 0)[0]
        v = (variance[at] + np.take_along_axis(variance, other, 0)[0]) / 2 + _NOISE
        d = m / np.sqrt(v)
        # What is constant is constant here, not in the control.
        distances.append(np.where((d * own[at] > 0) & (2 * np.abs(own[at]) > np.abs(d)), d, 0))
        weights.append(m / v)
    sizes = [np.abs(d).max(-1) for d in distances]
    most = np.array([size.max() for size in sizes])
    found = {}
    for at, index in enumerate(order):
        count = len(images[index])
        usual = max(float(control(np.delete(most, at))) ** 2 - _LARGEST**2 / count, 0.0)
        needed = max(_LEAST, _OVER_OTHERS * usual**0.5, _ERRORS * (2 / count) ** 0.5)
        if most[at] < needed:
            continue
        region = sizes[at] >= max(_REGION * needed, 0.25 * most[at])
        if region.mean() <= _AREA:
            kept = np.where(region[..., None] & (distances[at] != 0), weights[at], 0)
            found[index] = Details(region, kept.astype(np.float32), float(most[at]))
    return found, False


def _aligned(own: Means, counts: list[int]) -> bool:
    """Whether details are alike in many places, in most classes."""
    tenth = np.quantile(np.abs(own[..., 0]), 0.9, axis=(1, 2))
    beyond = np.sqrt(np.maximum(tenth**2 - _TENTH**2 / np.array(counts), 0))
    return bool(control(beyond) > _ALIGNED)


def _moments(images: Pixels) -> tuple[Means, Means]:
    details = _details(images)
    return details.mean(0), details.var(0)


def _details(images: Pixels) -> Means:
    """(n, S, S, K): values minus their local mean, clipped so that no single image decides."""
    values = images.astype(np.int16)
    if images.shape[3] == 1:
        planes, scales = [values[..., 0]], [1]
    else:
        red, green, blue = values[..., 0], values[..., 1], values[..., 2]
        planes, scales = [red + green + blue, red - green, red + green - 2 * blue], [3, 1, 2]
    made = np.empty((*images.shape[:3], len(planes)), np.float32)
    for at, (plane, scale) in enumerate(zip(planes, scales, strict=True)):
        np.clip((9 * plane - _around(plane)) / np.float32(9 * scale), -_CLIP[at], _CLIP[at],
                out=made[..., at])  # fmt: skip
    return made


def _around(plane: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Sums over 3 x 3 pixels, mirrored at the border."""
    rows = np.concatenate([plane[:, :1], plane, plane[:, -1:]], 1)
    rows = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    columns = np.concatenate([rows[:, :, :1], rows, rows[:, :, -1:]], 2)
    return np.asarray(columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:])
