"""Frozen batch normalization: PyTorch's in evaluation, whatever the mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mutants import mutation
from ..reference import written


@written("frozen_bn")
class Frozen(nn.Module):
    """``F.batch_norm`` on buffers, in evaluation."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        known = self.running_mean, self.running_var, self.weight, self.bias
        if x.dtype == torch.float64:
            known = tuple(t.double() for t in known)
        return F.batch_norm(x, *known, training=False, eps=self.eps)


@mutation(
    "forward_matches_reference", "images_do_not_see_each_other", families=["frozen_bn"],
    written=False,
)  # fmt: skip
class ThawedByTrain(nn.Module):
    """Training takes the statistics of the batch, as batch normalization does."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return super().forward(x)


@mutation("training_keeps_parameters", families=["frozen_bn"], written=False)
class StatisticsStillMove(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.training:
            self.running_mean.lerp_(x.detach().mean((0, 2, 3)), 0.1)
        return y


@mutation("state_is_declared", families=["frozen_bn"], written=False)
class WeightIsTrained(nn.Module):
    def __init__(self, channels: int, **options: float) -> None:
        super().__init__(channels, **options)
        del self.weight
        self.weight = nn.Parameter(torch.ones(channels))


@mutation("forward_matches_reference", families=["frozen_bn"], written=False)
class EpsOutsideTheFrozenRoot(nn.Module):
    def _normalized(self, x: Tensor, then: object = None) -> Tensor:
        scale = self.weight / (self.running_var.sqrt() + self.eps)
        return (x - self.running_mean[:, None, None]) * scale[:, None, None] + self.bias[
            :, None, None
        ]


@mutation("gradients_match_counterpart", families=["frozen_bn"], written=False)
class NothingPassesBack(nn.Module):
    """Frozen for whatever is before it as well."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach()) + 0 * x
