"""Each image by itself: values divided by the spread of their set, over any of C, H and W.

With mean and sum of squares over a set of n values of one image::

    y = weight * (x - mean) / sqrt(sum((x - mean)^2) / divisor + eps) + bias

or the same with 0 in place of the mean. :func:`definition` writes this in plain differentiable
PyTorch and is what the layers mean. :class:`_Lean` computes the same values and gradients, keeping
nothing but the input (in its own type), one or two numbers for each set, and the weight. As in
:mod:`._core`, whatever differentiates or records operations in its own way sees the definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._core import (
    NOTHING,
    Then,
    differentiate,
    followed,
    gradients_see_operations,
    needs_plain_operations,
    per_channel,
    statistics_dtype,
)


@dataclass(frozen=True)
class Sets:
    """Which values of an image share their statistics, and which statistics they are.

    Attributes:
        axes: of (N, C, H, W), without N.
        centred: whether the mean is subtracted.
        unbiased: divide the sum of squares by n - 1, not by n.
    """

    axes: tuple[int, ...]
    centred: bool = True
    unbiased: bool = False

    def mean(self, t: Tensor) -> Tensor:
        """One value per set, in a shape that broadcasts."""
        return t.mean(self.axes, keepdim=True)

    def rescaled(self, mean: Tensor, x: Tensor) -> Tensor:
        """A sum over each set divided by the divisor, from its mean."""
        if not self.unbiased:
            return mean
        n = 1
        for axis in self.axes:
            n *= x.shape[axis]
        # In this order: n is a tensor of whole numbers where operations are recorded.
        return mean * n / (n - 1)


def standardize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    sets: Sets,
    eps: float | Tensor,
    then: Then = NOTHING,
) -> Tensor:
    """The formula above for ``x`` of shape (N, C, H, W), and what comes ``then``.

    Returns the output in the type and memory format of ``x``. An ``eps`` that is a tensor is
    learned, and costs what plain operations keep for backward.
    """
    if isinstance(eps, Tensor) or needs_plain_operations(x, weight, bias):
        return followed(definition(x, weight, bias, sets, eps), then)
    given = (x, weight, bias, sets, eps)
    y: Tensor = _Lean.apply(*given) if torch.is_grad_enabled() else _forward(*given)[0]  # type: ignore[no-untyped-call]
    return followed(y, then)


def definition(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, sets: Sets, eps: float | Tensor
) -> Tensor:
    """The readable definition: plain differentiable operations, see :func:`standardize`."""
    xs = x.to(statistics_dtype(x))
    if sets.centred:
        xs = xs - sets.mean(xs)
        xs = xs - sets.mean(xs).detach()  # 0 but for rounding, so its derivative is 0
    y = xs * torch.rsqrt(sets.rescaled(sets.mean(xs * xs), x) + eps)
    if weight is not None:
        y = y * per_channel(weight, xs.dtype)
    if bias is not None:
        y = y + per_channel(bias, xs.dtype)
    return y.to(x.dtype)


def _forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, sets: Sets, eps: float
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The output, and mean (None for 0) and 1 / sqrt(... + eps) of each set."""
    dtype = statistics_dtype(x)
    mean = None
    if sets.centred:
        mean = x.mean(sets.axes, keepdim=True, dtype=dtype)
        values = x - mean
        rest = sets.mean(values)
        values -= rest
        mean += rest
    else:
        values = x.to(dtype)
    rstd = torch.rsqrt(sets.rescaled(sets.mean(values * values), x) + eps)
    # What the set and the channel have in common is one factor where a channel is in one set.
    factor = rstd
    if weight is not None and rstd.shape[2] * rstd.shape[3] == 1:
        factor, weight = rstd * per_channel(weight, dtype), None
    y = values.mul_(factor) if sets.centred else values * factor
    if weight is not None:
        y.mul_(per_channel(weight, dtype))
    if bias is not None:
        y.add_(per_channel(bias, dtype))
    return y.to(x.dtype), mean, rstd


class _Lean(torch.autograd.Function):
    """:func:`definition` with a closed-form backward.

    With G = weight * g, r = 1 / sqrt(... + eps), xhat = (x - mean) * r and P the mean over a
    set, where P' divides by the divisor of the variance::

        dx = r * (G - P[G] - xhat * P'[G * xhat])

    without the P[G] where the mean is not subtracted. A second derivative goes through the
    definition.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, sets: Sets, eps: float
    ) -> Tensor:
        y, mean, rstd = _forward(x, weight, bias, sets, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.bias, ctx.sets, ctx.eps = bias, sets, eps
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * 5
        x, weight, mean, rstd = ctx.saved_tensors
        if gradients_see_operations(g):

            def output(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                return definition(x, weight, bias, ctx.sets, ctx.eps)

            return *differentiate(ctx, output, (x, weight, ctx.bias), g), None, None
        sets, dtype = ctx.sets, statistics_dtype(x)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        g = g.to(dtype)
        xhat = x * rstd if mean is None else (x - mean).mul_(rstd)
        both = g * xhat
        dx = dweight = dbias = None
        if needs_weight:
            dweight = both.sum((0, 2, 3)).to(weight.dtype)
        if needs_bias:
            dbias = g.sum((0, 2, 3)).to(ctx.bias.dtype)
        if needs_x:
            if weight is not None:
                w = per_channel(weight, dtype)
                g, both = g * w, both.mul_(w)
            # In the memory of xhat, for its format.
            dx = xhat.mul_(-sets.rescaled(sets.mean(both), x)).add_(g)
            if mean is not None:
                dx -= sets.mean(g)
            dx = dx.mul_(rstd).to(x.dtype)
        return dx, dweight, dbias, None, None
