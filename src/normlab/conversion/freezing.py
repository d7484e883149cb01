"""Batch normalization as it is in evaluation, put in the place of layers that still learn."""

from __future__ import annotations

import copy

from torch import nn

from ..errors import InputError
from ..models import exchanged
from ..norms import FrozenBatchNorm2d
from ._affine import AS_BATCH_NORM

_BATCH_NORM: tuple[type[nn.Module], ...] = (nn.modules.batchnorm._BatchNorm, *AS_BATCH_NORM)
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def freeze(model: nn.Module, *, trainable: bool = False, inplace: bool = False) -> nn.Module:
    """Put :class:`normlab.norms.FrozenBatchNorm2d` at every batch normalization of a network.

    The statistics are those that the layers have now, for good: what the network computes is what
    it computed in evaluation, and ``train()`` does not change it. It takes ``torch.nn.BatchNorm2d``
    and ``SyncBatchNorm`` and the layers of this package that are batch normalization in evaluation
    (synchronized, ghost, extended, batch renormalization). A layer that stands at several places of
    the network stays one layer, and hooks on a layer are hooks on the one in its place. Modes and
    all other modules stay as they are.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    >>> freeze(network)[1]
    FrozenBatchNorm2d(8, eps=1e-05)
    >>> type(network[1]) is nn.BatchNorm2d
    True

    Args:
        model: a network, or a single layer.
        trainable: leave ``weight`` and ``bias`` trainable: the same parameters, with their
            ``requires_grad``. Otherwise they are buffers, as the statistics are.
        inplace: change this network, and return it. Otherwise a copy is changed. A single layer is
            always replaced, never changed.

    Raises:
        InputError: no batch normalization; one without running statistics; one of another
            dimension, or a class of its own, whose function is not known. Nothing is changed then.
    """
    found: dict[str, nn.Module] = {
        name or type(layer).__name__: layer
        for name, layer in model.named_modules()
        if isinstance(layer, _BATCH_NORM)
    }
    if not found:
        raise InputError(
            f"{type(model).__name__} has no batch normalization, so there is nothing to freeze."
        )
    for name, layer in found.items():
        _check(name, layer)
    if not inplace:
        model = copy.deepcopy(model)
    layers = [layer for layer in model.modules() if isinstance(layer, AS_BATCH_NORM)]
    made: dict[int, nn.Module] = {id(layer): _frozen(layer, trainable) for layer in layers}
    return made[id(model)] if id(model) in made else exchanged(model, made)


def _check(name: str, layer: nn.Module) -> None:
    if type(layer) not in AS_BATCH_NORM:
        raise InputError(
            f"{name} is {type(layer).__name__}, which is not frozen: only batch normalization of "
            "images (N, C, H, W) is, and no class derived from it. Nothing was changed."
        )
    if layer.running_mean is None or layer.running_var is None:
        raise InputError(
            f"{name} has no running statistics: in evaluation it uses those of the batch, which "
            "cannot be frozen. Nothing was changed."
        )


def _frozen(layer: nn.Module, trainable: bool) -> FrozenBatchNorm2d:
    made = FrozenBatchNorm2d.from_batch_norm(layer, trainable=trainable).train(layer.training)
    for name in _HOOKS:
        made.__dict__[name] = layer.__dict__[name]
    return made
