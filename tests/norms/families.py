"""The layers under test, and how a test makes one, its counterpart and its input.

Every layer of the catalogue that is written here is a family; a new one needs no change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normlab.norms import CATALOG, Norm2d, NormSpec

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

    def make(self, factory: Factory | None = None, **options: Any) -> nn.Module:
        """A fresh layer."""
        return (factory or self.spec.layer)(self.channels, **{**self.options, **options})

    def counterpart(self) -> nn.Module:
        """The same made of PyTorch alone, with the same names of state."""
        return reference.counterpart(self.spec)(self.channels, **self.options)

    @property
    def groups(self) -> int:
        """Groups of channels, as the counterpart has them."""
        if not any("(C/G)" in axes for axes in self.spec.axes):
            return 1
        other = self.counterpart()
        return int(getattr(other, "num_groups", None) or other.groups)

    @property
    def normalizes(self) -> bool:
        return bool(self.spec.axes)

    @property
    def has_gate(self) -> bool:
        """Whether two standardized parts are mixed, as in batch-instance normalization."""
        return "gate" in reference.names_in(self.spec.formula)

    @property
    def standardizes(self) -> bool:
        """Whether mean and variance of a set become 0 and 1, before weight and bias."""
        return self.has_gate or self.spec.formula == NormSpec.formula

    @property
    def has_running_statistics(self) -> bool:
        return "running_mean" in self.spec.buffers

    @property
    def has_affine(self) -> bool:
        return "affine" in self.spec.options

    def axes_in_use(self, training: bool) -> tuple[str, ...]:
        """Axes of the statistics that come from the input (evaluation may use running ones)."""
        fixed = self.has_running_statistics and not training
        return tuple(a for a in self.spec.axes if not (fixed and "N" in a))

    def expected(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The output in float64 for the layer's parameters, buffers and mode.

        It is the spec's formula; the counterpart's where the formula has names of its own.
        """
        state = {name: as_array(t) for name, t in layer.state_dict().items()}
        if not reference.can_evaluate(self.spec, state):
            other = self.counterpart().double()
            other.load_state_dict(layer.state_dict(), strict=False)  # less weight and bias
            return other.train(layer.training)(x.double()).detach()
        y = reference.forward(
            self.spec, as_array(x), state, groups=self.groups, training=layer.training
        )
        return torch.from_numpy(y)


def _channels(spec: NormSpec) -> int:
    """Not a power of two, unless the layer's groups refuse that."""
    try:
        spec.layer(6)
    except ValueError:
        return 16
    return 6


FAMILIES: dict[str, Family] = {
    name: Family(name, spec, _channels(spec))
    for name, spec in CATALOG.items()
    if issubclass(spec.layer, Norm2d)
}
# Eight groups of two neighbors above, two groups of four here: a mistake in forming the groups
# may be invisible in one of them.
FAMILIES["gn_two_groups"] = Family("gn_two_groups", CATALOG["gn"], 8, {"groups": 2})

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
    assert set(state) == set(target.state_dict()), "parameters and buffers have other names"
    for name, t in target.state_dict(keep_vars=True).items():
        t.data = state[name].clone()
    return target.train(source.training)
