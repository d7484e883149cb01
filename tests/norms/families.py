"""The layers under test, and how a test makes one, its counterpart and its input.

Every layer of the catalogue that is written here is a family, and so is every part of a method that
is a layer of its own (:func:`extra`). What a method needs of the tests stands in
``tests/norms/methods``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normlab.norms import CATALOG, Norm2d, NormSpec
from normlab.norms.fused import is_computed_again
from normlab.norms.places import options_of

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
    unlike: dict[str, str] = field(default_factory=dict)
    """Name of a check that does not hold for it to the reason."""
    compiled: bool = False
    """Whether compiled kernels have a part in it."""

    def make(self, factory: Factory | None = None, **options: Any) -> nn.Module:
        """A fresh layer."""
        return (factory or self.spec.layer)(self.channels, **{**self.options, **options})

    def counterpart(self) -> nn.Module:
        """The same made of PyTorch alone, with the same names of state."""
        return reference.counterpart(self.spec)(self.channels, **self.options)

    @property
    def has_groups(self) -> bool:
        """Whether channels are grouped."""
        return any("(C/G)" in axes for axes in self.spec.axes)

    @property
    def groups(self) -> int:
        """Groups of channels, as the counterpart has them; the images of a chunk where the batch is
        cut."""
        if any("(N/G)" in axes for axes in self.spec.axes):
            return int(self.counterpart().virtual_batch_size)
        if not self.has_groups:
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
    def bends(self) -> bool:
        """Whether the output is no linear function of the input even where statistics are fixed."""
        bent = {"exp", "tanh", "erf", "sigmoid"}  # max and min are straight on each side
        return bool(bent & reference.names_in(self.spec.formula))

    @property
    def standardizes(self) -> bool:
        """Whether mean and variance of a set become 0 and 1, before weight and bias."""
        return self.has_gate or self.spec.formula == NormSpec.formula

    @property
    def standardizing_axes(self) -> tuple[str, ...]:
        """Axes of the sets that need more than one value: what is subtracted is their mean, or what
        divides is their spread."""
        names = reference.names_in(self.spec.formula)
        if len(self.spec.axes) == 1 and names & {"mean", "var", "xhat"}:
            return self.spec.axes
        return tuple(
            axes
            for axes in self.spec.axes
            if {f"xhat_{axes}", f"var_{axes}"} & names or f"x - mean_{axes}" in self.spec.formula
        )

    @property
    def has_running_statistics(self) -> bool:
        """Whether training moves them; those of a frozen layer are its own affair."""
        return "running_var" in self.spec.buffers and bool(self.spec.momentum)

    @property
    def has_affine(self) -> bool:
        return "affine" in options_of(self.spec.layer)

    @property
    def lean(self) -> bool:
        """Whether backward keeps no more than the input and its statistics."""
        return self.spec.kept == NormSpec.kept

    def axes_in_use(self, training: bool) -> tuple[str, ...]:
        """Axes of the statistics that come from the input (evaluation may use running ones)."""
        fixed = self.has_running_statistics and not training
        return tuple(a for a in self.spec.axes if not (fixed and "N" in a))

    def expected(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The output in float64 for the layer's parameters, buffers and mode.

        It is the spec's formula, or the loop that is written for the method; the counterpart's
        where there is neither.
        """
        state = {name: as_array(t) for name, t in layer.state_dict().items()}
        if (loop := reference.LOOPED.get(self.spec.name)) is not None:
            return torch.from_numpy(loop(layer, as_array(x), state))
        if not reference.can_evaluate(self.spec, state):
            other = self.counterpart().double()
            other.load_state_dict(layer.state_dict(), strict=False)  # less weight and bias
            return other.train(layer.training)(x.double()).detach()
        eps, groups = getattr(layer, "eps", 0.0), self.groups
        meaning = self.spec.formula, self.spec.axes, self.spec.variance, self.spec.buffers
        known = (meaning, eps, groups, layer.training, _key(as_array(x)))
        known = (*known, *((name, _key(t)) for name, t in state.items()))
        if known not in _EXPECTED:
            if len(_EXPECTED) == 1000:
                _EXPECTED.clear()
            _EXPECTED[known] = reference.forward(
                self.spec, as_array(x), state, eps=eps, groups=groups, training=layer.training
            )
        return torch.from_numpy(_EXPECTED[known].copy())


_EXPECTED: dict[tuple[object, ...], np.ndarray] = {}
"""What loops have computed, by all that it depends on. Checks ask for the same in several layouts,
and of both ways in which a layer is computed."""


def _key(values: np.ndarray) -> tuple[object, ...]:
    return values.shape, values.tobytes()


def _channels(spec: NormSpec) -> int:
    """Not a power of two, unless the layer's groups refuse that."""
    try:
        spec.layer(6)
    except ValueError:
        return 16
    return 6


def _family(spec: NormSpec) -> Family:
    made = spec.layer(_channels(spec))
    return Family(spec.name, spec, _channels(spec), compiled=is_computed_again(made))


FAMILIES: dict[str, Family] = {}
for _spec in CATALOG.values():
    # A layer that several methods share is tried once.
    if issubclass(_spec.layer, Norm2d) and all(
        _spec.layer is not f.spec.layer for f in FAMILIES.values()
    ):
        FAMILIES[_spec.name] = _family(_spec)
# Eight groups of two neighbors above, two groups of four here: a mistake in forming the groups
# may be invisible in one of them.
FAMILIES["gn_two_groups"] = Family("gn_two_groups", CATALOG["gn"], 8, {"groups": 2}, compiled=True)
SEVEN = ("bn", "in", "bin", "ln", "gn", "none", "gn_two_groups")
"""The families of the experiment, in which mistakes of every kind are planted."""


def extra(
    spec: NormSpec, *, channels: int | None = None, compiled: bool = False, **options: Any
) -> None:
    """Enter a part of a method that is a layer of its own, or a method with other options, as a
    family of its own. Its spec need not be in the catalogue."""
    channels = channels or _channels(spec)
    FAMILIES[spec.name] = Family(spec.name, spec, channels, options, compiled=compiled)


def unlike(name: str, **reasons: str) -> None:
    """Say which checks do not hold for a family, each with the reason. What holds in their place
    has a test of its own."""
    FAMILIES[name].unlike.update(reasons)


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
        elif name in ("weight", "gain"):
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
