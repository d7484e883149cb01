"""The residual network of 6n+2 layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..keyed import key
from ..norms import NormChoice, Place, parse_norm
from ..norms.fused import norm_relu
from ..norms.places import DrawnConvolution, Position
from ..values import plain
from .custom import make_layer
from .drawing import drawn_by
from .sites import outside_sites

WIDTHS = (16, 32, 64)
Shortcut = Literal["A", "B"]


def layers_at_every_width(norm: str) -> dict[int, nn.Module]:
    """A normalization layer for each width of the network, the narrowest first.

    >>> list(layers_at_every_width("gn:groups=4"))
    [16, 32, 64]

    Raises:
        ValueError: the layer, or another part of the method, cannot be made for one of them.
    """
    choice = parse_norm(norm)
    for width in WIDTHS:
        choice.check_parts(width)
    return {width: choice.make(width) for width in WIDTHS}


class ResNet(nn.Module):
    """Residual network of 6n+2 weight layers for small images.

    A 3x3 convolution to 16 channels; three stages of n blocks with 16, 32 and 64 channels on maps
    of full, half and quarter size, each block two 3x3 convolutions with a shortcut around them,
    the first convolution of stages two and three with stride 2; the mean of each map; one linear
    layer. Normalization directly follows each convolution, and ReLU follows normalization; in a
    block the second ReLU comes after the sum.

    >>> model = ResNet(n=2, classes=10, norm="gn:groups=4", seed=0)
    >>> model(torch.zeros(8, 3, 32, 32)).shape
    torch.Size([8, 10])

    Source: He, Zhang, Ren & Sun 2016, "Deep Residual Learning for Image Recognition", section 4.2;
    weights as in He et al. 2015, "Delving Deep into Rectifiers", equation 10 (normal, variance
    2 / fan-in), the linear layer with variance 1 / fan-in since no ReLU follows.

    What stands at each place is the method's to say (:class:`normlab.norms.Parts`): most methods
    put their layer after each convolution and leave the rest as it is above.

    Departures from the paper: convolutions have a bias, which starts at 0, only where the method
    asks for one (``conv_bias`` of its spec), as ``norm="none"`` does. Other methods subtract a
    mean, or add a bias of their own.

    Args:
        n: blocks per stage, at least 1.
        classes: outputs, at least 2.
        norm: a name of ``normlab.norms.CATALOG``, with options after a colon
            (``"gn:groups=4"``), or ``"package.module:Class"``.
        shortcut: where the shape changes, ``"A"``: every second pixel and zeros for the new
            channels, no parameters; ``"B"``: 1x1 convolution of stride 2 with its normalization.
        in_channels: 1 or 3 (any number from 1 works).
        seed: fixes the initial weights. Each tensor is drawn separately from (seed, its name), so
            networks that differ in normalization start with identical convolutions and classifier.
            A layer of your own keeps its own initial weights; what it draws is fixed by (seed,
            its place in the network).
            None draws a seed from torch's global generator.

    Shapes:
        (N, in_channels, H, W) with H, W >= 8 to logits (N, classes).

    Raises:
        ValueError: impossible numbers, an unknown normalization, groups that do not divide 16, 32
            and 64; in forward, images under 8 pixels.
    """

    def __init__(
        self,
        n: int,
        classes: int,
        norm: str = "bn",
        shortcut: Shortcut = "A",
        in_channels: int = 3,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        n, classes, in_channels = map(plain, (n, classes, in_channels))
        for name, value, least in (
            ("n", n, 1),
            ("classes", classes, 2),
            ("in_channels", in_channels, 1),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut must be 'A' or 'B', got {shortcut!r}")
        self.n, self.classes, self.norm, self.shortcut = n, classes, norm, shortcut
        self.in_channels = in_channels
        if seed is None:
            seed = int(torch.randint(2**62, ()).item())
        choice = parse_norm(norm)
        parts = _Parts(choice, seed, n)
        stem = place_of("norm0", n)
        self.conv = choice.convolution(in_channels, WIDTHS[0], 3)
        self.norm0 = parts.layer("norm0", stem, WIDTHS[0])
        self.relu = parts.activation("relu", stem, WIDTHS[0])
        widths = (WIDTHS[0], *WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(
                        widths[stage] if block == 0 else widths[stage + 1],
                        widths[stage + 1],
                        2 if stage > 0 and block == 0 else 1,
                        parts,
                        shortcut,
                        f"stages.{stage}.{block}",
                    )
                    for block in range(n)
                )
            )
            for stage in range(len(WIDTHS))
        )
        self.fc = nn.Linear(WIDTHS[-1], classes)
        initialize(self, seed, choice)

    def place_of(self, name: str) -> Place:
        """The place of a module, by its path in the network."""
        return place_of(name, self.n)

    def features(self, x: Tensor) -> Tensor:
        """The penultimate features (N, 64): the mean of each map of the last stage."""
        if x.shape[-1] < 8 or x.shape[-2] < 8:
            raise ValueError(f"images must be at least 8x8 pixels, got {tuple(x.shape[-2:])}")
        x = norm_relu(self.norm0, self.relu, self.conv(x))
        for stage in self.stages:
            x = stage(x)
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x))
        return logits


_POSITIONS: dict[str, Position] = {"1": "inner", "2": "last"}


def place_of(name: str, n: int) -> Place:
    """The place of a module of the network of n blocks per stage, by its path alone.

    >>> place_of("stages.2.0.norm1", n=2)
    Place(position='inner', stage=2, stages=3, block=0, blocks=2)
    """
    head, *rest = name.split(".")
    if head != "stages":
        return Place("stem", 0, len(WIDTHS), 0, n)
    stage, block, part = int(rest[0]), int(rest[1]), rest[2]
    position = "shortcut" if part == "projection" else _POSITIONS.get(part[-1], "last")
    return Place(position, stage, len(WIDTHS), block, n)


@dataclass(frozen=True)
class _Parts:
    """Makes what stands around each convolution. What a part draws depends on seed and path alone.

    A part that is not the method's layer draws under the path of its own.
    """

    choice: NormChoice
    seed: int
    n: int

    def layer(self, path: str, place: Place, channels: int) -> nn.Module:
        return self._drawn(path, channels, self.choice.parts.layer(place))

    def activation(self, path: str, place: Place, channels: int) -> nn.Module:
        return self._drawn(path, channels, self.choice.parts.activation(place))

    def after_sum(self, path: str, place: Place, channels: int) -> nn.Module | None:
        part = self.choice.parts.after_sum(place)
        return None if part is None else self._drawn(path, channels, part)

    def _drawn(self, path: str, channels: int, part: type[nn.Module] | None) -> nn.Module:
        with drawn_by(self.seed, "layer", path):
            return make_layer(self.choice, channels, part)


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut around them, each followed by its normalization."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        parts: _Parts,
        shortcut: Shortcut,
        path: str,
    ) -> None:
        super().__init__()
        choice = parts.choice
        inner, last = (place_of(f"{path}.{name}", parts.n) for name in ("norm1", "norm2"))
        self.conv1 = choice.convolution(channels_in, channels, 3, stride)
        self.norm1 = parts.layer(f"{path}.norm1", inner, channels)
        self.relu1 = parts.activation(f"{path}.relu1", inner, channels)
        self.conv2 = choice.convolution(channels, channels, 3)
        self.norm2 = parts.layer(f"{path}.norm2", last, channels)
        self.after_sum = parts.after_sum(f"{path}.after_sum", last, channels)
        self.relu2 = parts.activation(f"{path}.relu2", last, channels)
        self.stride, self.new_channels = stride, channels - channels_in
        self.projection: nn.Sequential | None = None
        if shortcut == "B" and (stride > 1 or self.new_channels):
            self.projection = nn.Sequential()
            self.projection.add_module("conv", choice.convolution(channels_in, channels, 1, stride))
            at = f"{path}.projection.norm"
            self.projection.add_module("norm", parts.layer(at, place_of(at, parts.n), channels))

    def forward(self, x: Tensor) -> Tensor:
        y = norm_relu(self.norm1, self.relu1, self.conv1(x))
        y = self.conv2(y)
        if self.after_sum is None:
            return norm_relu(self.norm2, self.relu2, y, self._short(x))
        return norm_relu(self.after_sum, self.relu2, self.norm2(y) + self._short(x))

    def _short(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            projected: Tensor = self.projection(x)
            return projected
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return x


@torch.no_grad()
def initialize(model: ResNet, seed: int, choice: NormChoice) -> None:
    """He initialization, each tensor from a generator keyed by (seed, its name); biases 0.

    A method may ask for a factor on the standard deviation of a weight, and a convolution with
    parameters of its own may set those from the weight that was drawn (``weight_drawn``).
    Convolutions and linear layers inside a normalization have the weights that it gave them.
    """
    parts = choice.parts
    for name, module in outside_sites(model):
        if isinstance(module, nn.Conv2d):
            variance, factor = 2.0, parts.weights(model.place_of(name))
        elif isinstance(module, nn.Linear):
            variance, factor = 1.0, parts.classifier
        else:
            continue
        fan_in = module.weight[0].numel()
        generator = torch.Generator().manual_seed(key(seed, "init", f"{name}.weight"))
        std = factor * math.sqrt(variance / fan_in)
        module.weight.normal_(0.0, std, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
        if isinstance(module, DrawnConvolution):
            module.weight_drawn()
