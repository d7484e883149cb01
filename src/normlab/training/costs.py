"""What a method costs at a place of the network, measured on its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..norms import NormChoice, Place, parse_norm
from ..norms.fused import norm_relu
from ..norms.kernels import computed_by
from .memory import kept_for_backward

_WIDTHS = (16, 32, 64)
_BATCH, _SIDE = 8, 12
"""Large enough for a map's statistics to be few beside its values."""


@dataclass(frozen=True)
class Cost:
    """What a convolution with a method's parts costs more than one with a ReLU alone.

    Attributes:
        per_channel: parameters for each channel.
        other: parameters that do not depend on the number of channels. Where parameters do not
            grow linearly, all of those at 64 channels.
        forward, backward: operations of PyTorch that read or write a whole activation. Compiled
            kernels need fewer.
        kept: activations that stay in memory for backward, beyond those that plain convolutions
            and a ReLU keep.
    """

    per_channel: float
    other: float
    forward: int
    backward: int
    kept: float


def cost(norm: str, place: Place) -> Cost:
    """Measure a method at a place: ``inner``, with an activation after it, or ``last``, with the
    sum and what stands after that.

    Operations are counted as PyTorch dispatches them, views left out; those over parts of an
    activation, of a quarter or more, count as these parts. Bytes are those that autograd
    keeps (:func:`.memory.kept_for_backward`), in float32.

    >>> cost("bn", Place("inner")).per_channel
    2.0
    """
    choice = parse_norm(norm)
    with computed_by(None), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = [_parameters(choice, place, width) for width in _WIDTHS]
        with_it, alone = _Site(choice, place), _Site(None, place)
        forward, backward = (a - b for a, b in zip(with_it.passes(), alone.passes(), strict=True))
        kept = (with_it.kept() - alone.kept()) / with_it.activation
    per_channel = (found[-1] - found[0]) / (_WIDTHS[-1] - _WIDTHS[0])
    other = found[0] - per_channel * _WIDTHS[0]
    if found[1] != per_channel * _WIDTHS[1] + other:
        per_channel, other = 0.0, float(found[-1])
    return Cost(per_channel, other, forward, backward, kept)


class _Site(nn.Module):
    """A convolution and what follows it; with a plain one and a ReLU where there is no method."""

    def __init__(self, choice: NormChoice | None, place: Place, width: int = _WIDTHS[0]) -> None:
        super().__init__()
        self.layer: nn.Module = nn.Identity()
        self.after_sum: nn.Module | None = None
        self.relu: nn.Module = nn.ReLU()
        if choice is None:
            self.conv: nn.Conv2d = nn.Conv2d(_WIDTHS[0], width, 3, padding=1, bias=False)
            self.next: nn.Conv2d = nn.Conv2d(width, 1, 1, bias=False)
        else:
            self.conv = choice.convolution(_WIDTHS[0], width, 3)
            self.layer = choice.layer(place, width)
            self.after_sum = choice.after_sum(place, width) if place.position == "last" else None
            self.relu = choice.activation(place, width)
            # The method's own may keep something else than what the activation before it keeps.
            self.next = choice.convolution(width, 1, 1)
        shape = (_BATCH, _WIDTHS[0], _SIDE, _SIDE)
        self.x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        # As inside a network: gradients go on to earlier layers.
        self.x.requires_grad_()
        self.residual = (
            torch.randn_like(self.x, requires_grad=True) if place.position == "last" else None
        )

    @property
    def activation(self) -> int:
        """Bytes of one activation."""
        return self.x.numel() * self.x.element_size()

    def forward(self) -> Tensor:
        y = self.conv(self.x)
        if self.after_sum is None or self.residual is None:
            return norm_relu(self.layer, self.relu, y, self.residual)
        return norm_relu(self.after_sum, self.relu, self.layer(y) + self.residual)

    def passes(self) -> tuple[int, int]:
        """Operations over whole activations, forward and backward."""
        with _counted(self.x.numel()) as counter:
            y = self()
            forward = counter()
            y.backward(torch.randn_like(y))
            return forward, counter() - forward

    def kept(self) -> int:
        """Bytes, the inputs of this convolution and of the next one among them."""
        return kept_for_backward(self, lambda: self.next(self()))


def _parameters(choice: NormChoice, place: Place, width: int) -> int:
    """Those that a plain convolution has not."""
    site, plain = _Site(choice, place, width), _Site(None, place, width)
    own, others = (
        sum(p.numel() for name, p in one.named_parameters() if not name.startswith("next."))
        for one in (site, plain)
    )
    return own - others


@contextmanager
def _counted(size: int) -> Iterator[Callable[[], int]]:
    """Yields what tells how many operations over ``size`` values there were. Those over half of
    them, as of a layer for half of the channels, are half an operation."""

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        values = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if not func.is_view:
                most = max((t.numel() for t in _tensors((args, kwargs, out))), default=0)
                self.values += most if 4 * most >= size else 0
            return out

    with Counter() as counter:  # type: ignore[no-untyped-call]
        yield lambda: round(counter.values / size)


def _tensors(values: Any) -> Iterator[Tensor]:
    """Those among nested values."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
