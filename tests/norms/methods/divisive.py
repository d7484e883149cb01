"""Divisive normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..mutants import mutation
from ..reference import Array, looped, written

FAMILY = ("divisive",)


def _local_means(x: Array, window: int) -> Array:
    """(N, C, H, W) -> (N, H, W), over the channels and those pixels of the window that exist."""
    n, _, h, w = x.shape
    reach, means = window // 2, np.empty((n, h, w))
    for image, i, j in np.ndindex(n, h, w):
        rows = slice(max(0, i - reach), i + reach + 1)
        columns = slice(max(0, j - reach), j + reach + 1)
        values = x[image, :, rows, columns].ravel()
        means[image, i, j] = math.fsum(values) / len(values)
    return means


@looped("divisive")
def loop(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    v = x - _local_means(x, layer.window)[:, None]
    power = _local_means(v * v, layer.window)[:, None]
    y = v / np.sqrt(state["sigma"] ** 2 + power)
    if "weight" in state:
        y = y * state["weight"].reshape(-1, 1, 1) + state["bias"].reshape(-1, 1, 1)
    return y


@written("divisive")
class Divisive(nn.Module):
    """Ren et al. 2017: sums over the window by a convolution, divided by how many there are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.sigma = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        v = wide - self.mean(wide)
        y = v / torch.sqrt(self.sigma**2 + self.mean(v * v))
        weight, bias = (t.view(1, -1, 1, 1) for t in (self.weight, self.bias))
        return (y * weight + bias).to(x.dtype)

    def mean(self, t: Tensor) -> Tensor:
        window = torch.ones(1, t.shape[1], 5, 5, dtype=t.dtype)
        count = F.conv2d(torch.ones_like(t[:1]), window, padding=2)
        return F.conv2d(t, window, padding=2) / count


@mutation("forward_matches_reference", families=FAMILY, written=False)
class DivisiveEdgesFilledWithZeros(nn.Module):
    """As the authors' code does: the mean of a window that is partly outside is too small."""

    def _local_mean(self, t: Tensor) -> Tensor:
        return F.avg_pool2d(t.mean(1, keepdim=True), self.window, 1, self.window // 2)


@mutation("forward_matches_reference", families=FAMILY, written=False)
class DivisiveEachChannelAlone(nn.Module):
    def _local_mean(self, t: Tensor) -> Tensor:
        reach = self.window // 2
        return F.avg_pool2d(t, self.window, 1, reach, count_include_pad=False)


@mutation("forward_matches_reference", families=FAMILY, written=False)
class DivisiveSmallerWindow(nn.Module):
    def _local_mean(self, t: Tensor) -> Tensor:
        reach = self.window // 2 - 1
        of_pixels = t.mean(1, keepdim=True)
        return F.avg_pool2d(of_pixels, self.window - 2, 1, reach, count_include_pad=False)


@mutation("forward_matches_reference", families=FAMILY, written=False)
class DivisiveSigmaNotSquared(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        sigma = self.sigma
        try:
            self.sigma = nn.Parameter(sigma.abs().sqrt())
            return super()._formula(x)
        finally:
            self.sigma = sigma


@mutation("gradients_match_counterpart", families=FAMILY, written=False)
class DivisiveMeansDetached(nn.Module):
    def _local_mean(self, t: Tensor) -> Tensor:
        return super()._local_mean(t).detach()


@mutation("state_is_declared", families=FAMILY, written=False)
class DivisiveSigmaNotLearned(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        sigma = self.sigma.detach()
        del self.sigma
        self.register_buffer("sigma", sigma)


@mutation("keeps_what_its_spec_says", families=FAMILY, written=False)
class DivisiveOutputKept(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x).tanh().atanh()
