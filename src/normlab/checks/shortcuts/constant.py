"""Opaque marks: pixels of one colour, with a sharp edge, at one place in many images of a class.

In natural pictures no place has the same colour and an edge next to it in many images, so a small
share is enough. An edge of the object is at the same place where objects are centred, but either
its colour varies from image to image, or it is the colour of a plain ground, which is common
everywhere. The colour of a mark is rare elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from ...keyed import rng
from .halves import Floats, Pixels, control

Bools = npt.NDArray[np.bool_]

_NEAR = 12
_BEYOND = 24
_STEPS = ((0, 2), (0, -2), (2, 0), (-2, 0))
_BINS = 32
_CANDIDATE = 0.12
_BY_CHANCE = 0.04
_ERROR = 0.01
_LIFT, _LIFT_OF_SHAPES = 8, 30
_LEAST, _MOST = 0.3, 0.5
_OVER_OTHERS = 2.0
_FEW_LEVELS = 32
_OF_STRONGEST = 0.5
_AREA = 0.6
_PALETTE = 4000


@dataclass(frozen=True, eq=False)
class Colours:
    """Colours at places: what an opaque mark looks like.

    Attributes:
        region: (S, S), where.
        colours: (S, S, C), what is there.
        strength: share of the images in which a pixel of the mark and its edge were found, beyond
            the same share in other classes.
    """

    region: Bools
    colours: Pixels
    strength: float

    def scores(self, images: Pixels) -> Floats:
        """(n,): share of the region where an image has the mark's colour."""
        near = _apart(images[:, self.region], self.colours[self.region]) <= _NEAR
        return np.asarray(near.mean(1))


def constant_marks(images: Mapping[int, Pixels], *, aligned: bool) -> dict[int, Colours]:
    """Opaque marks by class.

    A pixel is a candidate if, in a share of the class's images, it is within 12 levels of one
    colour while a pixel two steps away is not within 24, and this share exceeds both chance (by a
    Chernoff bound over all pixels and classes, 1 %) and eight times the frequency of the colour
    among all pixels of the other classes. What counts is the share beyond that in other classes
    (:func:`~.halves.control`). It must be 0.3 or more, or twice the largest one in other classes if
    that is more; 0.5 always suffices. Where objects are aligned, 0.5 is required, and thirty times
    the frequency of the colour, since strokes have similar greys at one place by themselves. Images
    with fewer than 32 levels have no opaque marks: with so few, such strokes are equal by chance.

    Args:
        images: (n, S, S, C) by class; at least two classes.
        aligned: whether objects have the same place and size in all images of a class.
    """
    palettes = {index: _palette(index, own) for index, own in images.items()}
    levels = len(np.unique(np.concatenate(list(palettes.values()))))
    tests = 4 * next(iter(images.values()))[0, ..., 0].size * len(images)
    if levels < _FEW_LEVELS:
        return {}
    lift = _LIFT_OF_SHAPES if aligned else _LIFT
    looked = {index: _edges(index, images, palettes, tests, lift) for index in images}
    found = {}
    for index, edges in looked.items():
        rest = np.array([other.strongest for at, other in looked.items() if at != index])
        needed = float(np.clip(_OVER_OTHERS * control(rest), _LEAST, _MOST))
        if aligned:
            needed = _MOST
        if edges.strongest >= needed:
            mark = _mark(index, edges, images, palettes, needed)
            if mark:
                found[index] = mark
    return found


@dataclass(frozen=True, eq=False)
class _Edges:
    colours: Pixels
    shares: Floats
    excess: Floats
    """(S, S): of the strongest edge of each pixel."""

    @property
    def strongest(self) -> float:
        return float(self.excess.max(initial=0))


def _edges(
    index: int,
    images: Mapping[int, Pixels],
    palettes: Mapping[int, Pixels],
    tests: int,
    lift: float,
) -> _Edges:
    own = images[index]
    colours = _modes(own)
    near = _apart(own, colours) <= _NEAR
    edge = np.stack([_edge(own, near, colours, step) for step in _STEPS])
    least = max(_CANDIDATE, _chance(len(own), tests))
    excess = np.zeros_like(edge)
    where = np.argwhere(edge >= least)
    if len(where):
        places = where[:, 1], where[:, 2]
        common = _common(colours[places], index, palettes)
        kept = edge[tuple(where.T)] >= lift * common
        where = where[kept]
    if len(where):
        theirs = np.stack(
            [_edges_at(other, colours, where) for at, other in images.items() if at != index]
        )
        excess[tuple(where.T)] = edge[tuple(where.T)] - control(theirs)
    return _Edges(colours, near.mean(0), excess.max(0))


