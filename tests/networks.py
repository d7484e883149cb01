"""Small networks of the kinds that people have, with batch norm, for tests of conversions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CHANNELS, CLASSES = 3, 4


class Head(nn.Module):
    """The mean of each map, then the logits."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12, eps=1e-3, momentum=0.01), nn.ReLU(), Head(12),
    )  # fmt: skip


class Residual(nn.Module):
    """Two blocks, one with a projection."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(outputs)
            self.downsample = (
                nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
                if inputs != outputs
                else None
            )

        def forward(self, x: Tensor) -> Tensor:
            short = x if self.downsample is None else self.downsample(x)
            return torch.relu(self.bn(self.conv(x)) + short)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(self.Block(CHANNELS, 8), self.Block(8, 8))
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))


class InvertedBottleneck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(CHANNELS, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.bn = nn.BatchNorm2d(12)
        self.project = nn.Sequential(nn.Conv2d(12, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.expand(x))
        return self.head(self.project(nn.functional.relu6(self.bn(self.depthwise(x)))))


class Dense(nn.Module):
    """Normalization before each convolution, whose outputs are joined to its inputs; the layers are
    in a ModuleDict as well, and in a list of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CHANNELS, 4, 3)
        self.parts = nn.ModuleDict()
        for index in range(3):
            width = 4 + 4 * index
            self.parts[f"norm {index}"] = nn.BatchNorm2d(width)
            self.parts[f"conv {index}"] = nn.Conv2d(width, 4, 3, padding=1)
        self.norms = [self.parts[f"norm {index}"] for index in range(3)]
        self.head = Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, norm in enumerate(self.norms):
            x = torch.cat([x, self.parts[f"conv {index}"](torch.relu(norm(x)))], 1)
        return self.head(x)


class Shaped(nn.Module):
    """Down, up again, and a skip, with lists within lists."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((CHANNELS, 8), (8, 12))
        self.down = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b)]) for a, b in widths
        )
        self.up = nn.ConvTranspose2d(12, 8, 2, 2)
        self.last = nn.Sequential(nn.Sequential(nn.BatchNorm2d(16), nn.ReLU()), Head(16))

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for conv, norm in self.down:
            x = torch.relu(norm(conv(x)))
            found.append(x)
        return self.last(torch.cat([self.up(x), found[0]], 1))


class Shared(nn.Module):
    """One layer used twice, registered under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(CHANNELS, 8, 3), nn.Conv2d(8, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.again = nn.Sequential(self.norm, nn.ReLU())
        self.between = nn.BatchNorm2d(8)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.between(torch.relu(self.norm(self.first(x)))))
        return self.head(self.again(self.second(x)))


class BatchNormAct2d(nn.BatchNorm2d):
    """Normalization and activation in one, as in timm."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def fused() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3), BatchNormAct2d(8),
        nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), Head(12),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "residual": Residual,
    "inverted bottleneck": InvertedBottleneck,
    "dense": Dense,
    "U": Shaped,
    "shared": Shared,
    "fused": fused,
}


def trained(make: Callable[[], nn.Module]) -> nn.Module:
    """One of these with statistics and affine values as training might leave them, in evaluation
    mode."""
    generator = torch.Generator().manual_seed(3)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
        for _ in range(20):
            model(images(16))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight += 1
    return model.eval()


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, CHANNELS, 12, 12, generator=generator) * 2 + 0.5
