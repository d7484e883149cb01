"""Whether the network needs what a map points to: deletion and insertion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from ..errors import InputError
from ..keyed import rng
from ..models import in_evaluation
from .maps import check_targets, target_values
from .watching import logits_of

Values = npt.NDArray[np.float64]

RANKINGS = ("map", "random", "centre", "contrast")
"""The map and what it is compared with, see :func:`faithfulness`."""

_AT_ONCE = 64
_BLUR = 1 / 8
_CONTRAST = 1 / 16
_CENTRE = 1 / 4


@dataclass(frozen=True)
class Curves:
    """The target's probability while pixels change, for one ranking of the pixels.

    Attributes:
        probabilities: (N, steps + 1), one row per image, at the shares of :class:`Faithfulness`.
        areas: (N,), the area under each image's curve over shares from 0 to 1 (trapezoids).
    """

    probabilities: Values
    areas: Values

    @property
    def mean(self) -> Values:
        """(steps + 1,), the mean curve over the images."""
        mean: Values = self.probabilities.mean(0)
        return mean

    @property
    def area(self) -> float:
        """The mean area over the images."""
        return float(self.areas.mean())


@dataclass(frozen=True)
class Faithfulness:
    """Outcome of :func:`faithfulness`.

    Attributes:
        shares: (steps + 1,), the share of pixels that have changed, from 0 to 1.
        deletion: ranking (one of :data:`RANKINGS`) to curves; a faithful map has a SMALL area.
        insertion: ranking to curves; a faithful map has a LARGE area.
    """

    shares: Values
    deletion: Mapping[str, Curves]
    insertion: Mapping[str, Curves]


def faithfulness(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    maps: npt.NDArray[np.floating],
    steps: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Faithfulness:
    """Deletion and insertion curves of maps, and of rankings that ignore the network.

    A ranking puts the pixels of an image in order. Deletion sets the first ones to 0, the training
    split's mean in normalized units; insertion begins with the blurred image and puts the first
    ones of the image back. Both record the target's probability at shares 0, 1/steps, ..., 1 of
    the pixels. Rankings::

        map       highest value of the map first
        random    keyed by (seed, image's place in the batch)
        centre    a Gaussian around the centre: the nearest pixels first
        contrast  highest local contrast first, the standard deviation of the image under a
                  Gaussian window of size / 16 pixels, root of the sum of squares over channels:
                  it depends on the image and not on the network

    Ties are ordered by ``random``.

    Source: Petsiuk, Das & Saenko 2018, "RISE: Randomized Input Sampling for Explanation of
    Black-box Models", section 4.2 and algorithm 1. Departures: shares are fixed; the blur is a
    Gaussian of size / 8 pixels with the edge's value beyond the edge (the paper's 5 pixels at 224,
    cut at 11, leave coarse shapes visible in small images); the baselines are added here.

    The network predicts in evaluation mode and is left as it was. Memory is that of 64 images,
    whatever N and ``steps``; the network sees 8 N (steps + 1) images.

    Args:
        model: a network from (N, C, S, S) to logits (N, classes).
        x: normalized images (N, C, S, S), on the network's device, at least one.
        targets: (N,) class indices.
        maps: (N, S, S), placed on the image by :func:`normlab.explain.upsample`; signed as they
            are; the lowest evidence comes last.
        steps: number of shares after the first, at least 1.
        seed: of the random ranking.
        progress: called with the number of images done and the total.

    Raises:
        InputError: shapes that do not match, maps that are not finite, no steps.
    """
    if x.dim() != 4 or len(x) == 0 or x.shape[2] != x.shape[3]:
        raise InputError(
            f"Images must be square, of shape (N, C, S, S) with N >= 1, got {tuple(x.shape)}."
        )
    check_targets(x, targets)
    if maps.shape != (len(x), *x.shape[2:]):
        raise InputError(
            f"Maps must have the size of the images, shape {(len(x), *x.shape[2:])}, got "
            f"{maps.shape}. Use explain.upsample."
        )
    if not np.isfinite(maps).all():
        raise InputError("Maps must be finite to be ranked, got NaN or infinity.")
    if steps < 1:
        raise InputError(f"Curves need at least 1 step, got {steps}.")
    pixels = x.shape[2] * x.shape[3]
    shares = np.linspace(0, 1, steps + 1)
    counts = np.round(shares * pixels).astype(np.int64)
    deletion: dict[str, list[Values]] = {name: [] for name in RANKINGS}
    insertion: dict[str, list[Values]] = {name: [] for name in RANKINGS}
    with in_evaluation(model), torch.no_grad():
        for index, (image, target, values) in enumerate(zip(x, targets, maps, strict=True)):
            plain = image.detach().cpu().double().numpy()
            blurred = torch.from_numpy(_blur(plain, _BLUR)).to(image)
            for name, ranks in _rankings(plain, values, seed, index):
                changed = torch.from_numpy(ranks < counts[:, None, None]).to(x.device)
                deletion[name].append(
                    _probabilities(model, target, changed, torch.zeros_like(image), image)
                )
                insertion[name].append(_probabilities(model, target, changed, image, blurred))
            if progress:
                progress(index + 1, len(x))
    return Faithfulness(shares, _curves(deletion, shares), _curves(insertion, shares))


def _rankings(
    image: Values, values: npt.NDArray[np.floating], seed: int, index: int
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Name, and each pixel's rank (S, S), 0 for the first."""
    side = image.shape[-1]
    chance = rng(seed, "faithfulness", index).random(side * side)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    orders = {
        "map": values,
        "random": np.zeros_like(values),
        "centre": np.exp(-(x**2 + y**2) / (2 * (side * _CENTRE) ** 2)),
        "contrast": _contrast(image),
    }
    for name in RANKINGS:
        order = np.lexsort((chance, -orders[name].ravel()))
        ranks = np.empty(side * side, np.int64)
        ranks[order] = np.arange(side * side)
        yield name, ranks.reshape(side, side)


def _blur(image: Values, sigma: float) -> Values:
    """Each channel blurred by a Gaussian; ``sigma`` is a share of the image's side."""
    across = sigma * image.shape[-1]
    blurred: Values = gaussian_filter(image, (0, across, across), mode="nearest")
    return blurred


def _contrast(image: Values) -> Values:
    variance = _blur(image**2, _CONTRAST) - _blur(image, _CONTRAST) ** 2
    # The variance puts pixels in the same order as its root.
    contrast: Values = variance.sum(0)
    return contrast


def _probabilities(
    model: nn.Module, target: Tensor, changed: Tensor, new: Tensor, old: Tensor
) -> Values:
    """The target's probability with ``new`` where ``changed`` (steps + 1, S, S), else ``old``."""
    found = []
    for start in range(0, len(changed), _AT_ONCE):
        masks = changed[start : start + _AT_ONCE]
        logits = logits_of(model, torch.where(masks[:, None], new, old))
        found.append(target_values(logits.double().softmax(1), target.expand(len(masks))))
    probabilities: Values = torch.cat(found).cpu().numpy()
    return probabilities


def _curves(rows: Mapping[str, list[Values]], shares: Values) -> Mapping[str, Curves]:
    found = {}
    for name, of_images in rows.items():
        probabilities = np.stack(of_images)
        widths, heights = np.diff(shares), (probabilities[:, 1:] + probabilities[:, :-1]) / 2
        found[name] = Curves(probabilities, heights @ widths)
    return MappingProxyType(found)
