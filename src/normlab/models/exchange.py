"""Normalization layers of any network: where they stand, and others in their place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import is_parametrized

from ..errors import InputError
from ..norms import FrozenBatchNorm2d, Norm2d

_FROZEN = ("weight", "bias", "running_mean", "running_var")
_OF_MODULES = frozenset(vars(nn.Module()))
_HOOKS = tuple(sorted(name for name in _OF_MODULES if "hook" in name))
"""What modules keep of hooks, of which PyTorch has many kinds."""


@dataclass(frozen=True, eq=False)
class NormLayer:
    """A normalization layer of a network.

    Attributes:
        paths: every path at which it stands. A shared layer has several.
        layer: the module.
        channels: C of the (N, C, H, W) that it takes.
    """

    paths: tuple[str, ...]
    layer: nn.Module
    channels: int


@dataclass(frozen=True)
class OtherLayer:
    """A layer that has to do with normalization but is none of images (N, C, H, W).

    Attributes:
        path: its first path.
        layer: its class.
        reason: why it is not one.
    """

    path: str
    layer: str
    reason: str


class NormActivation(nn.Module):
    """A normalization with the activation that a fused layer had: ``act(drop(norm(x)))``."""

    def __init__(self, norm: nn.Module, drop: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.norm, self.drop, self.act = norm, drop, act

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(self.norm(x)))
        return y


def norm_layers(model: nn.Module) -> tuple[NormLayer, ...]:
    """Every normalization layer of images, in the order of registration, each once.

    These are batch, group and instance norms of torch.nn and their subclasses, layer norms of
    images (over C, H and W, or a subclass whose name ends in ``2d``), frozen batch norms of any
    origin (four buffers and no parameters), and all layers of :mod:`normlab.norms`. What a layer
    is made of is its own affair.

    >>> [one.paths for one in norm_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8)))]
    [('1',)]

    Raises:
        InputError: a layer whose size is not known before its first input.
    """
    found: dict[int, tuple[list[str], nn.Module, int]] = {}
    for path, module in _outermost(model):
        channels = _channels(path, module)
        if channels:
            found.setdefault(id(module), ([], module, channels))[0].append(path)
    return tuple(NormLayer(tuple(paths), layer, c) for paths, layer, c in found.values())


def other_layers(model: nn.Module) -> tuple[OtherLayer, ...]:
    """What is normalization, or looks like it, and is not among :func:`norm_layers`.

    >>> [one.layer for one in other_layers(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2)))]
    ['LayerNorm']
    """
    found: dict[int, OtherLayer] = {}
    for path, module in _outermost(model):
        if not _channels(path, module) and (reason := _reason(module)):
            found.setdefault(id(module), OtherLayer(path, type(module).__name__, reason))
    return tuple(found.values())


def is_fused(layer: nn.Module) -> bool:
    """Whether a normalization layer has an activation within, as timm's ``BatchNormAct2d``."""
    return isinstance(getattr(layer, "act", None), nn.Module)


def split_fused(model: nn.Module) -> nn.Module:
    """The network with every fused layer as a :class:`NormActivation`, whose ``norm`` is plain and
    has the same tensors. The network is changed.

    Raises:
        InputError: a fused layer that cannot be taken apart.
    """
    found = [one for one in norm_layers(model) if is_fused(one.layer)]
    made = exchanged(model, {id(one.layer): _parted(one) for one in found})
    said = getattr(made, "normalization_sites", None)
    if isinstance(said, dict):  # see sites.declared
        paths = {path for one in found for path in one.paths}
        sites = {f"{path}.norm" if path in paths else path: count for path, count in said.items()}
        made.normalization_sites = sites  # type: ignore[assignment]
    return made


