"""Weight normalization: mistakes in its convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..convolutions import mistake

HERE = ["weight_norm"]


@mistake("filters_match_reference", methods=HERE)
class OneLengthForAllFilters(nn.Module):
    def _filters(self, weight: Tensor) -> Tensor:
        return weight * self.gain.view(-1, 1, 1, 1) / weight.norm()


@mistake("filters_match_reference", methods=HERE)
class LengthOfInputs(nn.Module):
    """The length over the outputs, as where the axes of a transposed convolution are meant."""

    def _filters(self, weight: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(weight, dim=(0, 2, 3), keepdim=True)
        return weight * self.gain.view(-1, 1, 1, 1) / lengths


@mistake("filters_match_reference", methods=HERE)
class LengthSquared(nn.Module):
    def _filters(self, weight: Tensor) -> Tensor:
        squares = weight.square().sum((1, 2, 3), keepdim=True)
        return weight * self.gain.view(-1, 1, 1, 1) / squares


@mistake("derivatives_match_finite_differences", methods=HERE)
class LengthDetached(nn.Module):
    def _filters(self, weight: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(weight, dim=(1, 2, 3), keepdim=True)
        return weight * self.gain.view(-1, 1, 1, 1) / lengths.detach()


@mistake("state_is_declared", methods=HERE)
class GainStaysAsItWas(nn.Module):
    """New weights leave the gain of the old ones."""

    def weight_drawn(self) -> None:
        if not hasattr(self, "set_once"):
            self.set_once = True
            super().weight_drawn()


@mistake("state_is_declared", methods=HERE)
class GainStartsAtOne(nn.Module):
    def weight_drawn(self) -> None:
        nn.init.ones_(self.gain)


@mistake("filters_without_spread_have_a_value", methods=HERE)
class NoLengthNoValue(nn.Module):
    """0 / 0 for a filter of zeros."""

    def _filters(self, weight: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(weight, dim=(1, 2, 3), keepdim=True)
        return weight * (self.gain.view(-1, 1, 1, 1) / lengths)
