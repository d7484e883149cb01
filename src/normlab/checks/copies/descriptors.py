"""A few numbers per image that a copy shares, however it was turned, mirrored or brightened.

The middle of an image is sampled in polar coordinates, where turning the image by any angle is a
shift along the angle and mirroring it is a reversal. Magnitudes of the Fourier coefficients along
the angle change with neither, and nor do the real parts of products of coefficients of two rings or
channels (the phase of one relative to the other). Colour histograms are invariant too. The
variation that remains, by a crop, a zoom or a different brightness, is learned: copies of the set's
own images are made, and the discriminant directions are kept in which different images differ most
relative to copies of one image (Fisher 1936; Rao 1948).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...keyed import rng

RINGS, ANGLES = 8, 32
DIMENSIONS = 64

_REACH = 0.95
_MAGNITUDES = 7
_PHASES = 4
_BINS = 8
_TRAINED_ON = 4000
_VIEWS = 6
_CHUNK = 500
_RIDGE = 0.05
_ZOOM = (0.6, 1.05)
_GAIN = (0.8, 1.2)
_NOISE = 0.01

Images = Callable[[np.ndarray], Tensor]


def polar_grid(reach: float, scale: float = 1.0, x: float = 0.0, y: float = 0.0) -> Tensor:
    """Points (rings, angles, 2) around (x, y), from -1 to 1 across the image."""
    radius = scale * reach * (torch.arange(RINGS) + 0.5) / RINGS
    angle = torch.arange(ANGLES) / ANGLES * 2 * math.pi
    at = torch.stack([radius[:, None] * torch.cos(angle), radius[:, None] * torch.sin(angle)], -1)
    return at + torch.tensor([x, y])


def sample(images: Tensor, grids: Tensor) -> Tensor:
    """Bilinear samples (n, m, C, rings, angles) at m polar grids, the same for all images."""
    count, channels = images.shape[:2]
    m = len(grids)
    at = grids.reshape(1, m * RINGS, ANGLES, 2).expand(count, -1, -1, -1)
    found = F.grid_sample(images, at, padding_mode="border", align_corners=False)
    return found.reshape(count, channels, m, RINGS, ANGLES).permute(0, 2, 1, 3, 4)


def invariants(polar: Tensor) -> Tensor:
    """(n, C, rings, angles) to (n, d): unchanged by any shift or reversal along the angle."""
    luma = polar[:, :1]
    scale = luma.flatten(1).std(1)[:, None, None, None] + 0.02
    # The mean of luma carries brightness; means of the other channels carry the hue.
    mean = torch.zeros(len(polar), polar.shape[1], 1, 1)
    mean[:, :1] = luma.mean((2, 3), keepdim=True)
    polar = (polar - mean) / scale
    waves = torch.fft.rfft(polar, dim=-1)[..., :_MAGNITUDES] / ANGLES
    low = waves[..., 1:_PHASES]
    across_channels = (low[:, 1:] * low[:, :1].conj()).real
    across_rings = (low[:, :1, 1:] * low[:, :1, :-1].conj()).real
    parts = [
        waves[..., 0].real,
        waves[..., 1:].abs().sqrt(),
        _root(across_channels),
        _root(across_rings),
        *(
            _histogram(polar[:, channel], *((2.2, 0.4) if channel == 0 else (1.0, 0.2)))
            for channel in range(polar.shape[1])
        ),
    ]
    return torch.cat([part.flatten(1) for part in parts], 1)


def _root(values: Tensor) -> Tensor:
    return values.sign() * values.abs().sqrt()


def _histogram(values: Tensor, reach: float, width: float) -> Tensor:
    """Soft histogram over the disc, each ring by its area; square roots, as Hellinger's distance
    takes them."""
    area = ((torch.arange(RINGS) + 0.5) / RINGS).view(1, RINGS, 1, 1)
    centres = torch.linspace(-reach, reach, _BINS)
    near = torch.exp(-((values[..., None] - centres) / width).square() / 2)
    return (near * area).mean((1, 2)).sqrt()


def describe_all(
    images: Images, count: int, told: Callable[[int], object] = lambda done: None
) -> Tensor:
    """Unit descriptors (n, d): the cosine of two is high if one may be a copy of the other.

    Args:
        images: gives (k, C, S, S) opponent colours for an array of rows.
        count: how many images there are.
        told: called with how many are done.
    """
    grid = polar_grid(_REACH)[None]
    found = []
    for start in range(0, count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, count))
        found.append(invariants(sample(images(rows), grid)[:, 0]))
        told(int(rows[-1]) + 1)
    described = torch.cat(found)
    mean, directions = discriminant(_views(images, count))
    return F.normalize((described - mean) @ directions, dim=1)


def _views(images: Images, count: int) -> Tensor:
    """Invariants (images, views, d) of altered copies of a sample of the images."""
    draw = rng(0, "copies", count)
    rows = np.sort(draw.permutation(count)[:_TRAINED_ON])
    grid = polar_grid(_REACH)[None]
    made = []
    for start in range(0, len(rows), _CHUNK):
        pixels = images(rows[start : start + _CHUNK])
        n = len(pixels)
        views = []
        for _ in range(_VIEWS):
            scale = draw.uniform(*_ZOOM, n)
            free = np.maximum(1 - _REACH * scale, 0)
            at = draw.uniform(-1, 1, (n, 2)) * free[:, None]
            grids = grid * as_tensor(scale).view(-1, 1, 1, 1) + as_tensor(at).view(-1, 1, 1, 2)
            polar = F.grid_sample(pixels, grids, padding_mode="border", align_corners=False)
            gain = as_tensor(draw.uniform(*_GAIN, n)).view(-1, 1, 1, 1)
            noise = as_tensor(draw.normal(0, _NOISE, tuple(polar.shape)))
            views.append(invariants(polar * gain + noise))
        made.append(torch.stack(views, 1))
    return torch.cat(made)


def as_tensor(values: np.ndarray) -> Tensor:
    """In single precision."""
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def discriminant(views: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and directions (d, k), scaled so that copies of one image vary by 1 along each.

    Args:
        views: (images, views, d), numbers of several copies of each image.
    """
    views = views.double()
    of_image = views.mean(1, keepdim=True)
    within = (views - of_image).flatten(0, 1)
    inner = within.T @ within / len(within)
    mean = of_image.mean((0, 1))
    apart = of_image[:, 0] - mean
    outer = apart.T @ apart / len(apart)
    size = len(inner)
    inner += _RIDGE * torch.diag(inner.diagonal()) + 1e-6 * torch.eye(size, dtype=inner.dtype)
    root = torch.linalg.inv(torch.linalg.cholesky(inner))
    _, vectors = torch.linalg.eigh(root @ outer @ root.T)
    directions = root.T @ vectors[:, -min(DIMENSIONS, size) :]
    return mean.float(), directions.float()


def neighbours(
    described: Tensor,
    k: int,
    told: Callable[[int], object] = lambda done: None,
    *,
    asked: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """The k nearest others of images by cosine, nearest first: rows (n, k).

    Args:
        described: unit descriptors of all images.
        k: how many; fewer if there are not as many others.
        told: called with how many are done.
        asked: the descriptors to look for, if they are not those of the images themselves.
        rows: which images they are of; by default all.
    """
    count = len(described)
    rows = torch.arange(count) if rows is None else rows
    asked = described if asked is None else asked
    k = max(min(k, count - 1), 0)
    found = [torch.empty(0, k, dtype=torch.int64)]
    # So that the block of cosines stays below 80 MB.
    step = max(64, min(1024, 20_000_000 // max(count, 1)))
    for start in range(0, len(rows), step):
        part = asked[start : start + step] @ described.T
        part[torch.arange(len(part)), rows[start : start + step]] = -2
        found.append(part.topk(k, 1).indices)
        told(min(start + step, len(rows)))
    return torch.cat(found)
