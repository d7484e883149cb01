"""What two images that were laid on each other have in common, in numbers.

Two photographs of similar things share an outline; copies of one photograph share everything, down
to the folds and the ground. So contrast is made equal everywhere first: the similarity of two
images is measured within small windows, with means and variances taken out (as the structure term
of Wang et al. 2004, equation 10), and every window that has details in *either* image counts. How
much an agreement means depends on the images: a striped cloth has only a few numbers that could
differ. That is measured as the effective number of independent details, the participation ratio of
the power spectrum, as in tests of correlations between autocorrelated series (Bartlett 1946).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .thumbnails import blurred

MEASURES = (
    "similarity", "worst windows", "poor windows", "correlation",
    "details", "similarity by details",
    "mean colour apart", "colours apart", "grey", "contrast",
    "brightness", "stretch", "shared", "windows",
    "broad similarity", "pixels", "similarity by pixels",
    "usual", "above usual", "a little above usual", "somewhat above usual",
    "repeats", "above repeats", "a little above repeats", "somewhat above repeats",
)  # fmt: skip
"""Names of the columns of :func:`measured` and :func:`beside_usual`."""
BESIDE = 8
"""How many of them :func:`beside_usual` adds."""

_SMOOTH, _WINDOW = 0.6, 1.5
_BROAD_SMOOTH, _BROAD_WINDOW = 1.6, 3.0
_NOISE = 0.008
_BLOCK = 8
_DETAILED = 0.15
_GREY = 0.012
_EDGE = 0.95
_LITTLE, _SOMEWHAT = 0.4, 0.8


def details_in(bands: Tensor) -> Tensor:
    """The effective number of independent details of images (n, 1, S, S), (n,).

    (sum of P)^2 / (sum of P^2), with P the power spectrum under a Hann window.
    """
    pixels = bands.float()[:, 0]
    window = torch.hann_window(pixels.shape[-1], periodic=False)
    centred = pixels - pixels.mean((1, 2), keepdim=True)
    power = torch.fft.fft2(centred * window[:, None] * window).abs().square()
    found: Tensor = power.sum((1, 2)) ** 2 / power.square().sum((1, 2)).clamp(min=1e-20)
    return found


def measured(
    image: Tensor, other: Tensor, maps: Tensor, agrees: Tensor, details: Tensor, pixels: Tensor
) -> Tensor:
    """How well pairs agree under their maps, (n, len(MEASURES) - BESIDE).

    Args:
        image: (n, C, S, S) in opponent colours, values from 0 to 1; ``other`` likewise.
        maps: (n, 2, 3): a point p of the other is at map @ (p, 1) in the image.
        agrees: (n,) the correlation of the details under the maps.
        details: (n,) the smaller of the two :func:`details_in`.
        pixels: (n,) the smaller of the two sides, in pixels of the images before they were resized.
    """
    n, _, size, _ = image.shape
    at = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = (part.flatten() for part in torch.meshgrid(at, at, indexing="ij"))
    where = (maps @ torch.stack([x, y, torch.ones_like(x)])).transpose(1, 2)
    # Corners may have been filled by a rotation; the inscribed circle of either image was not.
    shared = (where.square().sum(2) <= 1) & (x.square() + y.square() <= _EDGE)
    inside = shared.float().view(n, 1, size, size)
    where = where.view(n, size, size, 2)
    moved = F.grid_sample(image, where, padding_mode="border", align_corners=False)
    level = _level(moved[:, :1], other[:, :1], inside)
    similarity, weight = _compared(moved[:, :1], other[:, :1], inside, _SMOOTH, _WINDOW)
    broad, heavy = _compared(moved[:, :1], other[:, :1], inside, _BROAD_SMOOTH, _BROAD_WINDOW)
    area = weight.sum((1, 2, 3)).clamp(min=1e-3)
    mean = (similarity * inside).sum((1, 2, 3)) / area
    broadly = (broad * inside).sum((1, 2, 3)) / heavy.sum((1, 2, 3)).clamp(min=1e-3)
    worst, poor, windows = _windows(similarity * inside, weight)
    z = _fisher(mean)
    number = details.clamp(3, 200).log()
    side = (pixels.clamp(8, size) / size).log()
    x_scale, y_scale = maps[:, :, 0].norm(dim=1), maps[:, :, 1].norm(dim=1)
    columns = [
        z,
        worst,
        poor,
        _fisher(agrees),
        number,
        z * number,
        *_coloured(moved, other, inside, level),
        _contrast(moved[:, :1], other[:, :1], inside),
        level.log().abs(),
        (x_scale / y_scale.clamp(min=1e-4)).clamp(min=1e-4).log().abs(),
        inside.mean((1, 2, 3)),
        windows.log1p(),
        _fisher(broadly),
        side,
        z * side,
    ]
    return torch.stack(columns, 1)


def beside_usual(measures: Tensor, usual: Tensor, repeats: Tensor) -> Tensor:
    """With how well the two images agree with what is probably no copy of them.

    Dark trousers agree with many dark trousers, and a copy has to agree better than that. Stripes
    agree with themselves once they are moved by a stripe. The first steps above that are worth more
    than later ones, so two more columns of each stop growing early.

    Args:
        measures: see :func:`measured`.
        usual: (n, 2) the usual similarity of either image and others that look much like it.
        repeats: (n, 2) the similarity of either image and itself, moved.
    """
    columns = [measures]
    for beside in (usual, repeats):
        most = beside.amax(1, keepdim=True)
        above = measures[:, :1] - most
        columns += [most, above, above.clamp(max=_LITTLE), above.clamp(max=_SOMEWHAT)]
    return torch.cat(columns, 1)


def _fisher(correlation: Tensor) -> Tensor:
    return torch.atanh(correlation.clamp(-0.2, 0.995))


def _level(one: Tensor, two: Tensor, inside: Tensor) -> Tensor:
    """The ratio of the mean brightnesses (n,)."""
    points = inside.sum((1, 2, 3)).clamp(min=1)
    means = [(pixels * inside).sum((1, 2, 3)) / points for pixels in (one, two)]
    return (means[0] / means[1].clamp(min=0.02)).clamp(0.5, 2)


def _compared(
    one: Tensor, two: Tensor, inside: Tensor, smooth: float, window: float
) -> tuple[Tensor, Tensor]:
    """The similarity of small windows, and how much each counts."""
    one, two = blurred(one, smooth), blurred(two, smooth)
    within = blurred(inside, window).clamp(min=1e-3)

    def mean(values: Tensor) -> Tensor:
        return blurred(values * inside, window) / within

    mean_one, mean_two = mean(one), mean(two)
    var_one = (mean(one * one) - mean_one.square()).clamp(min=0)
    var_two = (mean(two * two) - mean_two.square()).clamp(min=0)
    common = mean(one * two) - mean_one * mean_two
    # What is fainter than the noise of compression counts for little.
    noise = _NOISE**2
    similarity = common / ((var_one + noise) * (var_two + noise)).sqrt()
    weight = torch.maximum(var_one / (var_one + noise), var_two / (var_two + noise)) * inside
    return similarity, weight


def _windows(similarity: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lowest tenth and the lowest quarter of the similarities of blocks that have details, and
    how many blocks have."""
    each = F.avg_pool2d(weight, _BLOCK).flatten(1)
    found = F.avg_pool2d(similarity, _BLOCK).flatten(1) / each.clamp(min=1e-3)
    counts = each > _DETAILED
    ordered, _ = torch.where(counts, found, torch.full_like(found, 9.0)).sort(1)
    number = counts.sum(1)

    def quantile(share: float) -> Tensor:
        place = ((number - 1).clamp(min=0) * share).long()
        value = ordered.gather(1, place[:, None])[:, 0].clamp(-1, 1)
        return torch.where(number > 0, value, torch.zeros_like(value))

    return quantile(0.1), quantile(0.25), number.float()


