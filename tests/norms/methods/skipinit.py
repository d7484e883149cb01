"""SkipInit: reference and mistakes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..mutants import mutation
from ..reference import written

HERE = ["skipinit"]


@written("skipinit")
class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale).to(x.dtype)


@mutation("state_is_declared", families=HERE, written=False)
class BranchStartsOpen(nn.Module):
    start = 1.0


@mutation("state_is_declared", families=HERE, written=False)
class OneScaleForEachChannel(nn.Module):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.scale = nn.Parameter(torch.zeros(channels))

    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.scale.view(1, -1, 1, 1)


@mutation("gradients_match_counterpart", families=HERE, written=False)
class ScaleDetached(nn.Module):
    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.scale.detach() + 0 * self.scale


@mutation("forward_matches_reference", families=HERE, written=False)
class BranchAdded(nn.Module):
    """The sum is the network's to take."""

    def _scaled(self, x: Tensor) -> Tensor:
        return x + super()._scaled(x)


@mutation("low_precision_gradients_within_four_times_torch", families=HERE, written=False)
class ScaleIn16Bits(nn.Module):
    """Its gradient is then a sum of rounded products."""

    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.scale.to(x.dtype)


@mutation("saves_no_more_than_torch", families=HERE, written=False)
class ScaledAsFloat32(nn.Module):
    """Backward then keeps the copy."""

    def _scaled(self, x: Tensor) -> Tensor:
        return super()._scaled(x.float())
