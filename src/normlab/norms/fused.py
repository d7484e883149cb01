"""A layer with the sum and the ReLU that follow it, in one pass where layers are compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import kernels, recompute
from ._base import Norm2d
from ._core import behind_relu, needs_plain_operations
from .methods.batch import BatchNorm2d
from .methods.batch_instance import BatchInstanceNorm2d
from .methods.batch_renorm import BatchRenorm2d
from .methods.evonorm import ChannelAffine2d
from .methods.filter_response import FilterResponseNorm2d
from .methods.frozen_batch import FrozenBatchNorm2d
from .methods.group import GroupNorm2d
from .methods.instance import InstanceNorm2d
from .methods.layer import LayerNormCHW
from .methods.rms import RMSNormCHW
from .methods.sync_batch import SyncBatchNorm2d

_THROUGH_THE_CORE = {
    BatchNorm2d,
    InstanceNorm2d,
    BatchInstanceNorm2d,
    LayerNormCHW,
    GroupNorm2d,
    SyncBatchNorm2d,
    BatchRenorm2d,
    FrozenBatchNorm2d,
    RMSNormCHW,
    FilterResponseNorm2d,
    ChannelAffine2d,
}


def norm_relu(
    norm: nn.Module, relu: nn.Module, x: Tensor, residual: Tensor | None = None
) -> Tensor:
    """``relu(norm(x) + residual)``, or ``relu(norm(x))``.

    Where compiled kernels are in use, the layers of this package take the sum and the ReLU into
    their own pass. After any other layer, PyTorch's and the identity included, the sum and the ReLU
    are one pass, so that no arm has less than another but for its layer. Where memory is saved
    (:mod:`.recompute`), the layers take the sum and the ReLU into what is computed again. Where
    anybody wants to see one of the modules (hooks, a type or a ``forward`` of one's own, whatever
    records operations) it is called by itself.

    >>> norm_relu(GroupNorm2d(4, groups=2), nn.ReLU(), torch.zeros(1, 4, 2, 2)).shape
    torch.Size([1, 4, 2, 2])
    """
    compiled = kernels.in_use() is not None
    plain = (compiled or recompute.is_on()) and _is_plain_relu(relu)
    if plain and _can_take_more(norm) and _is_ordinary(x, residual):
        assert isinstance(norm, Norm2d)
        return norm.with_relu(x, residual)
    y = norm(x)
    if residual is not None:
        # A ReLU alone is one pass already.
        if compiled and plain and _is_ordinary(y, residual) and kernels.accepts(y):
            added = kernels.laid_out_as(y, residual)
            if added is not None:
                return _add_relu(y, added)
        y = y + residual
    out: Tensor = relu(y)
    return out


def is_computed_again(norm: nn.Module) -> bool:
    """Whether such a layer's output is computed again where memory is saved."""
    # An eps that is learned goes past the core.
    return type(norm) in _THROUGH_THE_CORE and norm._parameters.get("extra_eps") is None


def _can_take_more(norm: nn.Module) -> bool:
    return is_computed_again(norm) and _is_unwatched(norm)


def _is_ordinary(x: object, residual: Tensor | None) -> bool:
    return isinstance(x, Tensor) and not needs_plain_operations(x, residual)


def _is_plain_relu(relu: nn.Module) -> bool:
    watched = nn.modules.module
    return (
        type(relu) is nn.ReLU
        and _is_unwatched(relu)
        and not (
            watched._global_forward_hooks
            or watched._global_forward_pre_hooks
            or watched._global_backward_hooks
            or watched._global_backward_pre_hooks
        )
    )


def _is_unwatched(module: nn.Module) -> bool:
    """Whether calling its ``forward`` is all that calling a module would do."""
    own = module.__dict__
    return "forward" not in own and not (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
    )


def _add_relu(x: Tensor, residual: Tensor) -> Tensor:
    out: Tensor = _AddReLU.apply(x, residual)  # type: ignore[no-untyped-call]
    return out


class _AddReLU(torch.autograd.Function):
    """ReLU(x + residual) in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor) -> Tensor:
        chosen = kernels.in_use()
        assert chosen is not None
        y = chosen.add_relu(x, residual)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            before = behind_relu(g, y)
        else:
            before = torch.ops.aten.threshold_backward(g, y, 0)
        return before, before
