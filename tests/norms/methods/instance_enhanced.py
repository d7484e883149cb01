"""Instance enhancement batch normalization: PyTorch's batch norm without affine, and a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mutants import mutation
from ..reference import written


@written("iebn")
class Enhanced(nn.BatchNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gate_weight = nn.Parameter(torch.zeros(channels))
        self.gate_bias = nn.Parameter(torch.full((channels,), -1.0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked += 1
        known = self.running_mean, self.running_var
        xs = x if x.dtype == torch.float64 else x.float()
        xhat = F.batch_norm(xs, *known, None, None, self.training, self.momentum, self.eps)
        map_mean = F.adaptive_avg_pool2d(xs, 1)
        wide = [t[:, None, None] for t in (self.gate_weight, self.gate_bias)]
        gate = torch.sigmoid(wide[0] * map_mean + wide[1])
        y = xhat * (self.weight[:, None, None] * gate) + self.bias[:, None, None]
        return y.to(x.dtype)


IT = ("iebn",)


class _Gated(nn.Module):
    def gate(self, x: Tensor, xhat: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return torch.sigmoid(self.gate_weight[:, None, None] * mean + self.gate_bias[:, None, None])

    def _formula(self, x: Tensor) -> Tensor:
        known = (None, None) if self.training else (self.running_mean, self.running_var)
        xhat = F.batch_norm(x, *known, training=self.training, eps=self.eps)
        if self.training:
            self._track(x, x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), correction=0))
        y = xhat * self.gate(x, xhat)
        if self.weight is None:
            return y
        return y * self.weight[:, None, None] + self.bias[:, None, None]


@mutation("forward_matches_reference", families=IT, written=False)
class GateOfTheStandardized(_Gated):
    """The gate from the mean of xhat, not of x."""

    def gate(self, x: Tensor, xhat: Tensor) -> Tensor:
        return super().gate(xhat, xhat)


@mutation("forward_matches_reference", families=IT, written=False)
class GateOfTheBatch(_Gated):
    """The mean over the images too: nothing of the instance is left."""

    def gate(self, x: Tensor, xhat: Tensor) -> Tensor:
        return super().gate(x.mean(0, keepdim=True), xhat)


@mutation("forward_matches_reference", families=IT, written=False)
class GateBySoftmax(_Gated):
    """Softmax over the channels, as in a variant of the code."""

    def gate(self, x: Tensor, xhat: Tensor) -> Tensor:
        return super().gate(x, xhat).softmax(1)


@mutation("gradients_match_counterpart", families=IT, written=False)
class GateOfADetachedImage(_Gated):
    def gate(self, x: Tensor, xhat: Tensor) -> Tensor:
        return super().gate(x.detach(), xhat)


@mutation("state_is_declared", families=IT, written=False)
class GateStartsOpen(nn.Module):
    def __init__(self, channels: int, **options: float) -> None:
        super().__init__(channels, **options)
        nn.init.zeros_(self.gate_bias)
