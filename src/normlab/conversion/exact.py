"""Layers that compute the same as others of another kind."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..models import without_hooks
from ..norms import CATALOG, BatchInstanceNorm2d, NormChoice

TOLERANCE = 1e-10
"""Largest difference in float64 that counts as rounding: a share of the largest value, or of 1."""
_STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_KEPT = ("eps", "momentum")
"""Numbers that another layer takes over unless they are asked for."""


def same_layer(
    old: nn.Module, choice: NormChoice, channels: int, *, keep_eps: bool = True
) -> nn.Module | None:
    """A layer of the method that computes in evaluation what the old one does, for any input and
    any values of its weight and bias; None where there is no such layer.

    Eps and momentum are the old layer's unless the choice has its own, or they are not to be kept.
    Then running variances v turn one eps into the other: weight becomes weight
    sqrt((v + new eps) / (v + old eps)). Both layers are tried on the CPU in float64.

    Raises:
        ValueError: the method cannot be made for these channels.
    """
    kept = {name: getattr(old, name) for name in _KEPT if keep_eps and _is_kept(old, name)}
    options = {name: value for name, value in kept.items() if name not in choice.options}
    made = make(choice, channels, options)
    copy_state(old, made)
    take_eps(old, made)
    gates: tuple[float | None, ...] = (None,)
    if isinstance(made, BatchInstanceNorm2d) and not isinstance(old, BatchInstanceNorm2d):
        gates = (1.0, 0.0)
    for gate in gates:
        if gate is not None:
            nn.init.constant_(made.gate, gate)  # type: ignore[arg-type]
        if _agree(old, made, channels):
            return made
    return None


def make(choice: NormChoice, channels: int, options: dict[str, Any] | None = None) -> nn.Module:
    """A new layer with those of the further options that it takes."""
    known = CATALOG[choice.name].options if choice.name in CATALOG else {}
    fitting = {name: value for name, value in (options or {}).items() if name in known}
    return NormChoice(choice.name, {**choice.options, **fitting}).make(channels)


@torch.no_grad()
def copy_state(old: nn.Module, new: nn.Module) -> None:
    """Set weight, bias and running statistics of the new layer to the old one's, where both have
    them. One per element of an image becomes its mean per channel."""
    for name in _STATE:
        source, target = getattr(old, name, None), getattr(new, name, None)
        if isinstance(source, Tensor) and isinstance(target, Tensor):
            if source.dim() > target.dim():
                source = source.flatten(target.dim()).mean(-1)
            if source.shape == target.shape:
                target.copy_(source)


@torch.no_grad()
def take_eps(old: nn.Module, new: nn.Module) -> None:
    """Change the new layer's weight, which is the old one's, for its own eps; nothing is changed
    where the two have one eps, or no running variance and weight per channel."""
    variance, weight = (getattr(new, name, None) for name in ("running_var", "weight"))
    before, now = (getattr(one, "eps", None) for one in (old, new))
    if not (isinstance(before, float) and isinstance(now, float)) or before == now:
        return
    if isinstance(variance, Tensor) and isinstance(weight, Tensor):
        exact = variance.double()
        changed = weight.double() * ((exact + now) / (exact + before)).sqrt()
        made = changed.to(weight.dtype)
        if isinstance(weight, nn.Parameter):  # not in place: it may be the old one's own
            new.weight = nn.Parameter(made, weight.requires_grad)
        else:
            new.weight = made


@torch.no_grad()
def _agree(old: nn.Module, new: nn.Module, channels: int) -> bool:
    pair = [without_hooks(copy.deepcopy(one)).cpu().double().eval() for one in (old, new)]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for name in ("weight", "bias"):
        first, second = (getattr(one, name, None) for one in pair)
        if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
            continue
        if first.shape == second.shape:
            # A weight of 0 would make any two layers agree.
            values = draw(channels) + 2
            first.copy_(values)
            second.copy_(values)
    take_eps(*pair)
    shape = getattr(old, "normalized_shape", ())
    height, width = tuple(shape)[1:] if len(shape) == 3 else (5, 6)
    x = draw(4, channels, height, width) * draw(4, channels, 1, 1).exp() + 3 * draw(
        4, channels, 1, 1
    )
    try:
        expected, found = (one(x) for one in pair)
        scale = max(1.0, float(expected.abs().max()))
        return bool((expected - found).abs().max() <= TOLERANCE * scale)
    except Exception:  # a layer of one's own may refuse any input
        return False


def _is_kept(old: nn.Module, name: str) -> bool:
    value = getattr(old, name, "")
    if value is None:
        return name == "momentum"  # the plain average of all batches
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@torch.no_grad()
def plain_convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """The plain convolution that computes the same as one with ``effective_weight()``."""
    made = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        bias=False,
        padding_mode=layer.padding_mode,
        device="meta",
    )
    weight: Tensor = layer.effective_weight()  # type: ignore[operator]
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = layer.bias
    return made
