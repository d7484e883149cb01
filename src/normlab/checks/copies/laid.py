"""One image laid on another, for the eye to compare the two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from .thumbnails import content_boxes

Pixels = npt.NDArray[np.uint8]

BEYOND = 128
"""Level of grey outside the first image of a pair."""


def laid_on(first: Pixels, second: Pixels, maps: npt.NDArray[np.float32]) -> Pixels:
    """Each first image resampled onto the frame of its second (bilinear), (n, S, S, C).

    A map is between the squares that are left without uniform bars
    (:func:`~.thumbnails.content_boxes`), as the search sees them. Outside the first image the
    result has the level :data:`BEYOND`.

    Args:
        first: (n, S, S, C); ``second`` likewise.
        maps: (n, 2, 3): a point p of the second is at map @ (p, 1) in the first, coordinates
            from -1 to 1 across.
    """
    count, size = first.shape[:2]
    if not count:
        return first.copy()
    # Of each box: its half side and middle in coordinates of the whole image.
    (half1, middle1), (half2, middle2) = (_boxes(images) for images in (first, second))
    at = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    points = torch.stack([x, y], -1).reshape(1, -1, 2)
    inside = (points - middle2[:, None]) / half2[:, None, None]
    affine = torch.from_numpy(np.asarray(maps, np.float64))
    moved = inside @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    grid = (moved * half1[:, None, None] + middle1[:, None]).reshape(count, size, size, 2).float()
    pixels = torch.from_numpy(first).permute(0, 3, 1, 2).float()
    sampled = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    beyond = (grid.abs() > 1).any(-1)[:, None]
    whole = torch.where(beyond, torch.tensor(float(BEYOND)), sampled).round().clamp(0, 255)
    return np.asarray(whole.permute(0, 2, 3, 1).contiguous().numpy().astype(np.uint8))


def _boxes(images: Pixels) -> tuple[torch.Tensor, torch.Tensor]:
    size = images.shape[1]
    top, left, side = torch.from_numpy(content_boxes(images)).double().unbind(1)
    middle = torch.stack([left + side / 2, top + side / 2], 1) / size * 2 - 1
    return side / size, middle
