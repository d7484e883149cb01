"""The places of a residual network, and what a method puts at each kind of them.

A network asks its method for every part and knows no method by name. A method that replaces more
than the layer after a convolution says so in :class:`Parts`.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from torch import nn

from .. import foreign

Position = Literal["stem", "inner", "last", "shortcut"]
"""Which convolution: the network's first; one in a block that an activation follows; the last of a
block, which the sum follows; the one of a shortcut."""


@runtime_checkable
class DrawnConvolution(Protocol):
    """A convolution with parameters that follow from its initial weight."""

    def weight_drawn(self) -> None:
        """Called without gradients, once ``weight`` has its initial values."""


@dataclass(frozen=True)
class Place:
    """Where a convolution, and what follows it, stands in a residual network.

    Attributes:
        position: which convolution of its block it is.
        stage, stages: its stage, counted from 0, and how many the network has. The stem belongs to
            the first.
        block, blocks: its block within the stage, counted from 0, and how many a stage has.
    """

    position: Position = "inner"
    stage: int = 0
    stages: int = 1
    block: int = 0
    blocks: int = 1

    @property
    def depth(self) -> int:
        """Residual blocks of the whole network."""
        return self.stages * self.blocks


def the_layer(_: Place) -> None:
    """The method's own layer, as everywhere."""


def relu(_: Place) -> type[nn.Module]:
    """ReLU, as everywhere."""
    return nn.ReLU


def nothing(_: Place) -> None:
    """Nothing stands there."""


def as_drawn(_: Place) -> float:
    """Initial weights as He et al. draw them."""
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a method puts at each kind of place.

    The defaults are those of most methods: a plain convolution, the method's layer after it, ReLU
    after that, nothing after the sum, weights as He et al. draw them. Classes that are named here
    are called with the number of channels and with those of the method's options that they take
    (a ReLU, or an identity of torch.nn, with nothing).

    >>> parts = Parts(activation=lambda place: nn.Identity)
    >>> parts.activation(Place("stem"))
    <class 'torch.nn.modules.linear.Identity'>

    Attributes:
        convolution: a subclass of ``torch.nn.Conv2d``, called as that is. The method's options that
            it takes are its keyword-only arguments.
        layer: after a convolution; None for the method's own.
        activation: after the layer, or after the sum at the end of a block.
        after_sum: between the sum at the end of a block and the activation; None for nothing. Only
            asked for the position ``last``.
        weights: factor on the standard deviation of the convolution's initial weights.
        classifier: factor on that of the classifier's.
    """

    # Factories: a function or a class inside of a class is something else to whoever looks at it.
    convolution: type[nn.Conv2d] = field(default_factory=lambda: nn.Conv2d)
    layer: Callable[[Place], type[nn.Module] | None] = field(default_factory=lambda: the_layer)
    activation: Callable[[Place], type[nn.Module]] = field(default_factory=lambda: relu)
    after_sum: Callable[[Place], type[nn.Module] | None] = field(default_factory=lambda: nothing)
    weights: Callable[[Place], float] = field(default_factory=lambda: as_drawn)
    classifier: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether the method's layer is all that it puts into a network."""
        return self == Parts()

    def classes(self) -> tuple[type[nn.Module], ...]:
        """Every class that takes options of the method, besides the method's own layer."""
        found: list[type[nn.Module] | None] = [self.convolution]
        for place in kinds_of_place():
            found += [self.layer(place), self.activation(place), self.after_sum(place)]
        return tuple(dict.fromkeys(c for c in found if c is not None))

    def options(self) -> dict[str, Any]:
        """The options that these classes take, with their defaults."""
        found: dict[str, Any] = {}
        for part in self.classes():
            found = {**options_of(part), **found}
        return found


def kinds_of_place() -> Iterator[Place]:
    """One of each kind: a method may tell the first and last stages and blocks from others."""
    stages = blocks = 3
    yield Place("stem", 0, stages, 0, blocks)
    positions: tuple[Position, ...] = ("inner", "last", "shortcut")
    for stage, block, position in itertools.product(range(stages), range(blocks), positions):
        yield Place(position, stage, stages, block, blocks)


def options_of(part: type[nn.Module]) -> Mapping[str, Any]:
    """Keyword arguments of a part's constructor with their defaults: without the channels of a
    layer; of a convolution, those that only its own class has.

    >>> from normlab.norms import LayerNormCHW
    >>> dict(options_of(LayerNormCHW))
    {'eps': 1e-05, 'affine': True}
    >>> dict(options_of(nn.Conv2d))
    {}
    """
    listed = part is nn.BatchNorm2d or foreign.is_ours(part.__module__)
    skip = {"device", "dtype", "track_running_stats"} if listed else set()
    parameters = list(inspect.signature(part).parameters.values())
    if issubclass(part, nn.Conv2d):
        parameters = [p for p in parameters if p.kind == p.KEYWORD_ONLY]
    else:
        parameters = parameters[1:]
    return MappingProxyType(
        {
            p.name: p.default
            for p in parameters
            if p.name not in skip and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }
    )