def exchanged(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """The network with other modules in the place of some, given by their ids.

    Every reference is exchanged: wherever a shared module is registered, and where a module has
    it in an attribute that is a list, tuple or dictionary. The network is changed; only where it is
    one of those modules itself, another is returned.
    """
    for module in list(model.modules()):
        for name, child in module._modules.items():
            module._modules[name] = new.get(id(child), child)
        own = vars(module)
        for name in own.keys() - _OF_MODULES:
            own[name] = _with(own[name], new)
    return new.get(id(model), model)


def carry_over(old: nn.Module, new: nn.Module) -> nn.Module:
    """The new module with hooks and mode of the old one, and with parameters that need gradients
    where the old ones of the same name do. Hooks that the new module has come after them."""
    for name in _HOOKS:
        hooks = getattr(old, name)
        if isinstance(hooks, dict):
            hooks.update(getattr(new, name))
        setattr(new, name, hooks)
    for name, parameter in new.named_parameters(recurse=False):
        known = old._parameters.get(name)
        if known is not None:
            parameter.requires_grad_(known.requires_grad)
    # Not train() of the layer, which some override: modes may differ within a network on purpose.
    for module in new.modules():
        module.training = old.training
    return new


def without_hooks(model: nn.Module) -> nn.Module:
    """The network with no hook left. It is changed."""
    for module in model.modules():
        for name in _HOOKS:
            if isinstance(hooks := getattr(module, name), dict):
                hooks.clear()
    return model


def _outermost(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every path and module, without what is inside of a normalization layer."""
    inside: list[str] = []
    for path, module in model.named_modules(remove_duplicate=False):
        if inside and path.startswith(inside[-1]):
            continue
        yield path, module
        if _channels(path, module):
            # Paths come parent first, so one prefix at a time is enough.
            inside.append(f"{path}." if path else "")


def _channels(path: str, module: nn.Module) -> int:
    """Channels of a normalization layer of images; 0 for any other module."""
    if isinstance(module, nn.modules.lazy.LazyModuleMixin) and isinstance(module, _NormBase):
        raise InputError(
            f"{path or 'The network'} is {type(module).__name__}, which does not know its channels "
            "yet. Put one batch through the network first."
        )
    if isinstance(module, Norm2d):
        return module.channels
    if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d)):
        return int(module.num_features)
    if isinstance(module, nn.GroupNorm):
        return int(module.num_channels)
    if isinstance(module, nn.LayerNorm):
        shape = module.normalized_shape
        of_pixels = type(module) is not nn.LayerNorm and type(module).__name__.endswith("2d")
        return int(shape[0]) if len(shape) == 3 or (len(shape) == 1 and of_pixels) else 0
    buffers = module._buffers
    if set(_FROZEN) <= buffers.keys() and not any(True for _ in module.parameters()):
        sizes = {None if (b := buffers[name]) is None else tuple(b.shape) for name in _FROZEN}
        size = sizes.pop()
        return int(size[0]) if not sizes and size is not None and len(size) == 1 else 0
    return 0


def _reason(module: nn.Module) -> str:
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return "normalizes the last axes of its input, not images (N, C, H, W)"
    if isinstance(module, _NormBase):
        return "is not of images (N, C, H, W)"
    if isinstance(module, nn.LocalResponseNorm):
        return "does not say for how many channels it is"
    if isinstance(module._buffers.get("running_mean"), Tensor):
        return "has running statistics, but is of no known kind"
    return ""


def _with(value: Any, new: Mapping[int, nn.Module], depth: int = 3) -> Any:
    if isinstance(value, nn.Module):
        return new.get(id(value), value)
    if depth and type(value) is list:
        value[:] = [_with(one, new, depth - 1) for one in value]
    elif depth and type(value) in (dict, OrderedDict):
        for key in value:
            value[key] = _with(value[key], new, depth - 1)
    elif depth and type(value) is tuple:
        return tuple(_with(one, new, depth - 1) for one in value)
    return value


def _parted(found: NormLayer) -> NormActivation:
    layer, path = found.layer, found.paths[0]
    drop, act = getattr(layer, "drop", None), layer.get_submodule("act")
    others = {name for name, _ in layer.named_children()} - {"drop", "act"}
    norm: nn.Module | None = None
    if isinstance(layer, (nn.BatchNorm2d, nn.SyncBatchNorm)):
        kind = nn.SyncBatchNorm if isinstance(layer, nn.SyncBatchNorm) else nn.BatchNorm2d
        # Made without memory, since it gets the layer's own tensors.
        norm = kind(
            found.channels, layer.eps, layer.momentum, layer.affine, layer.track_running_stats,
            device="meta",
        )  # fmt: skip
    elif isinstance(layer, nn.GroupNorm):
        norm = nn.GroupNorm(
            layer.num_groups, found.channels, layer.eps, layer.affine, device="meta"
        )
    elif set(_FROZEN) <= layer._buffers.keys():
        norm = FrozenBatchNorm2d(found.channels, getattr(layer, "eps", 1e-5), device="meta")
    if others or norm is None or is_parametrized(layer):
        raise InputError(
            f"{path} is {type(layer).__name__}, a normalization with an activation within that "
            "cannot be taken apart. Put two modules in its place."
        )
    for name, parameter in layer._parameters.items():
        norm.register_parameter(name, parameter)
    for name, buffer in layer._buffers.items():
        norm.register_buffer(name, buffer)
    norm.training = layer.training
    made = NormActivation(norm, drop if isinstance(drop, nn.Module) else nn.Identity(), act)
    modes = [(module, module.training) for module in made.modules()]
    carry_over(layer, made)
    for module, mode in modes:
        module.training = mode
    made.training = layer.training
    return made


def like(old: nn.Module, model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and type of a layer's tensors; of the network's, where it has none."""
    for module in (old, model):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.get_default_dtype()
