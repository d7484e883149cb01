"""The residual network of 6n+2 layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..keyed import key
from ..norms import NormChoice, parse_norm
from ..norms.fused import norm_relu
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
        ValueError: the layer cannot be made for one of them.
    """
    choice = parse_norm(norm)
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

    Departures from the paper: convolutions have no bias if a normalization follows, which would
    subtract it; with ``norm="none"`` they have one, starting at 0.

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
        layers = _Layers(choice, seed)
        self.conv = _conv3x3(in_channels, WIDTHS[0], 1, choice)
        self.norm0 = layers.at("norm0", WIDTHS[0])
        self.relu = nn.ReLU()
        widths = (WIDTHS[0], *WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(
                        widths[stage] if block == 0 else widths[stage + 1],
                        widths[stage + 1],
                        2 if stage > 0 and block == 0 else 1,
                        layers,
                        shortcut,
                        f"stages.{stage}.{block}",
                    )
                    for block in range(n)
                )
            )
            for stage in range(len(WIDTHS))
        )
        self.fc = nn.Linear(WIDTHS[-1], classes)
        initialize(self, seed)

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


@dataclass(frozen=True)
class _Layers:
    """Makes the normalization of each site. What a layer draws depends on seed and site alone."""

    choice: NormChoice
    seed: int

    def at(self, site: str, channels: int) -> nn.Module:
        with drawn_by(self.seed, "layer", site):
            return make_layer(self.choice, channels)


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut around them, each followed by its normalization."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        layers: _Layers,
        shortcut: Shortcut,
        place: str,
    ) -> None:
        super().__init__()
        choice = layers.choice
        self.conv1 = _conv3x3(channels_in, channels, stride, choice)
        self.norm1 = layers.at(f"{place}.norm1", channels)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(channels, channels, 1, choice)
        self.norm2 = layers.at(f"{place}.norm2", channels)
        self.relu2 = nn.ReLU()
        self.stride, self.new_channels = stride, channels - channels_in
        self.projection: nn.Sequential | None = None
        if shortcut == "B" and (stride > 1 or self.new_channels):
            self.projection = nn.Sequential()
            self.projection.add_module(
                "conv", nn.Conv2d(channels_in, channels, 1, stride, bias=choice.conv_bias)
            )
            self.projection.add_module("norm", layers.at(f"{place}.projection.norm", channels))

    def forward(self, x: Tensor) -> Tensor:
        y = norm_relu(self.norm1, self.relu1, self.conv1(x))
        return norm_relu(self.norm2, self.relu2, self.conv2(y), self._short(x))

    def _short(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            projected: Tensor = self.projection(x)
            return projected
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return x


def _conv3x3(channels_in: int, channels: int, stride: int, choice: NormChoice) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=choice.conv_bias)


@torch.no_grad()
def initialize(model: nn.Module, seed: int) -> None:
    """He initialization, each tensor from a generator keyed by (seed, its name); biases 0.

    Convolutions and linear layers inside a normalization have the weights that it gave them.
    """
    for name, module in outside_sites(model):
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        fan_in = module.weight[0].numel()
        variance = (2.0 if isinstance(module, nn.Conv2d) else 1.0) / fan_in
        generator = torch.Generator().manual_seed(key(seed, "init", f"{name}.weight"))
        module.weight.normal_(0.0, math.sqrt(variance), generator=generator)
        if module.bias is not None:
            module.bias.zero_()