def _mark(
    index: int,
    edges: _Edges,
    images: Mapping[int, Pixels],
    palettes: Mapping[int, Pixels],
    needed: float,
) -> Colours | None:
    """What belongs to the strongest edges: pixels that are as constant, and connected."""
    least = _OF_STRONGEST * edges.strongest
    region = edges.shares >= least
    common = np.ones(region.shape)
    common[region] = _common(edges.colours[region], index, palettes)
    region &= edges.shares >= _LIFT / 2 * common
    theirs = np.stack(
        [
            (_apart(other[:, region], edges.colours[region]) <= _NEAR).mean(0)
            for at, other in images.items()
            if at != index
        ]
    )
    beyond = np.zeros(region.shape)
    beyond[region] = edges.shares[region] - control(theirs)
    region &= beyond >= least
    seeds = edges.excess >= min(needed, max(least, _LEAST / 2))
    region |= seeds
    parts, _ = label(region, np.ones((3, 3)))
    region = region & np.isin(parts, np.unique(parts[seeds]))
    if not region.any() or region.mean() > _AREA:
        return None
    return Colours(region, edges.colours, edges.strongest)


def _apart(images: Pixels, colours: Pixels) -> Pixels:
    """The largest difference over the channels."""
    return np.asarray((np.maximum(images, colours) - np.minimum(images, colours)).max(-1))


def _modes(images: Pixels) -> Pixels:
    """(S, S, C): the most common value of each pixel and channel, as the mean of two bins of 8."""
    count = len(images)
    flat = images.reshape(count, -1)
    width = flat.shape[1]
    codes = (flat >> 3) + np.arange(width, dtype=np.int32) * _BINS
    hits = np.bincount(codes.ravel(), minlength=width * _BINS).reshape(width, _BINS)
    both = hits.copy()
    both[:, :-1] += hits[:, 1:]
    low = (both.argmax(1) * 8).astype(np.int16)
    inside = (flat >= low) & (flat < low + 16)
    total = np.where(inside, flat, 0).sum(0, dtype=np.int64)
    mean = np.round(total / np.maximum(inside.sum(0), 1))
    return np.asarray(mean.astype(np.uint8).reshape(images.shape[1:]))


def _edge(images: Pixels, near: Bools, colours: Pixels, step: tuple[int, int]) -> Floats:
    """(S, S): share of the images with the colour here and another one two pixels on."""
    size = images.shape[1]
    here, there = zip(*(_shifted(size, by) for by in step), strict=True)
    away = _apart(images[:, there[0], there[1]], colours[here[0], here[1]]) > _BEYOND
    found = np.zeros(near.shape[1:])
    found[here[0], here[1]] = (away & near[:, here[0], here[1]]).mean(0)
    return found


def _shifted(size: int, by: int) -> tuple[slice, slice]:
    return (
        slice(max(0, -by), size - max(0, by)),
        slice(max(0, by), size - max(0, -by)),
    )


def _edges_at(
    images: Pixels, colours: Pixels, where: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Shares of the same events, at some places (k, 3): direction, row, column."""
    steps = np.array(_STEPS)[where[:, 0]]
    y, x = where[:, 1], where[:, 2]
    wanted = colours[y, x]
    near = _apart(images[:, y, x], wanted) <= _NEAR
    away = _apart(images[:, y + steps[:, 0], x + steps[:, 1]], wanted) > _BEYOND
    return np.asarray((near & away).mean(0))


def _palette(index: int, images: Pixels) -> Pixels:
    """Some pixels of a class, (k, C), drawn from all images and places."""
    flat = images.reshape(-1, images.shape[-1])
    return flat[rng(0, "palette", index).integers(0, len(flat), _PALETTE)]


def _common(colours: Pixels, index: int, palettes: Mapping[int, Pixels]) -> Floats:
    """(k,): how frequent each colour is among all pixels of the other classes."""
    others = [palette for at, palette in palettes.items() if at != index]
    pixels = np.concatenate([part[: max(_PALETTE // len(others), 1)] for part in others])
    known, which = np.unique(colours, axis=0, return_inverse=True)
    shares = np.array([(_apart(pixels, colour) <= _NEAR).mean() for colour in known])
    return np.asarray(shares[which.reshape(-1)])


def _chance(count: int, tests: int) -> float:
    """A share that chance reaches in no test: the Chernoff bound of a binomial at 0.04."""
    needed = math.log(tests / _ERROR) / count
    shares = np.linspace(_BY_CHANCE, 1, 1000)[:-1]
    apart = shares * np.log(shares / _BY_CHANCE) + (1 - shares) * np.log(
        (1 - shares) / (1 - _BY_CHANCE)
    )
    enough = shares[apart >= needed]
    return float(enough[0]) if len(enough) else 1.0