def _coloured(
    one: Tensor, two: Tensor, inside: Tensor, level: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """How far the mean colours and the colours are apart once brightness is equal; both 0 where one
    of the two is grey, which the third number says."""
    n = len(one)
    if one.shape[1] == 1:
        return torch.zeros(n), torch.zeros(n), torch.ones(n)
    points = inside.sum((1, 2, 3)).clamp(min=1)
    gain = level.sqrt()[:, None, None, None]
    first, second = one[:, 1:] / gain * inside, two[:, 1:] * gain * inside
    strength = [(hue.square().sum((1, 2, 3)) / points).sqrt() for hue in (first, second)]
    coloured = (torch.minimum(*strength) >= _GREY).float()
    means = (first - second).sum((2, 3)) / points[:, None]
    rest = blurred(first - second, 2.0).square().sum((1, 2, 3)) / points
    apart = means.norm(dim=1).clamp(max=0.1) * coloured
    return apart, rest.sqrt().clamp(max=0.1) * coloured, 1 - coloured


def _contrast(one: Tensor, two: Tensor, inside: Tensor) -> Tensor:
    """The absolute logarithm of the ratio of the two contrasts."""
    points = inside.sum((1, 2, 3)).clamp(min=1)
    spread = []
    for pixels in (one, two):
        mean = ((pixels * inside).sum((1, 2, 3)) / points)[:, None, None, None]
        spread.append((((pixels - mean) * inside).square().sum((1, 2, 3)) / points).sqrt() + 1e-3)
    return (spread[0] / spread[1]).log().abs()
