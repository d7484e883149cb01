"""Dynamic tanh and dynamic erf: references and mistakes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..mutants import mutation
from ..reference import written

BOTH = ["dyt", "derf"]


@written("dyt")
class Tanh(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        y = self.squashed(self.alpha * wide)
        return (self.weight[:, None, None] * y + self.bias[:, None, None]).to(x.dtype)

    def squashed(self, z: Tensor) -> Tensor:
        return z.tanh()


@written("derf")
class Erf(Tanh):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.shift = nn.Parameter(torch.zeros(1))

    def squashed(self, z: Tensor) -> Tensor:
        return (z + self.shift).erf()


@mutation("state_is_declared", families=BOTH, written=False)
class AlphaStartsAtOne(nn.Module):
    def __init__(self, channels: int, alpha_init: float = 1.0, **options: Any) -> None:
        super().__init__(channels, alpha_init, **options)


@mutation("state_is_declared", families=BOTH, written=False)
class AlphaForEachChannel(nn.Module):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.alpha = nn.Parameter(torch.full((channels, 1, 1), 0.5))


@mutation("forward_matches_reference", families=BOTH, written=False)
class SquashedTwice(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(torch.tanh(x))


@mutation("gradients_match_counterpart", families=BOTH, written=False)
class AlphaDetached(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        scaled = x * self.alpha.detach() / self.alpha
        return super()._formula(scaled)


@mutation("forward_matches_reference", families=BOTH, written=False)
class BiasInside(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return super()._formula(x)
        bias = self.bias.view(1, -1, 1, 1)
        return super()._formula(x + bias) - bias


@mutation("keeps_what_its_spec_says", families=BOTH, written=False)
class ArgumentKeptToo(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x + 0 * x.square().square())


@mutation("forward_matches_reference", families=["derf"], written=False)
class ShiftBeforeAlpha(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x + self.shift - self.shift / self.alpha)


@mutation("gradients_match_counterpart", families=["derf"], written=False)
class ShiftDetached(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x - (self.shift - self.shift.detach()) / self.alpha)


@mutation("forward_matches_reference", families=["derf"], written=False)
class TanhForErf(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return self._affine(torch.tanh(x * self.alpha + self.shift))
