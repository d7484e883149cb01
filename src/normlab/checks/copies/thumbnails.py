"""Small versions of all images without uniform borders, as the search for copies sees them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Pixels = npt.NDArray[np.uint8]

COARSE = 32
"""Side in pixels at which candidates are found and roughly aligned."""
FINE = 64
"""Side in pixels at which the details of a pair are judged."""

_FLAT = 12
_LEAST_LEFT = 0.6

# Luma, red against green, yellow against blue; each about equally strong in photographs.
_OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))


def content_boxes(images: Pixels) -> npt.NDArray[np.int64]:
    """The square in the middle of what is left once uniform bars at the borders are removed.

    A row or column at a border belongs to a bar while the values of all the bar's pixels differ by
    at most 12 levels. If less than 60 % of either side would be left, nothing is removed: such an
    image is an object on a plain background.

    Returns:
        (n, 3): top, left and side in pixels.
    """
    count, size = images.shape[:2]
    boxes = np.tile(np.array([0, 0, size]), (count, 1))
    lines = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    barred = np.flatnonzero(
        np.any([(_spread(line, 1) <= _FLAT) for line in lines], axis=0) if count else []
    )
    if not len(barred):
        return boxes
    chosen = images[barred]
    edges = []
    for axis, backwards in ((2, False), (2, True), (1, False), (1, True)):
        # Bounds of each line, then of all lines from the border to it, channel by channel.
        low = chosen.min(axis=axis).astype(np.int16)
        high = chosen.max(axis=axis).astype(np.int16)
        if backwards:
            low, high = low[:, ::-1], high[:, ::-1]
        spread = np.maximum.accumulate(high, 1) - np.minimum.accumulate(low, 1)
        edges.append((spread.max(axis=2) <= _FLAT).sum(axis=1))
    # One line more than is flat: compression rings along the edge of a bar.
    top, bottom, left, right = (np.where(lines > 0, lines + 1, 0) for lines in edges)
    height, width = size - top - bottom, size - left - right
    side = np.minimum(height, width)
    keep = (side >= _LEAST_LEFT * size) & (side < size)
    boxes[barred[keep]] = np.stack(
        [top + (height - side) // 2, left + (width - side) // 2, side], axis=1
    )[keep]
    return boxes


def _spread(lines: Pixels, axis: int) -> npt.NDArray[np.int16]:
    """Largest minus smallest value along an axis, in the channel where that is largest."""
    apart = lines.max(axis=axis).astype(np.int16) - lines.min(axis=axis)
    return np.asarray(apart.max(axis=-1))


def squares(images: Pixels, boxes: npt.NDArray[np.int64], size: int) -> Tensor:
    """Those squares at ``size`` pixels a side, (n, C, size, size), values from 0 to 1."""
    side = images.shape[1]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    made = resized(pixels, size)
    for row in np.flatnonzero(boxes[:, 2] < side).tolist():
        top, left, length = boxes[row].tolist()
        made[row] = resized(
            pixels[row : row + 1, :, top : top + length, left : left + length], size
        )[0]
    return made


def resized(pixels: Tensor, size: int) -> Tensor:
    """(n, C, S, S) at another size, antialiased."""
    side = pixels.shape[-1]
    if side == size:
        return pixels.clone()
    if side % size == 0:
        return F.avg_pool2d(pixels, side // size)
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)


def luma(pixels: Tensor) -> Tensor:
    """(n, 1, S, S): the mean of the channels."""
    return pixels.mean(1, keepdim=True)


def opponent(pixels: Tensor) -> Tensor:
    """(n, 3, S, S) in opponent colours; (n, 1, S, S) stays as it is."""
    if pixels.shape[1] == 1:
        return pixels
    return torch.einsum("dc,nchw->ndhw", torch.tensor(_OPPONENT), pixels)


def band(pixels: Tensor, fine: float, coarse: float) -> Tensor:
    """Details between two scales: blurred by ``fine`` minus blurred by ``coarse`` (sigmas, px)."""
    pixels = _mirrored_outside(pixels)
    return blurred(pixels, fine) - blurred(pixels, coarse)


def _mirrored_outside(pixels: Tensor) -> Tensor:
    """Beyond the inscribed circle, the mirror image of what is within.

    Corners that a rotation filled would otherwise be blurred into the circle.
    """
    size = pixels.shape[-1]
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    radius = (x.square() + y.square()).sqrt()
    edge = 1 - 1 / size
    factor = torch.where(radius > edge, (2 * edge - radius) / radius, torch.ones_like(radius))
    grid = (torch.stack([x, y], -1) * factor[..., None]).expand(len(pixels), -1, -1, -1)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def blurred(pixels: Tensor, sigma: float) -> Tensor:
    """Blurred by a Gaussian of this many pixels; edges are continued outwards.

    As products with banded matrices, which is many times faster on a CPU than grouped convolutions
    of one channel.
    """
    down, across = (_blur_along(side, sigma) for side in pixels.shape[-2:])
    return down @ pixels @ across.T


@lru_cache(maxsize=32)
def _blur_along(side: int, sigma: float) -> Tensor:
    """(side, side): rows of weights, one per blurred pixel; those beyond an edge go to it."""
    reach = int(3 * sigma + 0.5)
    at = torch.arange(-reach, reach + 1)
    weights = torch.exp(-at.double().square() / (2 * sigma * sigma))
    weights = (weights / weights.sum()).float()
    taken = (torch.arange(side)[:, None] + at).clamp(0, side - 1)
    return torch.zeros(side, side).scatter_add_(1, taken, weights.expand(side, -1))


def chunks(count: int, size: int) -> Sequence[slice]:
    """Slices that cover ``range(count)``."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
