"""Global response normalization, by itself and after a ReLU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normlab.norms import CATALOG, Parts
from normlab.norms.methods.grn import ReLUGlobalResponseNorm2d

from ..families import extra, unlike
from ..mutants import mutation
from ..reference import Array, looped, written

BOTH = ("grn", "grn_relu")
extra(replace(CATALOG["grn"], name="grn_relu", layer=ReLUGlobalResponseNorm2d, parts=Parts()))
unlike("grn_relu", nan_stays_in_its_set="the gradient of a ReLU is 0 for values below 0")


@looped("grn")
def loop(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    y = np.empty_like(x)
    for n, image in enumerate(x):
        norms = [math.sqrt(math.fsum(v * v for v in channel.flat)) for channel in image]
        mean = math.fsum(norms) / len(norms)
        for c, norm in enumerate(norms):
            share = norm / (mean + layer.eps)
            weight, bias = float(state["weight"][c]), float(state["bias"][c])
            for i in np.ndindex(*image.shape[1:]):
                v = float(image[(c, *i)])
                y[(n, c, *i)] = v + weight * (v * share) + bias
    return y


@looped("grn_relu")
def loop_after_relu(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    return loop(layer, np.maximum(x, 0), state)


@written("grn")
class GlobalResponse(nn.Module):
    """Woo et al. 2023, one operation after the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        g = wide.norm(p=2, dim=(2, 3), keepdim=True)
        n = g / (g.mean(1, keepdim=True) + 1e-6)
        weight, bias = (t.view(1, -1, 1, 1) for t in (self.weight, self.bias))
        return (weight * (wide * n) + bias + wide).to(x.dtype)


@written("grn_relu")
class GlobalResponseAfterReLU(GlobalResponse):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.relu())


@mutation("forward_matches_reference", families=BOTH, written=False)
class GrnWithoutTheInput(nn.Module):
    """weight * x * share + bias, without x itself."""

    def _normalized(self, x: Tensor, *rest: Any) -> Tensor:
        return super()._normalized(x, *rest) - x


@mutation("forward_matches_reference", families=BOTH, written=False)
class GrnNormsOverChannelsToo(nn.Module):
    def _share(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True, dtype=dtype)
        return (norm / (norm.mean(1, keepdim=True) + self.eps)).expand(-1, x.shape[1], 1, 1)


@mutation("forward_matches_reference", families=BOTH, written=False)
class GrnSumOfNorms(nn.Module):
    """Shares of the sum, not of the mean."""

    def _share(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return super()._share(x, dtype) / x.shape[1]


@mutation("gradients_match_counterpart", families=BOTH, written=False)
class GrnSharesDetached(nn.Module):
    def _share(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return super()._share(x, dtype).detach()


@mutation("state_is_declared", families=BOTH, written=False)
class GrnWeightStartsAtOne(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        nn.init.ones_(self.weight)


@mutation("keeps_what_its_spec_says", families=BOTH, written=False)
class GrnInSeparateOperations(nn.Module):
    """x + weight * (x * share) + bias keeps the product too."""

    def _normalized(self, x: Tensor, *rest: Any) -> Tensor:
        weight, bias = (t.view(1, -1, 1, 1) for t in (self.weight, self.bias))
        return x + weight * (x * self._share(x, x.dtype)) + bias


@mutation("low_precision_forward_within_twice_torch", families=BOTH, written=False)
class GrnIn16Bits(nn.Module):
    """Squares of values of 60000 overflow float16."""

    def _share(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        norm = x.square().sum((2, 3), keepdim=True).sqrt()
        return norm / (norm.mean(1, keepdim=True) + self.eps)
