"""What convolutions share whose filters are a function of their parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx, nn

from ._base import recorded
from ._core import statistics_dtype, without_autocast


class ReparametrizedConv2d(nn.Conv2d):
    """Base of convolutions that use another weight than their parameter ``weight``.

    Each has :meth:`effective_weight`: the convolution is ``torch.nn.Conv2d`` with that weight. A
    class writes :meth:`_filters` for float32 (float64 for float64 parameters), whether autocast is
    on or not.

    Args:
        shape, named: as in ``torch.nn.Conv2d``.

    Shapes:
        As in ``torch.nn.Conv2d``.
    """

    def effective_weight(self) -> Tensor:
        """The weight of the plain convolution that computes the same, in the type of ``weight``
        and of its shape (outputs, inputs / groups, height, width)."""
        weight = self.weight
        with without_autocast(weight):
            return self._filters(weight.to(statistics_dtype(weight))).to(weight.dtype)

    def _filters(self, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return recorded(self, x)
        y: Tensor = self._conv_forward(x, self.effective_weight(), self.bias)
        return y

    @property
    def fan_in(self) -> int:
        """Values of one filter."""
        return math.prod(self.weight.shape[1:])


def per_filter(t: Tensor, dtype: torch.dtype) -> Tensor:
    """One value per output, to be broadcast against a weight."""
    return t.to(dtype).view(-1, 1, 1, 1)
