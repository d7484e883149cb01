"""How to lay one image on another.

First roughly: windows of the one, sampled in polar coordinates, are correlated along the angle with
the middle of the other and with its mirror image, for all angles at once through the Fourier
transform. Then finely: the affine map between the two is refined by the inverse compositional
algorithm (Baker and Matthews 2004, section 3.2), with means and contrasts taken out, so that
neither brightness nor contrast matters. Points are from -1 to 1 across an image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import descriptors
from .descriptors import ANGLES, RINGS

_REACH = 0.78
_WAVES = 9
_CHROMA = 0.7
_WINDOWS = [
    (scale, x, y)
    for scale, places in (
        (1.2, (-0.1, 0.1)),
        (1.0, (-0.2, 0.0, 0.2)),
        (0.8, (-0.3, 0.0, 0.3)),
        (0.64, (-0.4, 0.0, 0.4)),
    )
    for x in places
    for y in places
]
_STEP = 0.25
_DAMPING = 1e-3


def centre_spectra(images: Tensor) -> Tensor:
    """Of the middle of each image (n, C, S, S): (n, C * rings, waves), complex."""
    return _spectra(images, descriptors.polar_grid(_REACH)[None])[:, 0]


def rough(images: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation of each image with k others and their maps, best over all windows and angles.

    Args:
        images: (n, C, S, S) in opponent colours.
        centres: (n, k, C * rings, waves), the others' :func:`centre_spectra`.

    Returns:
        correlation (n, k) from -1 to 1, and maps (n, k, 2, 3): a point p of the other is at
        map @ (p, 1) in the image.
    """
    grids = torch.stack([descriptors.polar_grid(_REACH, scale, x, y) for scale, x, y in _WINDOWS])
    of_windows = _spectra(images, grids)
    n, windows = of_windows.shape[:2]
    k = centres.shape[1]
    # The conjugate is the spectrum of the mirror image.
    others = torch.cat([centres.conj(), centres], 1).resolve_conj()
    product = of_windows.permute(0, 3, 1, 2) @ others.permute(0, 3, 2, 1)
    over_angles = torch.fft.irfft(product, n=ANGLES, dim=1) * ANGLES
    best = over_angles.reshape(n, ANGLES, windows, 2, k).permute(0, 4, 1, 2, 3).flatten(2).max(2)
    return best.values, _maps(best.indices)


def _spectra(images: Tensor, grids: Tensor) -> Tensor:
    """(n, m, C * rings, waves), of unit length, so that products add up to a correlation."""
    polar = descriptors.sample(images, grids)
    area = (torch.arange(RINGS) + 0.5).view(RINGS, 1)
    share = area / area.sum() / ANGLES
    polar = polar - (polar * share).sum((3, 4), keepdim=True)
    weight = torch.ones(polar.shape[2])
    weight[1:] = _CHROMA
    polar = polar * (area / RINGS).sqrt() * weight.view(-1, 1, 1)
    waves = torch.fft.rfft(polar, dim=-1)[..., :_WAVES]
    energy = waves.abs().square()
    energy[..., 1:] *= 2
    unit: Tensor = waves / (energy.sum((2, 3, 4), keepdim=True).sqrt() + 1e-3)
    return unit.flatten(2, 3)


def _maps(index: Tensor) -> Tensor:
    """From the index of the best (angle, window, mirrored) to the affine map."""
    windows = torch.tensor(_WINDOWS)
    mirrored = index % 2
    window = (index // 2) % len(windows)
    angle = (index // (2 * len(windows))).float() * (2 * math.pi / ANGLES)
    scale, x, y = windows[window].unbind(-1)
    flip = 1.0 - 2.0 * mirrored.float()
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    return torch.stack(
        [torch.stack([cos, -sin * flip, x], -1), torch.stack([sin, cos * flip, y], -1)], -2
    )


def refine(
    image: Tensor, other: Tensor, maps: Tensor, *, points: int, reach: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Refine the affine maps; images (n, 1, S, S), maps (n, 2, 3).

    Returns:
        maps (n, 2, 3), and the correlation of the two over the points they share (n,).
    """
    plane, here = _disc(points, reach, len(image))
    x, y, _ = plane
    known = F.grid_sample(torch.cat([other, *_gradients(other)], 1), here, align_corners=False)
    known = known[:, :, 0]
    target, length = _normalized(known[:, 0])
    dx, dy = known[:, 1] / length, known[:, 2] / length
    steepest = torch.stack([dx * x, dx * y, dx, dy * x, dy * y, dy], 1)
    steepest = steepest - steepest.mean(2, keepdim=True)
    # What a change of contrast explains is not due to the map.
    steepest = steepest - (steepest @ target[..., None]) * target[:, None]
    hessian = steepest @ steepest.transpose(1, 2)
    hessian = hessian + torch.diag_embed(_DAMPING * hessian.diagonal(dim1=1, dim2=2) + 1e-6)
    solve = torch.linalg.inv(hessian) @ steepest
    for _ in range(steps):
        moved, seen = _at(image, maps, plane)
        found, _ = _normalized(moved, seen)
        error = (found - target) * seen
        delta = (solve @ error[..., None])[..., 0].clamp(-_STEP, _STEP).view(-1, 2, 3)
        maps = _composed(maps, delta)
    moved, seen = _at(image, maps, plane)
    one, _ = _normalized(moved, seen)
    two, _ = _normalized(known[:, 0], seen)
    return maps, (one * two).sum(1)


def _disc(points: int, reach: float, count: int) -> tuple[Tensor, Tensor]:
    """Points of a grid within the circle: homogeneous (3, P), and as grid_sample wants them."""
    at = torch.linspace(-reach, reach, points)
    y, x = torch.meshgrid(at, at, indexing="ij")
    inside = (x.square() + y.square() <= reach**2 * 1.02).flatten()
    x, y = x.flatten()[inside], y.flatten()[inside]
    here = torch.stack([x, y], -1).view(1, 1, -1, 2).expand(count, -1, -1, -1)
    return torch.stack([x, y, torch.ones_like(x)]), here


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Along x and y, per unit of the -1 to 1 coordinates."""
    size = images.shape[-1]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return across * (size / 4), down * (size / 4)


def _at(image: Tensor, maps: Tensor, plane: Tensor) -> tuple[Tensor, Tensor]:
    """Values (n, P) where the maps send the points, and which of these are in the image."""
    where = (maps @ plane).transpose(1, 2)
    values = F.grid_sample(image, where[:, None], padding_mode="border", align_corners=False)
    return values[:, 0, 0], (where.square().sum(2) <= 1.0).float()


def _normalized(values: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean 0 and length 1 over what is seen, 0 elsewhere; and the length before."""
    if seen is None:
        seen = torch.ones_like(values)
    mean = (values * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
    centred = (values - mean) * seen
    length = centred.norm(dim=1, keepdim=True).clamp(min=1e-4)
    return centred / length, length


def _composed(maps: Tensor, delta: Tensor) -> Tensor:
    """maps after the inverse of (identity + delta)."""
    last = torch.tensor([0.0, 0.0, 1.0]).expand(len(maps), 1, 3)
    step = torch.cat([torch.eye(2, 3) + delta, last], 1)
    whole = torch.cat([maps, last], 1)
    composed: Tensor = torch.linalg.solve(step, whole, left=False)[:, :2]
    return composed
