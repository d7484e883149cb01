"""Two layers in bfloat16: is one further from the exact result than rounding explains?

A network amplifies rounding, and bfloat16 rounds coarsely, so the outputs of whole networks say
nothing. Each site's layer is compared by itself, on what the reference's network feeds it: both
layers under autocast, as runs use them, against the reference in float64 on the same input.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..data import DataSet, DeviceSplit
from ..runs import RunConfig
from ..training import build

UNIT = 2.0**-9
"""Half the spacing of bfloat16 at 1: what one rounding costs at most, as a share of a value."""
SHIFT = 0.2
"""Standard deviation of what is added to the affine parameters, which start where faults hide."""


def errors_in_bfloat16(pair: tuple[RunConfig, RunConfig], data: DataSet) -> dict[str, float]:
    """Of output, gradients, buffers and evaluation output, the arm's largest error at any site.

    An error is the root mean square of the difference from float64, divided by that of the exact
    values, in units of the reference's own error or ``UNIT``, whichever is larger.

    Args:
        pair: configurations of the reference and the arm, whose parameters have the same names.
        data: whose training images go through the network.
    """
    config = pair[0]
    built = [build(each, data) for each in pair]
    reference, arm = (one.model for one in built)
    names = [site.name for site in built[0].sites]
    _shift([reference.get_submodule(name) for name in names])
    with torch.no_grad():
        theirs = dict(arm.named_parameters())
        for name, parameter in reference.named_parameters():
            theirs[name].copy_(parameter)
    split = DeviceSplit(data, "train", config.device)
    x, _ = split.batch(range(min(config.batch_size, len(split))))
    largest: dict[str, float] = {}
    for name, fed in _fed(reference, names, x).items():
        layers = reference.get_submodule(name), arm.get_submodule(name)
        # In one precision after the other, from the same state.
        exact = _computed(copy.deepcopy(layers[0]).double(), fed.double(), autocast=False)
        known, found = (_computed(copy.deepcopy(layer), fed, autocast=True) for layer in layers)
        for quantity in exact:
            if quantity in found:
                scale = max(UNIT, _error(known[quantity], exact[quantity]))
                error = _error(found[quantity], exact[quantity]) / scale
                kind = quantity.partition(":")[0]
                largest[kind] = max(largest.get(kind, 0.0), error)
    return largest


@torch.no_grad()
def _shift(layers: Sequence[nn.Module]) -> None:
    generator = torch.Generator().manual_seed(0)
    for layer in layers:
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(SHIFT * noise.to(parameter))


@torch.no_grad()
def _fed(model: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, Tensor]:
    """What goes into each site in training, under autocast. Buffers stay as they are."""
    model = copy.deepcopy(model).train()
    fed: dict[str, Tensor] = {}

    def kept(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            fed[name] = inputs[0].detach().clone()

        return keep

    for name in names:
        model.get_submodule(name).register_forward_pre_hook(kept(name))
    with torch.autocast(x.device.type, torch.bfloat16):
        model(x)
    return fed


def _computed(layer: nn.Module, x: Tensor, *, autocast: bool) -> dict[str, Tensor]:
    """Output and gradients in training, buffers after it, and the output in evaluation."""
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    gradient = gradient.bfloat16().to(x.device)
    x = x.clone().requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
        y = layer.train()(x + 0)
    y.backward(gradient.to(y.dtype))
    assert x.grad is not None
    found = {"output": y.detach(), "gradients:input": x.grad}
    for name, parameter in layer.named_parameters():
        if parameter.grad is not None:
            found[f"gradients:{name}"] = parameter.grad
    for name, buffer in layer.named_buffers():
        if buffer.is_floating_point():
            found[f"buffers:{name}"] = buffer.detach().clone()
    with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
        found["evaluation output"] = layer.eval()(x.detach())
    return found


def _error(found: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference, as a share of that of the exact values."""
    difference = float((found.double() - exact).square().mean().sqrt())
    size = float(exact.square().mean().sqrt())
    error = difference / max(size, 1e-12)
    return math.inf if math.isnan(error) else error
