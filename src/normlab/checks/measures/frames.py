"""Pictures that do not fill their image: turned, sheared, shrunk or padded, on a flat colour.

A picture that was turned or padded keeps straight edges, so what is left of it in the image is
convex, and outside its edges there is only one colour, apart from compression noise: pixels are
flat if they are within 16 levels of that colour along the border, and within 24 nearer to the
picture. Let C be what spans the other pixels row by row, and H its convex hull. The image counts as
framed if

* H omits at least 0.4 % of the image, and C is at least a quarter of it,
* H exceeds C by at most 1/80 of the side, or 0.6 pixels if that is more, along the edge of H:
  (|H| - |C|) / edge,
* just inside the edge the image differs from the flat colour by 30 levels or more on average, and
  by 80 % or more of what it differs further in.

Bars are what is outside the bounding box of H. A corner is filled if H omits a corner of that box
by 1/60 of the side or more, and at least 0.8 pixels, as turning by 3 degrees does. A dark corner of
a photograph fails by its shape or its soft edge. An object on a plain background fails by its shape
if it is not convex; sets with a plain background are recognized by :func:`plain_ground`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..image_set import ImageSet

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

COLOURS = ("black", "white", "another colour")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
SIDES = ("top", "bottom", "left", "right")

_LEVELS = 16
_OTHER_LEVELS = 12
_BEYOND = 24
_REACH = 1 / 8
_LEFT_OUT = 0.004
_CORNER = 1 / 60
_CORNER_PIXELS = 0.8
_CONTENT = 0.25
_STRAIGHT = 1 / 80
_STRAIGHT_PIXELS = 0.6
_SHARP = 30
_STEP = 0.8
_EDGE = 1 / 64
_PIXELS = 1 << 20

_COMMON = 0.5
_EVERYWHERE = 0.8
_FRAMED = 0.85

# Tangents of the hull, as slopes of x against y.
_SLOPES = np.tan(np.deg2rad(np.arange(-87, 88, 3))).astype(np.float32)


@dataclass(frozen=True)
class Frames:
    """What surrounds the picture, one row per image.

    Attributes:
        colour: index into ``COLOURS`` of what surrounds it; -1 if the picture is not framed.
        corners: (n, 4), by ``CORNERS``: whether an oblique edge cuts this corner off the picture.
        bars: (n, 4), by ``SIDES``: width of the bar along this side in pixels.
        flat: (n, 3), by ``COLOURS``: whether two or more corners are flat and have this colour,
            whatever the shape inside.
    """

    colour: npt.NDArray[np.int8]
    corners: Bools
    bars: npt.NDArray[np.int16]
    flat: Bools

    @property
    def turned(self) -> Bools:
        """At least two corners are filled."""
        return np.asarray(self.corners.sum(1) >= 2)

    @property
    def padded(self) -> Bools:
        """There is a bar on at least one side, and the picture is upright."""
        return np.asarray((self.bars > 0).any(1) & ~self.turned)

    def without(self, colours: Bools) -> Frames:
        """As if pictures surrounded by these ``COLOURS`` were not framed."""
        kept = (self.colour >= 0) & ~colours[self.colour]
        return Frames(
            colour=np.where(kept, self.colour, -1).astype(np.int8),
            corners=self.corners & kept[:, None],
            bars=np.where(kept[:, None], self.bars, 0).astype(np.int16),
            flat=self.flat & ~colours,
        )


def joined(parts: Iterable[Frames]) -> Frames:
    """One below the other."""
    listed = list(parts)
    return Frames(
        *(np.concatenate([getattr(part, f.name) for part in listed]) for f in fields(Frames))
    )


def frames_of(image_set: ImageSet, rows: npt.NDArray[np.int64]) -> Frames:
    """The frames of these images of a source."""
    step = chunk(image_set.data.image_size)
    return joined(
        look(image_set.images(rows[start : start + step]))
        for start in range(0, max(len(rows), 1), step)
    )


def chunk(size: int) -> int:
    """How many images of this side to measure at once, so that memory stays small."""
    return max(_PIXELS // size**2, 1)


def look(images: Pixels) -> Frames:
    """The frames of (n, S, S, C) images."""
    count, size = images.shape[:2]
    found = Frames(
        colour=np.full(count, -1, np.int8),
        corners=np.zeros((count, 4), np.bool_),
        bars=np.zeros((count, 4), np.int16),
        flat=np.zeros((count, len(COLOURS)), np.bool_),
    )
    reaching = _reaching(images)
    flat_corners = reaching.sum(1)
    found.flat[:] = flat_corners >= 2
    rows = np.flatnonzero(reaching.any((1, 2)))
    if not len(rows):
        return found
    colour = flat_corners[rows].argmax(1)
    some = images[rows]
    fill = np.where((colour == 1)[:, None], np.uint8(255), np.uint8(0))
    fill = np.repeat(fill, images.shape[3], 1)
    other = np.flatnonzero(colour == 2)
    corner = reaching[rows[other], :, 2].argmax(1)
    fill[other] = _corner_colour(some[other], corner)

    away = _distance(some, fill)
    left, right = _extent(away > _BEYOND)
    inside = left < right
    area = np.where(inside, right - left, 0).sum(1)
    # A hull is larger still, so what is too small or too large now need not be looked at.
    likely = (area >= _CONTENT * size * size) & (area <= (1 - _LEFT_OUT) * size * size)
    rows, colour, away, area = rows[likely], colour[likely], away[likely], area[likely]
    left, right, inside = left[likely], right[likely], inside[likely]

    hull_left = np.where(inside, np.maximum(_convex(left, inside), 0), size)
    hull_right = np.where(inside, np.minimum(size - _convex(size - right, inside), size), 0)
    hull = np.maximum(hull_right - hull_left, 0).sum(1)
    slack = max(_STRAIGHT * size, _STRAIGHT_PIXELS)
    # No convex edge within the image is longer than its border.
    likely = (hull <= (1 - _LEFT_OUT) * size * size) & (hull - area <= slack * 4 * size)
    rows, colour, away, inside = rows[likely], colour[likely], away[likely], inside[likely]
    hull_left, hull_right, missing = hull_left[likely], hull_right[likely], (hull - area)[likely]

    edge, contrast, deeper = _edge(away, hull_left, hull_right)
    framed = (missing <= slack * edge) & (contrast >= np.maximum(_SHARP, _STEP * deeper))
    bars = np.stack(
        [
            inside.argmax(1),
            inside[:, ::-1].argmax(1),
            np.floor(hull_left.min(1, initial=size) + 0.5),
            size - np.ceil(hull_right.max(1, initial=0) - 0.5),
        ],
        1,
    )
    depth = np.stack(
        [
            _depth(np.where(inside[:, half], gap[:, half], 0))
            for half in (slice(None, size // 2), slice(size // 2, None))
            for gap in (
                hull_left - hull_left.min(1, keepdims=True, initial=size),
                hull_right.max(1, keepdims=True, initial=0) - hull_right,
            )
        ],
        1,
    )
    good = rows[framed]
    found.colour[good] = colour[framed]
    found.corners[good] = depth[framed] >= max(_CORNER * size, _CORNER_PIXELS)
    found.bars[good] = bars[framed]
    return found


def plain_ground(frames: Frames, labels: npt.NDArray[np.int64], classes: int) -> Bools:
    """For each of the ``COLOURS``, whether it is the plain background of the set's objects.

    It is if nearly every class has corners of this colour (two or more in at least 80 % of the
    images of each class). It also is if more than half of the classes have them in at least half of
    their images, and in the median of these classes fewer than 85 % of the images with such corners
    are framed: pictures that were turned or padded are all framed. What few classes have is not the
    background of the set.
    """
    images = np.bincount(labels, minlength=classes)
    present = images > 0
    found = np.zeros(len(COLOURS), np.bool_)
    for colour in range(len(COLOURS)):
        here = frames.flat[:, colour]
        flat = np.bincount(labels[here], minlength=classes) / np.maximum(images, 1)
        both = here & (frames.colour == colour)
        framed = np.bincount(labels[both], minlength=classes) / np.maximum(images, 1)
        common = present & (flat >= _COMMON)
        if common.any():
            everywhere = bool(flat[present].min() >= _EVERYWHERE)
            share = float(np.median(framed[common] / flat[common]))
            most = 2 * int(common.sum()) > int(present.sum())
            found[colour] = everywhere or (most and share < _FRAMED)
    return found


def _reaching(images: Pixels) -> Bools:
    """(n, 4 corners, 3 colours): flat along the border from the corner for an eighth of the side
    or more, and at least two pixels the other way.

    One of the two runs must end abruptly, except for black: a sky fades, an edge does not.
    """
    size = images.shape[1]
    least = max(3, int(_REACH * size))
    corners = np.empty((len(images), 4, 3), np.bool_)
    for corner in range(4):
        down, across = corner // 2, corner % 2
        along = images[:, -down, ::-1] if across else images[:, -down]
        aside = images[:, ::-1, -across] if down else images[:, :, -across]
        for colour, (one, two) in enumerate(zip(_runs(along), _runs(aside), strict=True)):
            length, ends = np.maximum(one[0], two[0]), one[1] | two[1]
            flat = (length >= least) & (np.minimum(one[0], two[0]) >= 2)
            corners[:, corner, colour] = flat & ends if colour else flat
    return corners


def _runs(line: Pixels) -> list[tuple[npt.NDArray[np.int64], Bools]]:
    """For each colour, how many pixels from the start of (n, S, C) are flat, and whether the run
    then ends abruptly. A run over the whole side does."""
    planes = [np.ascontiguousarray(line[..., channel]) for channel in range(line.shape[2])]
    low, high = reduce(np.minimum, planes), reduce(np.maximum, planes)
    starts = [_middle(plane[:, 0], plane[:, 1], plane[:, 2]) for plane in planes]
    away = reduce(
        np.maximum,
        [
            np.maximum(plane, start[:, None]) - np.minimum(plane, start[:, None])
            for plane, start in zip(planes, starts, strict=True)
        ],
    )
    coloured = (reduce(np.maximum, starts) > _LEVELS) & (reduce(np.minimum, starts) < 255 - _LEVELS)
    every = np.ones(len(line), np.bool_)
    size = line.shape[1]
    found = []
    for values, level, possible in (
        (high, _LEVELS, every),
        (255 - low, _LEVELS, every),
        (away, _OTHER_LEVELS, coloured),
    ):
        flat = values <= level
        run = np.where(flat.all(1), size, flat.argmin(1))
        # The pixel next to an edge may be a mixture of both sides.
        beyond = values[np.arange(len(line)), np.minimum(run + 1, size - 1)]
        ends = (run == size) | (beyond > 2 * _LEVELS)
        found.append((np.where(possible, run, 0), ends))
    return found


def _middle(a: Pixels, b: Pixels, c: Pixels) -> Pixels:
    """The median of three."""
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def _corner_colour(images: Pixels, corner: npt.NDArray[np.int64]) -> Pixels:
    """(n, C): median of the 3 x 3 pixels in this corner of each image."""
    rows = np.arange(len(images))[:, None, None]
    steps = np.arange(3)
    down = np.where((corner // 2)[:, None] > 0, -1 - steps, steps)
    across = np.where((corner % 2)[:, None] > 0, -1 - steps, steps)
    block = images[rows, down[:, :, None], across[:, None, :]]
    block = block.reshape(len(images), steps.size**2, images.shape[3])
    return np.asarray(np.median(block, axis=1)).astype(np.uint8)


def _distance(images: Pixels, fill: Pixels) -> Pixels:
    """(n, S, S): the largest difference from the colour over the channels."""
    most = np.zeros(images.shape[:3], np.uint8)
    for channel in range(images.shape[3]):
        here, colour = images[..., channel], fill[:, channel, None, None]
        np.maximum(most, np.maximum(here, colour) - np.minimum(here, colour), out=most)
    return most


def _extent(content: Bools) -> tuple[Floats, Floats]:
    """First column with content in each row, and the first after the last: (n, S) each.

    A pixel without a neighbour in its row or in its column is compression noise.
    """
    size = content.shape[2]
    across, down = np.zeros_like(content), np.zeros_like(content)
    across[:, :, 1:] |= content[:, :, :-1]
    across[:, :, :-1] |= content[:, :, 1:]
    down[:, 1:] |= content[:, :-1]
    down[:, :-1] |= content[:, 1:]
    content = content & across & down
    some = content.any(2)
    left = np.where(some, content.argmax(2), size)
    right = np.where(some, size - content[:, :, ::-1].argmax(2), 0)
    return left.astype(np.float32), right.astype(np.float32)


def _convex(border: Floats, inside: Bools) -> Floats:
    """The largest convex function of the row below the border (n, S), made of its tangents.

    For each slope the highest line below the border is found, then the highest of the lines: the
    Legendre transform twice.
    """
    rows = np.arange(border.shape[1], dtype=np.float32)
    border = np.where(inside, border, np.float32(1e6))
    convex = np.full_like(border, -1e6)
    for slope in _SLOPES:
        line = slope * rows
        np.maximum(convex, (border - line).min(1, keepdims=True) + line, out=convex)
    return convex


def _depth(gap: Floats) -> Floats:
    """How far a corner of the picture's bounding box is outside the hull, in pixels: the height of
    a triangle, from the gaps (n, h) along the rows of one half, each a step of its stairs."""
    across, down = gap.max(1), (gap > 0.5).sum(1, dtype=np.float32)
    return np.asarray((2 * gap.sum(1) - across) / np.maximum(np.hypot(across, down), 1))


def _edge(away: Pixels, left: Floats, right: Floats) -> tuple[Floats, Floats, Floats]:
    """Of the hull: length of its edge within the image in pixels, and mean distance from the flat
    colour just inside it and further in: from one to three 64ths of the side, and to five, in
    pixels at least. Nearer to the edge pixels may be mixtures of both sides."""
    size = away.shape[2]
    step = max(round(_EDGE * size), 1)
    columns = np.arange(size, dtype=np.float32) + 0.5
    outside = (columns < left[:, :, None]) | (columns > right[:, :, None])
    length = (_grown(outside) & ~outside).sum((1, 2), dtype=np.float32)
    regions = [_grown(outside, step)]
    for _ in range(2):
        regions.append(_grown(regions[-1], 2 * step))
    means = []
    for inner, outer in pairwise(regions):
        ring = outer & ~inner
        total = np.where(ring, away, 0).sum((1, 2), dtype=np.float32)
        means.append(total / np.maximum(ring.sum((1, 2), dtype=np.float32), 1))
    return length, means[0], means[1]


def _grown(region: Bools, steps: int = 1) -> Bools:
    """By this many pixels up, down, left and right."""
    for _ in range(steps):
        wider = region.copy()
        wider[:, 1:] |= region[:, :-1]
        wider[:, :-1] |= region[:, 1:]
        wider[:, :, 1:] |= region[:, :, :-1]
        wider[:, :, :-1] |= region[:, :, 1:]
        region = wider
    return region
