"""SwitchableNorm2d: its references, and mistakes that the checks must find."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..mutants import mutation
from ..reference import Array, looped, moments, written

AXES = ("HW", "CHW", "NHW")


def softmax(values: Array) -> list[float]:
    powers = [math.exp(v) for v in values]
    return [p / math.fsum(powers) for p in powers]


@looped("switchable")
def switched(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    y = np.empty_like(x)
    maps, images, batch = (moments(axes, x) for axes in AXES)
    m, v = softmax(state["mean_weight"]), softmax(state["var_weight"])
    for index in itertools.product(*map(range, x.shape)):
        n, c = index[:2]
        means, variances = [], []
        for axes, of_set in zip(AXES, (maps[n, c], images[n,], batch[c,]), strict=True):
            fixed = axes == "NHW" and not layer.training
            means.append(state["running_mean"][c] if fixed else of_set.mean)
            variances.append(state["running_var"][c] if fixed else of_set.variance("n"))
        mean = math.fsum(a * b for a, b in zip(m, means, strict=True))
        var = math.fsum(a * b for a, b in zip(v, variances, strict=True))
        y[index] = (x[index] - mean) / math.sqrt(var + layer.eps)
        if "weight" in state:
            y[index] = state["weight"][c] * y[index] + state["bias"][c]
    return y


@written("switchable")
class Switched(nn.BatchNorm2d):
    """By PyTorch's means and variances over each kind of set."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        xs = x.to(torch.promote_types(x.dtype, torch.float32))
        kinds = [torch.var_mean(xs, dims, correction=0, keepdim=True) for dims in DIMS]
        if self.training:
            super().forward(x)  # moves the running statistics
        else:
            kinds[2] = self.running_var.view(-1, 1, 1), self.running_mean.view(-1, 1, 1)
        m, v = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = sum(share * kind[1] for share, kind in zip(m, kinds, strict=True))
        var = sum(share * kind[0] for share, kind in zip(v, kinds, strict=True))
        y = (xs - mean) / torch.sqrt(var + self.eps)
        return (y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


DIMS = ((2, 3), (1, 2, 3), (0, 2, 3))


class Exchanged(nn.Module):
    """Computes with other weights of the mixtures."""

    def other(self) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _formula(self, x: Tensor) -> Tensor:
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        state["mean_weight"], state["var_weight"] = self.other()
        plain = super()._formula
        kept = self.mean_weight, self.var_weight
        try:
            del self.mean_weight, self.var_weight
            self.mean_weight, self.var_weight = state["mean_weight"], state["var_weight"]
            return plain(x)
        finally:
            del self.mean_weight, self.var_weight
            self.mean_weight, self.var_weight = kept


@mutation("forward_matches_reference", families=["switchable"], written=False)
class OneMixtureForBoth(Exchanged):
    def other(self) -> tuple[Tensor, Tensor]:
        return self.mean_weight + 0 * self.var_weight, self.mean_weight + 0


@mutation("forward_matches_reference", families=["switchable"], written=False)
class LayerBeforeInstance(Exchanged):
    def other(self) -> tuple[Tensor, Tensor]:
        order = torch.tensor([1, 0, 2])
        return self.mean_weight[order], self.var_weight[order]


@mutation("forward_matches_reference", families=["switchable"], written=False)
class SharesNotNormalized(Exchanged):
    """Sigmoids in place of the softmax, up to their logarithm's offset."""

    def other(self) -> tuple[Tensor, Tensor]:
        return self.mean_weight.sigmoid().log(), self.var_weight.sigmoid().log()


@mutation(
    "gradients_match_counterpart",
    "derivatives_match_finite_differences",
    families=["switchable"],
    written=False,
)
class MixtureDetached(Exchanged):
    def other(self) -> tuple[Tensor, Tensor]:
        return (
            self.mean_weight.detach() + 0 * self.mean_weight,
            self.var_weight.detach() + 0 * self.var_weight,
        )


@mutation("state_is_declared", families=["switchable"], written=False)
class MixtureStartsAtBatch(nn.Module):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        with torch.no_grad():
            self.mean_weight.copy_(torch.tensor([0.0, 0.0, 1.0]))


@mutation("state_is_declared", families=["switchable"], written=False)
class TwoStatisticsOnly(nn.Module):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.var_weight = nn.Parameter(torch.ones(2))


@mutation("running_statistics_match_closed_form", families=["switchable"], written=False)
class StoredAsItNormalizes(nn.Module):
    """The authors' choice: the biased variance."""

    def _move(self, running: Tensor, new: Tensor, factor: float | None = None) -> None:
        super()._move(running, new)


@mutation(
    "forward_matches_reference",
    "images_do_not_see_each_other",
    families=["switchable"],
    written=False,
)
class BatchMixedInEvaluation(nn.Module):
    def _fixed(self) -> None:
        return None


@mutation("keeps_what_its_spec_says", families=["switchable"], written=False)
class SwitchableKeepsCopies(nn.Module):
    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x.exp().log().exp().log())
