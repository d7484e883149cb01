"""Local response normalization, by itself and after a ReLU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import CATALOG, Parts
from normlab.norms.methods.lrn import ReLULocalResponseNorm2d

from ..families import extra, unlike
from ..mutants import mutation
from ..reference import Array, looped, written

BOTH = ("lrn", "lrn_relu")
extra(replace(CATALOG["lrn"], name="lrn_relu", layer=ReLULocalResponseNorm2d, parts=Parts()))
for _name in BOTH:
    unlike(
        _name,
        nan_stays_in_its_set="the set of a value is a window of channels around it",
        permutations_permute_the_output="channels have an order, which says who is a neighbour",
    )


@looped("lrn")
def loop(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    y, reach = np.empty_like(x), layer.size // 2
    for n, c, h, w in np.ndindex(*x.shape):
        window = x[n, max(0, c - reach) : c + reach + 1, h, w]
        total = layer.k + layer.alpha * math.fsum(float(v) ** 2 for v in window)
        y[n, c, h, w] = float(x[n, c, h, w]) / total**layer.beta
    return y


@looped("lrn_relu")
def loop_after_relu(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    return loop(layer, np.maximum(x, 0), state)


@written("lrn")
class LocalResponse(nn.Module):
    """PyTorch's function, which takes the mean of five, with the constants of the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return F.local_response_norm(wide, 5, alpha=5e-4, beta=0.75, k=2.0).to(x.dtype)


@written("lrn_relu")
class LocalResponseAfterReLU(LocalResponse):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.relu())


@mutation("forward_matches_reference", families=BOTH, written=False)
class LrnMeanOfTheWindow(nn.Module):
    """As torch.nn and Caffe have it."""

    def _sums(self, values: Tensor) -> Tensor:
        return super()._sums(values) / self.size


@mutation("forward_matches_reference", families=BOTH, written=False)
class LrnWindowOfPixels(nn.Module):
    def _sums(self, values: Tensor) -> Tensor:
        return F.avg_pool2d(values, self.size, 1, self.size // 2) * self.size**2


@mutation("forward_matches_reference", families=BOTH, written=False)
class LrnWindowOfTheNext(nn.Module):
    """The window of another channel."""

    def _sums(self, values: Tensor) -> Tensor:
        return super()._sums(values).roll(1, 1)


@mutation("forward_matches_reference", families=BOTH, written=False)
class LrnChannelsInARing(nn.Module):
    """The first channel is no neighbour of the last."""

    def _sums(self, values: Tensor) -> Tensor:
        reach = self.size // 2
        return sum(values.roll(step, 1) for step in range(-reach, reach + 1))


@mutation("gradients_match_counterpart", families=BOTH, written=False)
class LrnSumsDetached(nn.Module):
    def _sums(self, values: Tensor) -> Tensor:
        return super()._sums(values).detach()


@mutation("forward_matches_reference", families=BOTH, written=False)
class LrnSquareRoot(nn.Module):
    """The exponent of other normalizations."""

    def _formula(self, x: Tensor) -> Tensor:
        beta = self.beta
        try:
            self.beta = 0.5
            return super()._formula(x)
        finally:
            self.beta = beta
