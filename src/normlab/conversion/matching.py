"""Scale and shift of new layers, so that their output has the mean and spread of the old ones'.

With m_o, s_o the mean and standard deviation of a channel of the old layer's output in the original
network, and m_n, s_n those of the new layer with weight 1 and bias 0 in the network that is
converted up to there::

    weight = sign(cov(old, new)) s_o / s_n
    bias   = m_o - weight m_n

The covariance is that of both layers on the new layer's input. Where the new output is constant,
the weight stays 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..models import like
from .moments import Moments

_STATISTICS = ("running_mean", "running_var")


class _EnoughError(Exception):
    """All that a pass is for is known."""


@dataclass
class Pair:
    """A new layer and the old one, in two networks of the same form.

    Attributes:
        old: in the original network, and stays as it is.
        new: in the other one.
        wanted: moments of the old layer's output in the original network.
        calls: how often a forward pass calls it.
        outputs, inputs: moments of what the new layer gives with weight 1 and bias 0, and takes.
    """

    old: nn.Module
    new: nn.Module
    wanted: Moments
    calls: int
    outputs: Moments = field(default_factory=Moments)
    inputs: Moments = field(default_factory=Moments)


def observe(
    model: nn.Module, layers: Sequence[nn.Module], batches: Sequence[Tensor]
) -> tuple[list[Moments], list[int]]:
    """Moments of each layer's output over the batches, and the indices of those layers that were
    called, by their last call."""
    found = [Moments() for _ in layers]
    last: dict[int, None] = {}

    def hook(index: int) -> Any:
        def seen(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
            found[index].add(output)
            last.pop(index, None)
            last[index] = None

        return seen

    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            stack.callback(layer.register_forward_hook(hook(index)).remove)
        _run(model, batches)
    return found, list(last)


def match(model: nn.Module, pairs: Sequence[Pair], batches: Sequence[Tensor]) -> None:
    """Set weight and bias of the new layers, in the order given, which is that of last calls.

    Args:
        model: the network with the new layers, in evaluation mode. It is run once where there is
            one batch and no new layer has running statistics. Otherwise each pair takes a pass up
            to its layer, and another one for running statistics.
        pairs: the layers to set.
        batches: images.
    """
    for pair in pairs:
        _start(pair.new)
    if len(batches) == 1 and not any(_has_statistics(pair.new) for pair in pairs):
        with ExitStack() as stack:
            for pair in pairs:
                stack.enter_context(_hooked(pair.new, _SetOnTheWay(pair)))
            _run(model, batches)
        return
    for index, pair in enumerate(pairs):
        with ExitStack() as stack:
            for later in pairs[index + 1 :]:
                stack.enter_context(_hooked(later.new, _StandIn(later)))
            if _has_statistics(pair.new):
                with _hooked(pair.new, _Gather(pair, of_inputs=True)):
                    _run(model, batches)
                _set_statistics(pair.new, pair.inputs, len(batches))
            with _hooked(pair.new, _Gather(pair)):
                _run(model, batches)
        _finish(pair)


class _StandIn:
    """Gives what the old layer gives for the same input."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.seen = 0

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        old: Tensor = self.pair.old.forward(*args)
        return old


class _SetOnTheWay(_StandIn):
    """Sets the new layer at its last call in the only batch, and gives what it then gives."""

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        old = super().__call__(layer, args, output)
        self.pair.outputs.add(output, old)
        self.seen += 1
        if self.seen < self.pair.calls:
            return old
        _finish(self.pair)
        found: Tensor = layer.forward(*args)
        return found


class _Gather(_StandIn):
    """Gathers moments, and ends the pass at the last call of a batch."""

    def __init__(self, pair: Pair, *, of_inputs: bool = False) -> None:
        super().__init__(pair)
        self.of_inputs = of_inputs

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        old = super().__call__(layer, args, output)
        if self.of_inputs:
            self.pair.inputs.add(args[0])
        else:
            self.pair.outputs.add(output, old)
        self.seen += 1
        if self.seen % self.pair.calls == 0:
            raise _EnoughError
        return old


@contextmanager
def _hooked(layer: nn.Module, hook: _StandIn) -> Iterator[None]:
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _run(model: nn.Module, batches: Sequence[Tensor]) -> None:
    place = like(model, model)
    for batch in batches:
        try:
            model(batch.to(*place))
        except _EnoughError:
            continue


def _has_statistics(layer: nn.Module) -> bool:
    return all(isinstance(getattr(layer, name, None), Tensor) for name in _STATISTICS)


@torch.no_grad()
def _set_statistics(layer: nn.Module, inputs: Moments, batches: int) -> None:
    values = inputs.values
    for name, value in zip(
        _STATISTICS, (inputs.mean, inputs.var * (values / max(values - 1, 1))), strict=True
    ):
        getattr(layer, name).copy_(value)
    count = getattr(layer, "num_batches_tracked", None)
    if isinstance(count, Tensor):
        count.fill_(batches)


@torch.no_grad()
def _start(layer: nn.Module) -> None:
    layer.weight.fill_(1.0)  # type: ignore[operator]
    layer.bias.zero_()  # type: ignore[operator]


@torch.no_grad()
def _finish(pair: Pair) -> None:
    found, wanted = pair.outputs, pair.wanted
    # A spread that is rounding alone is none.
    least = 1e-12 * (found.mean.square() + found.var)
    varies = found.var > least.clamp_min(torch.finfo(torch.float64).tiny)
    ratio = (wanted.var / torch.where(varies, found.var, 1.0)).sqrt()
    weight = torch.where(varies, torch.where(found.cov < 0, -ratio, ratio), 1.0)
    pair.new.weight.copy_(weight)  # type: ignore[operator]
    pair.new.bias.copy_(wanted.mean - weight * found.mean)  # type: ignore[operator]
