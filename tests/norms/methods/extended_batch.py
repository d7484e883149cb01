"""Extended batch normalization: the mean of a channel, the spread of all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..mutants import mutation
from ..reference import Array, looped, moments, written


@written("extended_bn")
class Extended(nn.Module):
    """``torch.var`` over everything, ``torch.mean`` over all but the channels."""

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.eps, self.momentum = 1e-5, 0.1
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(1))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        xs = x if x.dtype == torch.float64 else x.float()
        if self.training:
            mean, var = xs.mean((0, 2, 3)), xs.var(correction=0)
            with torch.no_grad():
                self.num_batches_tracked += 1
                unbiased = var * xs.numel() / (xs.numel() - 1)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        else:
            mean, var = self.running_mean.to(xs.dtype), self.running_var.to(xs.dtype)
        xhat = (xs - mean[:, None, None]) / torch.sqrt(var + self.eps)
        y = self.weight[:, None, None] * xhat + self.bias[:, None, None]
        return y.to(x.dtype)


@looped("extended_bn")
def by_loops(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    y = np.empty_like(x)
    means = [float(mean) for mean in state["running_mean"]]
    var = float(state["running_var"][0])
    if layer.training:
        means = [moments("NHW", x)[(c,)].mean for c in range(x.shape[1])]
        var = moments("NCHW", x)[()].variance("n")
    for c, mean in enumerate(means):
        y[:, c] = (x[:, c] - mean) / (var + layer.eps) ** 0.5
        if "weight" in state:
            y[:, c] = state["weight"][c] * y[:, c] + state["bias"][c]
    return y


IT = ("extended_bn",)


class _Given(nn.Module):
    """Another mean, variance or both, in training."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((0, 2, 3), keepdim=True), x.var(correction=0)

    def _formula(self, x: Tensor) -> Tensor:
        if not self.training:
            return super()._formula(x)
        mean, var = self.moments(x)
        self._track(x, mean.detach(), var.detach())
        return self._affine(x - mean, torch.rsqrt(var + self.eps))


@mutation("forward_matches_reference", families=IT, written=False)
class SpreadOfEachChannel(_Given):
    """Which is batch normalization."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, _ = super().moments(x)
        return mean, x.var((0, 2, 3), correction=0, keepdim=True).mean(0, keepdim=True)

    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        super()._track(x, mean, var.mean())


@mutation("forward_matches_reference", families=IT, written=False)
class SpreadAroundTheChannels(_Given):
    """What lies between the channels' means is forgotten."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, _ = super().moments(x)
        return mean, (x - mean).square().mean()


@mutation("forward_matches_reference", families=IT, written=False)
class MeanOfAllChannels(_Given):
    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, var = super().moments(x)
        return x.mean().view(1, 1, 1, 1).expand(1, x.shape[1], 1, 1), var


@mutation("gradients_match_counterpart", families=IT, written=False)
class SpreadDetached(_Given):
    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = super().moments(x)
        return mean, var.detach()


@mutation("low_precision_forward_within_twice_torch", families=IT, written=False)
class MeansFarFromZero(_Given):
    """The spread of the channels' means from float32 means at an offset of 1e4."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, _ = super().moments(x)
        return mean, (x.square().mean() - x.mean().square()).clamp_min(0)


@mutation("running_statistics_match_closed_form", families=IT, written=False)
class CorrectedForOneChannel(nn.Module):
    def _values_of_variance(self, x: Tensor) -> int:
        return super()._values_of_variance(x) // self.channels


@mutation("keeps_what_its_spec_says", families=IT, written=False)
class AffineKeptApart(nn.Module):
    """Spread, weight and bias in separate operations."""

    def _affine(self, y: Tensor, scale: Tensor) -> Tensor:
        xhat = y * scale
        return xhat * self.weight[:, None, None] + self.bias[:, None, None]
