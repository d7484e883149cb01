"""Functions of single values, scaled and shifted: backward in few passes.

:func:`definition` is what is meant. :class:`_Lean` computes the same values and gradients, and
eager mode uses it; whatever differentiates twice, batches or records operations in its own way gets
the definition, as in :mod:`._core`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ._core import (
    differentiate,
    gradients_see_operations,
    needs_plain_operations,
    per_channel,
)

Squashing = Callable[[Tensor], Tensor]
"""``torch.tanh`` or ``torch.erf``."""


def squashed(
    function: Squashing,
    x: Tensor,
    alpha: Tensor,
    shift: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """``weight * function(alpha * x + shift) + bias`` with one ``alpha`` and one ``shift`` for all
    values, and ``weight`` and ``bias`` per channel, in the type of ``x``."""
    if needs_plain_operations(x, alpha, shift, weight, bias):
        return definition(function, x, alpha, shift, weight, bias)
    y: Tensor = _Lean.apply(x, alpha, shift, weight, bias, function)  # type: ignore[no-untyped-call]
    return y


def definition(
    function: Squashing,
    x: Tensor,
    alpha: Tensor,
    shift: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """The same in plain differentiable operations."""
    z = x * alpha.to(x.dtype)
    z = z if shift is None else z + shift.to(x.dtype)
    y = function(z)
    y = y if weight is None else y * per_channel(weight, x.dtype)
    return y if bias is None else y + per_channel(bias, x.dtype)


class _Lean(torch.autograd.Function):
    """Keeps the input and what the function made of it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        alpha: Tensor,
        shift: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        function: Squashing,
    ) -> Tensor:
        t = definition(function, x, alpha, shift, None, None)
        ctx.save_for_backward(x, alpha, shift, weight, bias, t)
        ctx.function = function
        y = t if weight is None else t * per_channel(weight, x.dtype)
        if bias is not None:
            return y + per_channel(bias, x.dtype) if y is t else y.add_(per_channel(bias, x.dtype))
        return y.clone() if y is t else y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, shift, weight, bias, t = ctx.saved_tensors
        if gradients_see_operations(g):
            given = (x, alpha, shift, weight, bias)
            return *differentiate(ctx, partial(definition, ctx.function), given, g), None
        needs_x, needs_alpha, needs_shift, needs_weight, needs_bias = ctx.needs_input_grad[:5]
        over = (0, 2, 3)
        d_weight = (g * t).sum(over).to(weight.dtype) if needs_weight else None
        d_bias = g.sum(over).to(bias.dtype) if needs_bias else None
        if not (needs_x or needs_alpha or needs_shift):
            return None, None, None, d_weight, d_bias, None
        g = g if weight is None else g * per_channel(weight, x.dtype)
        if ctx.function is torch.tanh:
            h = torch.ops.aten.tanh_backward(g, t)
        else:
            z = x * alpha.to(x.dtype)
            z = z if shift is None else z.add_(shift.to(x.dtype))
            h = z.square_().neg_().exp_().mul_(2 / math.sqrt(math.pi)).mul_(g)
        d_alpha = (h * x).sum().to(alpha.dtype).view_as(alpha) if needs_alpha else None
        d_shift = h.sum().to(shift.dtype).view_as(shift) if needs_shift else None
        d_x = h.mul_(alpha.to(x.dtype)) if needs_x else None
        return d_x, d_alpha, d_shift, d_weight, d_bias, None
