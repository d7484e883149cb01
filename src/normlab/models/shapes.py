"""What the state of a network consists of, found without building the network.

A file that says it has a thousand blocks costs a thousand lines here, and neither memory nor the
time in which weights are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..norms import parse_norm
from .info import ModelInfo
from .resnet import WIDTHS, layers_at_every_width
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

    Only one layer for each width is made.

    >>> info = ModelInfo(1, ("cat", "dog"), "none", "A", 3, 32, (0.5,) * 3, (0.2,) * 3)
    >>> print(*(f"{part.name}: {part.kind}" for part in state_parts(info) if "fc" in part.name))
    fc.weight: float32 (2, 64) fc.bias: float32 (2,)

    Raises:
        ValueError: the layer cannot be made.
    """
    layers = {width: _parts_of(layer) for width, layer in layers_at_every_width(info.norm).items()}
    bias = parse_norm(info.norm).conv_bias

    def convolution(name: str, channels_in: int, channels: int, side: int = 3) -> Iterator[Part]:
        yield Part(f"{name}.weight", Kind("float32", (channels, channels_in, side, side)), False)
        if bias:
            yield Part(f"{name}.bias", Kind("float32", (channels,)), False)

    def layer(name: str, channels: int) -> Iterator[Part]:
        for entry, kind in layers[channels].items():
            yield Part(f"{name}.{entry}", kind, True)

    yield from convolution("conv", info.in_channels, WIDTHS[0])
    yield from layer("norm0", WIDTHS[0])
    widths = (WIDTHS[0], *WIDTHS)
    for stage, channels in enumerate(WIDTHS):
        for block in range(info.n):
            at = f"stages.{stage}.{block}"
            before = widths[stage] if block == 0 else channels
            yield from convolution(f"{at}.conv1", before, channels)
            yield from layer(f"{at}.norm1", channels)
            yield from convolution(f"{at}.conv2", channels, channels)
            yield from layer(f"{at}.norm2", channels)
            if info.shortcut == "B" and block == 0 and stage > 0:
                yield from convolution(f"{at}.projection.conv", before, channels, 1)
                yield from layer(f"{at}.projection.norm", channels)
    yield Part("fc.weight", Kind("float32", (len(info.classes), WIDTHS[-1])), False)
    yield Part("fc.bias", Kind("float32", (len(info.classes),)), False)


def _parts_of(layer: nn.Module) -> Mapping[str, Kind | None]:
    state: Mapping[str, Any] = layer.state_dict()
    found: dict[str, Kind | None] = {}
    for name, value in state.items():
        extra = name.rpartition(".")[2] == EXTRA
        saved = name if isinstance(value, Tensor) else name + JSON
        found[saved] = None if extra or not isinstance(value, Tensor) else Kind.of(value)
    return found
