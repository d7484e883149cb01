"""What a layer that is not ours needs of the network around it: input of one memory format."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from ..norms import NormChoice, parse_norm
from .drawing import drawn_by

SHAPE = (4, 16, 8, 8)
"""Of the input that it is tried with."""
ALIKE = 1e-3
"""Largest difference between the two formats that is rounding, as a share of the largest value."""

_known: weakref.WeakKeyDictionary[type, dict[str, bool]] = weakref.WeakKeyDictionary()


def make_layer(
    norm: str | NormChoice, channels: int, part: type[nn.Module] | None = None
) -> nn.Module:
    """A normalization as the network has it, or another part of the method.

    Raises:
        ValueError: it cannot be made.
    """
    choice = parse_norm(norm) if isinstance(norm, str) else norm
    made = choice.make(channels) if part is None else choice.make_part(part, channels)
    return _prepared(made, choice, part)


def _prepared(
    layer: nn.Module, choice: NormChoice, part: type[nn.Module] | None = None
) -> nn.Module:
    """Let a layer of a person's own have contiguous input, and contiguous gradients, if it needs
    them; the network works in channels_last.

    A layer that calls ``x.view(n, groups, -1)`` fails in channels_last, and one that reads memory
    by itself computes something else. Which one does is tried once. Names and state stay as they
    are.
    """
    if choice.custom and _known_to_need_contiguous(choice, type(layer), part):
        layer.register_forward_pre_hook(_contiguous_input)
        layer.register_forward_hook(_contiguous_gradient)
    return layer


def takes_contiguous(model: nn.Module) -> nn.Module:
    """The network, which takes images of any memory format from now on and works in contiguous
    memory, as people write networks."""
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if not has_contiguous_input(model):
        model.register_forward_pre_hook(_contiguous_input)
    return model


def has_contiguous_input(layer: nn.Module) -> bool:
    """Whether :func:`make_layer` found that the layer needs it."""
    return _contiguous_input in layer._forward_pre_hooks.values()


def _known_to_need_contiguous(choice: NormChoice, kind: type, part: type[nn.Module] | None) -> bool:
    """Tried once for a class and its options; a class that was reloaded is another."""
    known = _known.setdefault(kind, {})
    options = repr(sorted(choice.options.items()))
    if options not in known:
        known[options] = _needs_contiguous(choice, part)
    return known[options]


def _needs_contiguous(choice: NormChoice, part: type[nn.Module] | None) -> bool:
    try:
        last = _tried(choice, part, torch.channels_last, 0)
    except Exception:
        return True  # without it nothing is lost, if it fails then too
    try:
        plain = _tried(choice, part, torch.contiguous_format, 0)
        again = _tried(choice, part, torch.contiguous_format, 1)
    except Exception:
        return False
    if not _alike(plain, again):
        return False  # it draws, and draws follow the memory
    return not _alike(plain, last)


def _tried(
    choice: NormChoice, part: type[nn.Module] | None, form: torch.memory_format, draw: int
) -> tuple[Any, Any]:
    """Output and gradient of the input, in training."""
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(SHAPE, generator=generator).contiguous(memory_format=form)
            for _ in range(2))  # fmt: skip
    layer = _made(choice, part).train()
    x.requires_grad_()
    with drawn_by(draw, "tried"), torch.enable_grad():
        y = layer(x + 0)
        (grad,) = torch.autograd.grad(y, x, g)
    return y.detach(), grad


def _made(choice: NormChoice, part: type[nn.Module] | None) -> nn.Module:
    with drawn_by(0, "made"):
        return choice.make(SHAPE[1]) if part is None else choice.make_part(part, SHAPE[1])


def _alike(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> bool:
    return all(
        bool(((a - b).abs().max() <= ALIKE * a.abs().max()).item())
        for a, b in zip(one, two, strict=True)
    )


def _contiguous_input(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_as_plain(x) if isinstance(x, Tensor) else x for x in inputs)


def _as_plain(x: Tensor) -> Tensor:
    """Contiguous, also by its strides: of one channel, both formats are contiguous, and what is
    computed of it goes by the strides."""
    plain = x.contiguous()
    strides = torch.empty(x.shape, device="meta").stride()
    return plain if plain.stride() == strides else x.clone(memory_format=torch.contiguous_format)


def _contiguous_gradient(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
    if isinstance(output, Tensor) and output.requires_grad:
        output.register_hook(_as_contiguous)  # type: ignore[no-untyped-call]


def _as_contiguous(gradient: Tensor) -> Tensor:
    return gradient.contiguous()
