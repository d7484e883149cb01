"""Whether a map depends on what the network has learned: cascading randomization."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from ..errors import InputError
from ..keyed import key
from ..models import ResNet, followers, outside_sites
from .maps import explain_batch
from .placing import upsample

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RandomizationStep:
    """One step of the cascade.

    Attributes:
        layer: module path of the layer randomized last; "" before the first.
        maps: (N, h, w) float32, the network's maps at this step, as :func:`explain_batch` gives
            them.
        spearman: (N,), rank correlation of the absolute placed maps with those before the first
            step, over the pixels of an image; NaN if either is constant.
        pearson: (N,), correlation of the signed placed maps, likewise.
    """

    layer: str
    maps: npt.NDArray[np.float32]
    spearman: Values
    pearson: Values

    @property
    def mean_spearman(self) -> float:
        """Mean over the images that have a value; NaN if none has."""
        return _mean(self.spearman)

    @property
    def mean_pearson(self) -> float:
        """Mean over the images that have a value; NaN if none has."""
        return _mean(self.pearson)


def randomization_check(
    model: ResNet,
    x: Tensor,
    targets: Tensor,
    method: str = "grad-cam",
    sites: tuple[str, ...] | None = None,
    seed: int = 0,
) -> tuple[RandomizationStep, ...]:
    """Maps of the network while its layers are randomized from the classifier down.

    Layers are the classifier and the convolutions, the topmost first; a convolution is randomized
    together with its normalization. A randomized layer is as at the start of training with
    another seed: new weights, scale 1, shift 0, running statistics of mean 0 and variance 1. So
    are all layers above it. A map that does not change does not show what was learned. Edges in
    the image, for example, can stay visible in it. Where a method starts with a classifier of
    zeros (Fixup), all maps are zero from the first step on, and correlations are NaN.

    Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.1 (cascading
    randomization) and 4.1 (rank correlation with absolute values). Departures: a convolution and
    its normalization are one layer; Pearson's correlation of the signed maps replaces rank
    correlation without absolute values, SSIM and HOG.

    Everything happens on a copy of the network; torch's generators are left alone.

    Args:
        model: the trained network.
        x: normalized images (N, C, S, S), on the network's device.
        targets: (N,) class indices.
        method: as in :func:`explain_batch`.
        sites: as in :func:`explain_batch`.
        seed: of the draws.

    Returns:
        The trained network's step, then one per layer: 6n + 3 in all (two more with projections).

    Raises:
        InputError: as :func:`explain_batch`; images that are not square.
    """
    if x.dim() == 4 and x.shape[2] != x.shape[3]:
        raise InputError(f"Images must be square, got {tuple(x.shape[2:])} pixels.")
    steps: list[RandomizationStep] = []
    trained: tuple[Values, Values] | None = None
    for layer, randomized in _cascade(model, seed):
        maps = explain_batch(randomized, x, targets, method, sites).cpu().float().numpy()
        signed = upsample(maps, x.shape[-1]).astype(np.float64).reshape(len(x), -1)
        ranks: Values = rankdata(np.abs(signed), axis=1)
        trained = trained or (ranks, signed)
        steps.append(
            RandomizationStep(
                layer, maps, _correlation(ranks, trained[0]), _correlation(signed, trained[1])
            )
        )
    return tuple(steps)


def _cascade(model: ResNet, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Name of the layer randomized last, and the network in that state."""
    # Some layers, such as torch's own, draw from the global generator when they are created.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "randomization", "layers"))
        fresh = ResNet(
            model.n,
            model.classes,
            model.norm,
            model.shortcut,
            model.in_channels,
            seed=key(seed, "randomization"),
        )
    randomized = copy.deepcopy(model)
    yield "", randomized
    outside = dict(outside_sites(model))
    behind = {n: paths for n, paths in followers(model).items() if n in outside}
    for layer in ("fc", *reversed(behind)):
        for part in (layer, *behind.get(layer, ())):
            randomized.get_submodule(part).load_state_dict(fresh.get_submodule(part).state_dict())
        yield layer, randomized


def _correlation(a: Values, b: Values) -> Values:
    """Pearson's correlation of corresponding rows of (N, P); NaN where a row is constant."""
    a, b = (rows - rows.mean(1, keepdims=True) for rows in (a, b))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore"):
        correlation: Values = (a * b).sum(1) / lengths
    return correlation


def _mean(values: Values) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")
