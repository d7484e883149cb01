"""Weight standardization: mistakes in its convolutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..convolutions import mistake

BOTH = ["ws", "gn+ws"]


@mistake("filters_match_reference", methods=BOTH)
class SpreadByOneLess(nn.Module):
    """What torch.std_mean gives without being asked, as in the authors' PyTorch code."""

    def _factors(self, centred: Tensor) -> Tensor:
        n = self.fan_in
        return super()._factors(centred) * math.sqrt((n - 1) / n)


@mistake("filters_match_reference", methods=BOTH)
class EpsInsideTheRootOfFilters(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        var = centred.square().mean((1, 2, 3), keepdim=True)
        right, inside = torch.sqrt(var) + self.weight_eps, torch.sqrt(var + self.weight_eps)
        return super()._factors(centred) * right / inside


@mistake("filters_match_reference", methods=BOTH)
class OneSpreadForAllFilters(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred).mean()


@mistake("derivatives_match_finite_differences", methods=BOTH)
class SpreadOfFiltersDetached(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred).detach()


@mistake("filters_without_spread_have_a_value", methods=BOTH)
class RootOfTheVariance(nn.Module):
    """Its derivative is infinite where a filter has no spread."""

    def _factors(self, centred: Tensor) -> Tensor:
        var = centred.square().mean((1, 2, 3), keepdim=True)
        return 1 / (torch.sqrt(var) + self.weight_eps)


@mistake("filters_match_reference", methods=["ws"])
class UnitSpread(nn.Module):
    """The paper's filters, with nothing behind them."""

    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred) * math.sqrt(self.fan_in / 2)


@mistake("filters_match_reference", methods=["ws"])
class FanOutForFanIn(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        fan_out = self.weight[:, 0].numel()
        return super()._factors(centred) * math.sqrt(self.fan_in / fan_out)


@mistake("filters_match_reference", methods=["gn+ws"])
class HesSpread(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred) * math.sqrt(2 / self.fan_in)
