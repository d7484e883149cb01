"""The layers of a network in the order in which they compute, each with what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from ..errors import InputError
from ..models import norm_layers
from .watching import tensors_in, watch

_NORMS = (_NormBase, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Part:
    """A module with tensors of its own.

    Attributes:
        path: of the module.
        whole: whether all that is within the module counts, or its own tensors alone.
        weight: name of its first parameter of two or more dimensions, which makes it a layer; empty
            for what belongs to a layer, such as a normalization.
    """

    path: str
    whole: bool
    weight: str

    def modules(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Paths and modules that have these tensors."""
        top = model.get_submodule(self.path)
        for path, module in top.named_modules(prefix=self.path):
            if module._parameters or (self.whole and module._buffers):
                yield path, module
            if not self.whole:
                return

    def tensors(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Names in the network, and parameters and buffers."""
        module = model.get_submodule(self.path)
        yield from module.named_parameters(self.path, self.whole)
        yield from module.named_buffers(self.path, self.whole)


@dataclass(frozen=True)
class Layer:
    """A layer with the normalization and activation that follow it.

    Attributes:
        name: the layer's path; names of parameters, where the network itself has them.
        parts: the layer and what belongs to it.
    """

    name: str
    parts: tuple[Part, ...]


def layers_of(model: nn.Module, x: Tensor) -> tuple[Layer, ...]:
    """The layers that the logits depend on, in the order of their first calls in a forward pass.

    A layer is a convolution, a linear layer, or any module with a parameter of two or more
    dimensions. Other modules with parameters or statistics, such as normalizations, belong to the
    layer whose output they take. Where operations stand between, it is the layer with the fewest;
    of several, one in the same module, or else the last one called. What takes no layer's output is
    one by itself. What a module around others has of its own, such as the scale of a block, belongs
    to the layer called last within. A module that is not called, but used by the one around it,
    belongs to that one.

    Args:
        model: the network. Gradients of all its parameters are turned on.
        x: normalized images, of which the first is used.

    Raises:
        InputError: a parameter that the logits depend on, of a module that is never called; logits
            that depend on no parameter by their graph.
    """
    model.requires_grad_(True)
    calls, logits = watch(model, x[:1])
    parts = {part.path: part for part in _parts(model)}
    begun: dict[str, int] = {}
    for call in calls:
        begun[call.path] = min(call.entered, begun.get(call.path, call.entered))
    members: dict[str, list[Part]] = {}
    home: dict[str, str] = {}  # of a part: the layer that it belongs to
    source: dict[Any, str] = {}  # of a node of the graph: the layer that it comes from
    latest = ""
    for call in calls:
        if not (part := parts.get(call.path)):
            continue
        if call.path not in home:
            nodes = [one.grad_fn for one in call.inputs if one.grad_fn is not None]
            near = _nearest(nodes, source)
            # What is around other modules takes another input than what its own tensors do.
            before = latest if not part.whole else max(
                near, key=lambda name: (_beside(name, part.path), begun[name]), default=""
            )  # fmt: skip
            home[call.path] = call.path if part.weight else before or call.path
            members.setdefault(home[call.path], []).append(part)
        latest = home[call.path]
        for tensor in tensors_in(call.output):
            if tensor.grad_fn is not None:
                source.setdefault(tensor.grad_fn, latest)
    for path in parts.keys() - home.keys():
        around = path.rpartition(".")[0]
        while around and around not in begun:
            around = around.rpartition(".")[0]
        if around:
            name = home.get(around, path)
            begun.setdefault(path, begun[around])
            members.setdefault(name, []).append(parts[path])
    used = _used(model, logits)
    tensors = {
        name: {id(tensor) for part in own for _, tensor in part.tensors(model)}
        for name, own in members.items()
    }
    if lost := used.keys() - set().union(*tensors.values()):
        names = sorted(used[one] for one in lost)
        raise InputError(
            f"The network uses {', '.join(names[:3])} without calling the module that has it, so "
            "its layers cannot be put in order. Call the module in forward."
        )
    return tuple(
        Layer(name or ", ".join(n for n, _ in model.named_parameters(recurse=False)),
              tuple(members[name]))
        for name in sorted(members, key=lambda name: begun[name])
        if tensors[name] & used.keys()
    )  # fmt: skip


def _nearest(nodes: list[Any], source: dict[Any, str]) -> set[str]:
    """The layers that the graph behind these nodes leads to with the fewest operations between."""
    seen = set(nodes)
    while nodes:
        if found := {source[node] for node in nodes if node in source}:
            return found
        behind = [one for node in nodes for one, _ in node.next_functions if one is not None]
        nodes = [one for one in dict.fromkeys(behind) if one not in seen]
        seen.update(nodes)
    return set()


def _beside(one: str, other: str) -> bool:
    """Whether two modules are registered in the same one."""
    return one.rpartition(".")[0] == other.rpartition(".")[0]


def _parts(model: nn.Module) -> Iterator[Part]:
    norms = {one.paths[0] for one in norm_layers(model)}
    within = ""
    for path, module in model.named_modules():
        if within and path.startswith(within):
            continue
        layer = isinstance(module, (_ConvNd, nn.Linear))
        norm = path in norms or isinstance(module, _NORMS) or "running_mean" in module._buffers
        if not (layer or norm or module._parameters):
            continue
        whole = layer or norm
        if whole:
            within = f"{path}."
        named = [] if norm else list(module.named_parameters(path, whole))
        wide = [name for name, one in named if sum(size > 1 for size in one.shape) > 1]
        if layer and not wide:
            wide = [name for name, _ in named]
        yield Part(path, whole, wide[0] if wide else "")


def _used(model: nn.Module, logits: Tensor) -> dict[int, str]:
    """Names of the parameters that the logits depend on, by their ids."""
    named = dict(model.named_parameters())
    if not named or not logits.requires_grad:
        raise InputError(
            f"The logits of {type(model).__name__} have no gradient by any weight, so its layers "
            "are not known. Do not turn gradients off in forward."
        )
    gradients = torch.autograd.grad(logits.sum(), list(named.values()), allow_unused=True)
    return {
        id(parameter): name
        for (name, parameter), gradient in zip(named.items(), gradients, strict=True)
        if gradient is not None
    }
