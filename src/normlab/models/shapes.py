"""What the state of a network consists of, found without building the network.

A file that says it has a thousand blocks costs a thousand lines here, and neither memory nor the
time in which weights are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..norms import parse_norm
from .info import ModelInfo
from .resnet import WIDTHS, layers_at_every_width, place_of
from .sites import sites
from .state import EXTRA, JSON


@dataclass(frozen=True)
class Kind:
    """Type and shape of a tensor.

    >>> print(Kind("float32", (2, 64)))
    float32 (2, 64)
    """

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Kind:
        """That of a tensor."""
        return cls(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True)
class Part:
    """One entry of a state dict.

    Attributes:
        name: its name; extra state that is no tensor has the one it is saved by.
        kind: its type and shape; None for extra state, which has any.
        of_layer: whether it belongs to a normalization, not to the network around it.
    """

    name: str
    kind: Kind | None
    of_layer: bool


def state_parts(info: ModelInfo) -> Iterator[Part]:
    """The entries of a network's state dict as they are saved, in no particular order.

    Of our network only one part of each kind is made, and convolutions without memory. A network
    of a library is made without memory where that can be done; one of a person's own is made.

    >>> info = ModelInfo(1, ("cat", "dog"), "none", "A", 3, 32, (0.5,) * 3, (0.2,) * 3)
    >>> print(*(f"{part.name}: {part.kind}" for part in state_parts(info) if "fc" in part.name))
    fc.weight: float32 (2, 64) fc.bias: float32 (2,)

    Raises:
        ValueError: a part cannot be made.
    """
    if not info.ours:
        yield from _of_network(_made(info))
        return
    known = _Known(info)
    yield from known.convolution("conv", info.in_channels, WIDTHS[0])
    yield from known.behind("norm0", "", "relu", WIDTHS[0])
    widths = (WIDTHS[0], *WIDTHS)
    for stage, channels in enumerate(WIDTHS):
        for block in range(info.n):
            at = f"stages.{stage}.{block}"
            before = widths[stage] if block == 0 else channels
            yield from known.convolution(f"{at}.conv1", before, channels)
            yield from known.behind(f"{at}.norm1", "", f"{at}.relu1", channels)
            yield from known.convolution(f"{at}.conv2", channels, channels)
            yield from known.behind(f"{at}.norm2", f"{at}.after_sum", f"{at}.relu2", channels)
            if info.shortcut == "B" and block == 0 and stage > 0:
                yield from known.convolution(f"{at}.projection.conv", before, channels, 1)
                yield from known.behind(f"{at}.projection.norm", "", "", channels)
    yield Part("fc.weight", Kind("float32", (len(info.classes), WIDTHS[-1])), False)
    yield Part("fc.bias", Kind("float32", (len(info.classes),)), False)


class _Known:
    """The entries of what a method puts at each place; each kind of part is made once."""

    def __init__(self, info: ModelInfo) -> None:
        self.choice, self.n = parse_norm(info.norm), info.n
        self.own = {
            width: _parts_of(layer) for width, layer in layers_at_every_width(info.norm).items()
        }
        self.others: dict[tuple[object, ...], Mapping[str, Kind | None]] = {}

    def convolution(
        self, name: str, channels_in: int, channels: int, side: int = 3
    ) -> Iterator[Part]:
        def make() -> nn.Module:
            with torch.device("meta"):
                return self.choice.convolution(channels_in, channels, side)

        for entry, kind in self._once((channels_in, channels, side), make).items():
            yield Part(f"{name}.{entry}", kind, False)

    def behind(self, layer: str, after_sum: str, activation: str, channels: int) -> Iterator[Part]:
        choice, place = self.choice, place_of(layer, self.n)
        other = choice.parts.layer(place)
        entries = self.own[channels]
        if other is not None:
            entries = self._once((other, channels), lambda: choice.layer(place, channels))
        yield from _named(layer, entries)
        found = choice.parts.after_sum(place) if after_sum else None
        if found is not None:
            made = self._once(
                (found, channels), lambda: choice.after_sum(place, channels) or nn.Identity()
            )
            yield from _named(after_sum, made)
        if activation:
            kind = choice.parts.activation(place)
            made = self._once((kind, channels), lambda: choice.activation(place, channels))
            yield from _named(activation, made)

    def _once(
        self, key: tuple[object, ...], make: Callable[[], nn.Module]
    ) -> Mapping[str, Kind | None]:
        if key not in self.others:
            self.others[key] = _parts_of(make())
        return self.others[key]


def _named(path: str, entries: Mapping[str, Kind | None]) -> Iterator[Part]:
    for entry, kind in entries.items():
        yield Part(f"{path}.{entry}", kind, True)


def _made(info: ModelInfo) -> nn.Module:
    if not info.factory:
        with suppress(Exception), torch.device("meta"):  # some look at values
            return info.build(seed=0)
    return info.build(seed=0)


def _of_network(model: nn.Module) -> Iterator[Part]:
    places = tuple(f"{site.name}." for site in sites(model))
    for name, kind in _parts_of(model).items():
        yield Part(name, kind, name.startswith(places))


def _parts_of(layer: nn.Module) -> Mapping[str, Kind | None]:
    state: Mapping[str, Any] = layer.state_dict()
    found: dict[str, Kind | None] = {}
    for name, value in state.items():
        extra = name.rpartition(".")[2] == EXTRA
        saved = name if isinstance(value, Tensor) else name + JSON
        found[saved] = None if extra or not isinstance(value, Tensor) else Kind.of(value)
    return found
