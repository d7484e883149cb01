"""EvoNorm: its references, and mistakes that the checks must find."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normlab.norms import ChannelAffine2d, NormSpec

from ..families import extra
from ..mutants import mutation
from ..reference import written

AFFINE = NormSpec(
    name="channel_affine",
    title="Scale and shift per channel",
    family="without",
    layer=ChannelAffine2d,
    formula="weight * x + bias",
    axes=(),
    variance="",
    kept=1.1,  # the input, and what normalizes nothing: a zero and a one per channel
)
extra(AFFINE, compiled=True)


@written("channel_affine")
class Affine(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


class Evo(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.v = nn.Parameter(torch.ones(channels))

    def finished(self, y: Tensor, x: Tensor) -> Tensor:
        return (y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


@written("evonorm_b0")
class EvoB0(Evo):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        xs = x.to(torch.promote_types(x.dtype, torch.float32))
        var = self.running_var.view(-1, 1, 1)
        if self.training:
            var = xs.var((0, 2, 3), correction=0, keepdim=True)
            with torch.no_grad():
                self.running_var.mul_(0.9).add_(0.1 * var.flatten())
                self.num_batches_tracked.add_(1)
        of_map = (xs.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        divisor = ((var + 1e-5).sqrt()).maximum(self.v.view(-1, 1, 1) * xs + of_map)
        return self.finished(xs / divisor, x)


@written("evonorm_s0")
class EvoS0(Evo):
    groups = 8

    def forward(self, x: Tensor) -> Tensor:
        xs = x.to(torch.promote_types(x.dtype, torch.float32))
        cut = xs.unflatten(1, (self.groups, -1))
        var = cut.var((2, 3, 4), correction=0, keepdim=True).expand_as(cut).flatten(1, 2)
        y = xs * torch.sigmoid(self.v.view(-1, 1, 1) * xs) / torch.sqrt(var + 1e-5)
        return self.finished(y, x)


# ---------------------------------------------------------------------------------------------
# B0.


class B0Written(nn.Module):
    """The formula in one place, with a method for each decision."""

    def _formula(self, x: Tensor) -> Tensor:
        if not self.training:
            var = self.running_var.to(x.dtype).view(-1, 1, 1)
        else:
            self._check_batch(x)
            var = x.var((0, 2, 3), correction=0, keepdim=True)
            self._track(x, var.detach(), self.stored(x, var.detach()))
        return self._affine(x / self.divisor(x, torch.sqrt(var + self.eps)))

    def stored(self, x: Tensor, var: Tensor) -> Tensor:
        return var

    def divisor(self, x: Tensor, of_batch: Tensor) -> Tensor:
        return of_batch.maximum(self.v.to(x.dtype).view(-1, 1, 1) * x + self.of_map(x))

    def of_map(self, x: Tensor) -> Tensor:
        return torch.sqrt(x.var((2, 3), correction=0, keepdim=True) + self.eps)


@mutation("forward_matches_reference", families=["evonorm_b0"], written=False)
class B0Minimum(B0Written):
    def divisor(self, x: Tensor, of_batch: Tensor) -> Tensor:
        return of_batch.minimum(self.v.to(x.dtype).view(-1, 1, 1) * x + self.of_map(x))


@mutation("forward_matches_reference", families=["evonorm_b0"], written=False)
class B0GateOnMap(B0Written):
    """v multiplies the deviation, not the value."""

    def divisor(self, x: Tensor, of_batch: Tensor) -> Tensor:
        return of_batch.maximum(x + self.v.to(x.dtype).view(-1, 1, 1) * self.of_map(x))


@mutation("forward_matches_reference", families=["evonorm_b0"], written=False)
class B0UnbiasedOnMaps(B0Written):
    def of_map(self, x: Tensor) -> Tensor:
        return torch.sqrt(x.var((2, 3), keepdim=True) + self.eps)


@mutation("forward_matches_reference", families=["evonorm_b0"], written=False)
class B0EpsOutsideOnMaps(B0Written):
    def of_map(self, x: Tensor) -> Tensor:
        return x.std((2, 3), correction=0, keepdim=True) + self.eps


@mutation("gradients_match_counterpart", families=["evonorm_b0"], written=False)
class B0MapDetached(B0Written):
    def of_map(self, x: Tensor) -> Tensor:
        return super().of_map(x).detach()


@mutation("running_statistics_match_closed_form", families=["evonorm_b0"], written=False)
class B0StoresUnbiased(B0Written):
    """What timm's layer stores."""

    def stored(self, x: Tensor, var: Tensor) -> Tensor:
        count = x.numel() // x.shape[1]
        return var * count / (count - 1)


