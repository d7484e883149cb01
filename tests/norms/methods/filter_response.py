"""FilterResponseNorm2d and its activation: their references, and mistakes that the checks must
find."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normlab.norms import CATALOG, FilterResponseNorm2d, NormSpec, ThresholdedLinearUnit2d

from ..families import extra
from ..mutants import mutation
from ..reference import written


@written("frn")
class Frn(nn.Module):
    """The paper's equations in operations of PyTorch."""

    def __init__(self, channels: int, learned_eps: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        if learned_eps:
            self.extra_eps = nn.Parameter(torch.tensor(1e-4))

    def forward(self, x: Tensor) -> Tensor:
        xs = x.to(torch.promote_types(x.dtype, torch.float32))
        eps = 1e-6 + self.extra_eps.abs() if hasattr(self, "extra_eps") else 1e-6
        y = xs / torch.sqrt(xs.square().mean((2, 3), keepdim=True) + eps)
        return (y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


LEARNED = NormSpec(
    name="frn_learned_eps",
    title="with a learned eps",
    family="sample",
    layer=FilterResponseNorm2d,
    formula="weight * x / sqrt(ms + eps + max(extra_eps, -extra_eps)) + bias",
    axes=CATALOG["frn"].axes,
    variance="",
    kept=2.0,
)
extra(LEARNED, learned_eps=True)
written("frn_learned_eps")(Frn)

TLU = NormSpec(
    name="tlu",
    title="Thresholded linear unit",
    family="sample",
    layer=ThresholdedLinearUnit2d,
    formula="max(x, tau)",
    axes=(),
    variance="",
)
extra(TLU)


@written("tlu")
class Tlu(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.tau.view(-1, 1, 1)).to(x.dtype)


def affine(layer: Any, y: Tensor) -> Tensor:
    if layer.weight is None:
        return y
    return y * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)


@mutation("forward_matches_reference", families=["frn", "frn_learned_eps"], written=False)
class FrnCentred(nn.Module):
    """Instance normalization."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x - x.mean((2, 3), keepdim=True), *then)


@mutation("forward_matches_reference", families=["frn", "frn_learned_eps"], written=False)
class FrnSumOfSquares(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        total = x.square().sum((2, 3), keepdim=True)
        return affine(self, x / torch.sqrt(total + self.eps))


@mutation("forward_matches_reference", families=["frn"], written=False)
class FrnEpsOutsideTheRoot(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        rms = x.square().mean((2, 3), keepdim=True).sqrt()
        return affine(self, x / (rms + self.eps))


@mutation("gradients_match_counterpart", families=["frn"], written=False)
class FrnEpsOfTimm(nn.Module):
    """1e-5 where the paper has 1e-6."""

    def __init__(self, channels: int, eps: float = 1e-5, **options: Any) -> None:
        super().__init__(channels, eps, **options)


@mutation("forward_matches_reference", families=["frn", "frn_learned_eps"], written=False)
class FrnOverRows(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        ms = x.square().mean(3, keepdim=True)
        return affine(self, x / torch.sqrt(ms + self.eps))


@mutation("forward_matches_reference", "state_is_declared", families=["frn"], written=False)
class FrnActivatesToo(nn.Module):
    """A threshold inside, as in layers that are one with their activation."""

    def __init__(self, channels: int, *given: Any, **options: Any) -> None:
        super().__init__(channels, *given, **options)
        self.tau = nn.Parameter(torch.zeros(channels))

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x, *then).maximum(self.tau.view(-1, 1, 1))


@mutation("forward_matches_reference", families=["frn_learned_eps"], written=False)
class LearnedEpsAlone(nn.Module):
    """Without the eps that is given."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        self.eps = 0.0
        return super()._normalized(x, *then)


@mutation(
    "gradients_match_counterpart",
    "derivatives_match_finite_differences",
    families=["frn_learned_eps"],
    written=False,
)
class LearnedEpsSquared(nn.Module):
    """Another way to keep it positive, with another derivative."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        ms = x.square().mean((2, 3), keepdim=True)
        eps = self.eps + self.extra_eps.square() / self.extra_eps.detach().abs()
        return affine(self, x / torch.sqrt(ms + eps))


@mutation("state_is_declared", families=["frn_learned_eps"], written=False)
class LearnedEpsStartsTooLarge(nn.Module):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        nn.init.constant_(self.extra_eps, 1e-2)


@mutation("keeps_what_its_spec_says", families=["frn_learned_eps"], written=False)
class FrnKeepsCopies(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized((x * 2).square().sqrt() * x.sign() / 2, *then)


@mutation("forward_matches_reference", families=["tlu"], written=False)
class TluIsRelu(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x.relu())


@mutation("forward_matches_reference", families=["tlu"], written=False)
class TluIsMinimum(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return -super()._formula(-x)


@mutation("nan_stays_in_its_set", families=["tlu"], written=False)
class TluHidesNan(nn.Module):
    """The comparison the other way round."""

    def _formula(self, x: Tensor) -> Tensor:
        tau = self.tau.to(x.dtype).view(-1, 1, 1)
        return torch.where(x > tau, x, tau)


@mutation("gradients_match_counterpart", families=["tlu"], written=False)
class TluThresholdConstant(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return torch.maximum(x, self.tau.detach().view(-1, 1, 1)) + 0 * self.tau.view(-1, 1, 1)


@mutation("state_is_declared", families=["tlu"], written=False)
class TluStartsBelow(nn.Module):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        nn.init.constant_(self.tau, -1.0)


@mutation("state_is_declared", families=["tlu"], written=False)
class OneThresholdForAll(nn.Module):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.tau = nn.Parameter(torch.zeros(1))
