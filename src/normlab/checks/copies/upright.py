"""Descriptors of images as they stand, for copies that were not turned.

They tell more alike images apart than :mod:`.descriptors`, which must not depend on how an image is
turned: of a small image, or of one product among a thousand of its kind, little is left once that
is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...keyed import rng
from .descriptors import Images, as_tensor, discriminant
from .thumbnails import chunks, resized

SIDE = 16
"""Side in pixels of the thumbnails that are compared."""

_TRAINED_ON = 3000
_VIEWS = 6
_CHUNK = 500
_CROP = (0.88, 1.0)
_DEGREES = 3.5
_NOISE = 0.02


def describe_upright(
    images: Images, count: int, told: Callable[[int], object] = lambda done: None
) -> tuple[Tensor, Tensor]:
    """Unit descriptors (n, d) of the images, and of their mirror images.

    Thumbnails, less their mean luma and by one contrast, are projected on the directions in which
    different images differ most relative to slightly altered copies of one image
    (:func:`.descriptors.discriminant`).

    Args:
        images: gives (k, C, S, S) opponent colours for an array of rows.
        count: how many images there are.
        told: called with how many are done.
    """
    mean, directions = discriminant(_views(images, count))
    upright: list[Tensor] = []
    mirrored: list[Tensor] = []
    for part in chunks(count, _CHUNK):
        small = resized(images(np.arange(part.start, part.stop)), SIDE)
        for found, pixels in ((upright, small), (mirrored, small.flip(-1))):
            found.append(F.normalize((_flat(pixels) - mean) @ directions, dim=1))
        told(part.stop)
    return torch.cat(upright), torch.cat(mirrored)


def _flat(pixels: Tensor) -> Tensor:
    luma = pixels[:, :1]
    contrast = luma.flatten(1).std(1)[:, None, None, None] + 0.02
    level = torch.zeros(len(pixels), pixels.shape[1], 1, 1)
    level[:, :1] = luma.mean((2, 3), keepdim=True)
    return ((pixels - level) / contrast).flatten(1)


def _views(images: Images, count: int) -> Tensor:
    """(images, views, d): a sample of the images as they are, and slightly cropped and turned."""
    draw = rng(0, "upright copies", count)
    rows = np.sort(draw.permutation(count)[:_TRAINED_ON])
    made = []
    for part in chunks(len(rows), _CHUNK):
        pixels = images(rows[part])
        n, channels = pixels.shape[:2]
        views = [resized(pixels, SIDE)]
        for _ in range(_VIEWS - 1):
            scale = draw.uniform(*_CROP, n)
            turn = draw.uniform(-1, 1, n) * math.radians(_DEGREES)
            shift = draw.uniform(-1, 1, (n, 2)) * (1 - scale)[:, None]
            cos, sin = scale * np.cos(turn), scale * np.sin(turn)
            maps = np.stack(
                [np.stack([cos, -sin, shift[:, 0]], 1), np.stack([sin, cos, shift[:, 1]], 1)], 1
            )
            grid = F.affine_grid(as_tensor(maps), [n, channels, SIDE, SIDE], align_corners=False)
            views.append(F.grid_sample(pixels, grid, padding_mode="border", align_corners=False))
        noise = [as_tensor(draw.normal(0, _NOISE, tuple(view.shape))) for view in views]
        made.append(torch.stack([_flat(v + e) for v, e in zip(views, noise, strict=True)], 1))
    return torch.cat(made)
