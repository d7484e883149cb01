"""Scaled weight standardization: reference and mistakes of its layer and its convolution."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..convolutions import mistake
from ..mutants import mutation
from ..reference import Array, looped, written

HERE = ["scaled_ws"]


@looped("scaled_ws")
def _loop(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    """The end of a residual branch."""
    y = x.copy()
    for value in y.reshape(-1, 1):
        value[0] = layer.alpha * state["scale"][0] * value[0]
    return y


@written("scaled_ws")
class ScaledBranch(nn.Module):
    def __init__(self, channels: int, alpha: float = 0.2) -> None:
        super().__init__()
        self.alpha = alpha
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.alpha * (x * self.scale)).to(x.dtype)


@mutation("state_is_declared", families=HERE, written=False)
class ScaledBranchStartsOpen(nn.Module):
    start = 1.0


@mutation("forward_matches_reference", families=HERE, written=False)
class AlphaForgotten(nn.Module):
    def _scaled(self, x: Tensor) -> Tensor:
        return super()._scaled(x) / self.alpha


@mutation("forward_matches_reference", families=HERE, written=False)
class AlphaSquared(nn.Module):
    def _scaled(self, x: Tensor) -> Tensor:
        return super()._scaled(x) * self.alpha


@mutation("gradients_match_counterpart", families=HERE, written=False)
class AlphaOnlyForward(nn.Module):
    def _scaled(self, x: Tensor) -> Tensor:
        y = super()._scaled(x)
        return y.detach() + (y - y.detach()) / self.alpha


@mistake("filters_match_reference", methods=HERE)
class ReluGainForgotten(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred) / math.sqrt(2 / (1 - 1 / math.pi))


@mistake("filters_match_reference", methods=HERE)
class EstimatedReluGain(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred) * 1.7139588594436646 / math.sqrt(2 / (1 - 1 / math.pi))


@mistake("filters_match_reference", methods=HERE)
class UnitSpreadOfScaledFilters(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred) * math.sqrt(self.fan_in)


@mistake("filters_match_reference", methods=HERE)
class EpsAddedToSquares(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        squares = centred.square().sum((1, 2, 3), keepdim=True)
        right = torch.rsqrt(squares.clamp_min(self.weight_eps))
        return super()._factors(centred) / right * torch.rsqrt(squares + self.weight_eps)


@mistake("derivatives_match_finite_differences", methods=HERE)
class GainOfFiltersDetached(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        gain = self.gain.view(-1, 1, 1, 1)
        return super()._factors(centred) / gain * gain.detach()


@mistake("state_is_declared", methods=HERE)
class GainIsTheLength(nn.Module):
    """The start of weight normalization."""

    def weight_drawn(self) -> None:
        self.gain.copy_(torch.linalg.vector_norm(self.weight, dim=(1, 2, 3)))