@mutation("state_is_declared", families=["evonorm_b0"], written=False)
class B0KeepsMean(nn.Module):
    def __init__(self, channels: int, *given: Any, **options: Any) -> None:
        super().__init__(channels, *given, **options)
        self.register_buffer("running_mean", torch.zeros(channels))


@mutation("state_is_declared", families=["evonorm_b0", "evonorm_s0"], written=False)
class GateStartsAtZero(nn.Module):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        nn.init.zeros_(self.v)


@mutation("keeps_what_its_spec_says", families=["evonorm_b0", "evonorm_s0"], written=False)
class EvoNormKeepsCopies(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x.exp().log().exp().log())


# ---------------------------------------------------------------------------------------------
# S0.


class S0Written(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        cut = x.unflatten(1, (self.groups, -1))
        var = self.variance(cut).expand_as(cut).flatten(1, 2)
        return self._affine(self.gated(x) / torch.sqrt(var + self.eps))

    def variance(self, cut: Tensor) -> Tensor:
        return cut.var((2, 3, 4), correction=0, keepdim=True)

    def gated(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.v.to(x.dtype).view(-1, 1, 1) * x)


@mutation("forward_matches_reference", families=["evonorm_s0"], written=False)
class S0Unbiased(S0Written):
    def variance(self, cut: Tensor) -> Tensor:
        return cut.var((2, 3, 4), keepdim=True)


@mutation("forward_matches_reference", families=["evonorm_s0"], written=False)
class S0WithoutGroups(S0Written):
    def variance(self, cut: Tensor) -> Tensor:
        return cut.var((1, 2, 3, 4), correction=0, keepdim=True)


@mutation("forward_matches_reference", families=["evonorm_s0"], written=False)
class S0MeanSquare(S0Written):
    """The second moment about 0, which is EvoNorm-S2's."""

    def variance(self, cut: Tensor) -> Tensor:
        return cut.square().mean((2, 3, 4), keepdim=True)


@mutation("forward_matches_reference", families=["evonorm_s0"], written=False)
class S0NumeratorMissing(S0Written):
    """An early version of timm had the sigmoid alone there."""

    def gated(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.v.to(x.dtype).view(-1, 1, 1) * x)


@mutation("gradients_match_counterpart", families=["evonorm_s0"], written=False)
class S0VarianceDetached(S0Written):
    def variance(self, cut: Tensor) -> Tensor:
        return super().variance(cut).detach()


# ---------------------------------------------------------------------------------------------
# What stands before a sum.


@mutation("forward_matches_reference", families=["channel_affine"], written=False)
class AffineNormalizes(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x / (x.std() + 1e-5), *then)


@mutation("forward_matches_reference", families=["channel_affine"], written=False)
class ShiftBeforeScale(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        if self.weight is None:
            return super()._normalized(x, *then)
        return (x + self.bias.view(-1, 1, 1)) * self.weight.view(-1, 1, 1)


@mutation("state_is_declared", families=["channel_affine"], written=False)
class AffineScaleStartsAtZero(nn.Module):
    """As in the authors' recipe."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        if self.weight is not None:
            nn.init.zeros_(self.weight)


@mutation("keeps_what_its_spec_says", families=["channel_affine"], written=False)
class AffineKeepsItsOutput(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x, *then).exp().log()
