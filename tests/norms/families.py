"""The layers under test, and how a test makes one, its counterpart and its input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import CATALOG, NormSpec

from . import reference

Factory = Callable[..., nn.Module]
"""Called as ``factory(channels, **options)``: a layer class, or a mutant of one."""


@dataclass(frozen=True)
class Family:
    """One normalization with one choice of options."""

    name: str
    spec: NormSpec
    channels: int
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: int = 1

    def make(self, factory: Factory | None = None, **options: Any) -> nn.Module:
        """A fresh layer."""
        return (factory or self.spec.layer)(self.channels, **{**self.options, **options})

    def counterpart(self) -> nn.Module:
        """The same made of operations of PyTorch alone, with the same names of state."""
        return (self.spec.twin or ComposedBatchInstance)(self.channels)

    @property
    def normalizes(self) -> bool:
        return bool(self.spec.axes)

    @property
    def has_running_statistics(self) -> bool:
        return bool(self.spec.buffers)

    def axes_in_use(self, training: bool) -> tuple[str, ...]:
        """Axes of the statistics that come from the input (evaluation may use running ones)."""
        fixed = self.has_running_statistics and not training
        return tuple(a for a in self.spec.axes if not (fixed and "N" in a))

    def expected(self, layer: nn.Module, x: Tensor, eps: float = 1e-5) -> Tensor:
        """The reference's output for the layer's parameters, buffers and mode, in float64."""
        y = reference.forward(
            self.spec,
            as_array(x),
            {name: as_array(t) for name, t in layer.state_dict().items()},
            eps=eps,
            groups=self.groups,
            training=layer.training,
        )
        return torch.from_numpy(y)


class ComposedBatchInstance(nn.BatchNorm2d):
    """Batch-instance normalization from PyTorch's two functions; torch.nn has no such layer."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gate = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        by_batch = F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )
        by_map = F.instance_norm(x, eps=self.eps)
        weight, bias, rho = (t.view(1, -1, 1, 1) for t in (self.weight, self.bias, self.gate))
        return (weight * (rho * by_batch + (1 - rho) * by_map) + bias).to(x.dtype)


def _two_groups(spec: NormSpec) -> NormSpec:
    return dataclasses.replace(spec, twin=lambda channels: nn.GroupNorm(2, channels))


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("bn", CATALOG["bn"], 6),
        Family("in", CATALOG["in"], 6),
        Family("bin", CATALOG["bin"], 6),
        Family("ln", CATALOG["ln"], 6),
        # Eight groups of two neighbours, and two of four: a mistake in cutting the groups may
        # hide in one of them.
        Family("gn", CATALOG["gn"], 16, groups=8),
        Family("gn_two_groups", _two_groups(CATALOG["gn"]), 8, {"groups": 2}, groups=2),
        Family("none", CATALOG["none"], 6),
    )
}

MODES = {"training": True, "evaluation": False}


def as_array(t: Tensor) -> np.ndarray:
    return t.detach().double().numpy()


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal values, the same on every call with the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@torch.no_grad()
def scramble(layer: nn.Module, seed: int = 1) -> nn.Module:
    """Put values into parameters and buffers that hide nothing: no ones, no zeros, no repeats."""
    for i, (name, t) in enumerate([*layer.named_parameters(), *layer.named_buffers()]):
        values = draw(*t.shape, seed=seed * 100 + i)
        if name == "gate":
            values = values.sigmoid()
        elif name == "running_var":
            values = 0.5 + values.square()
        elif name == "weight":
            values = 1 + 0.5 * values
        if t.is_floating_point():
            t.copy_(values)
    return layer


def same_state(target: nn.Module, source: nn.Module) -> nn.Module:
    """Give ``target`` the parameters, buffers, types and mode of ``source``."""
    state = source.state_dict()
    for name, t in target.state_dict(keep_vars=True).items():
        t.data = state[name].clone()
    return target.train(source.training)
