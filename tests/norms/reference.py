"""What the layers mean, one value at a time in float64.

Nothing here is shared with the package but the spec. It states the formula, the axes of each
statistic and the divisors of the variances, and the loops below evaluate exactly that. Slow and
plain on purpose.

A layer that torch.nn has too (the spec's ``twin``) is also compared with that. Any other needs a
module written here from its paper in operations of PyTorch, registered with :func:`written`. It
supplies what loops cannot: gradients, initial values, and the errors of 16-bit arithmetic.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import NormSpec

Index = tuple[int, ...]
Key = tuple[int, ...]
Array = np.ndarray


@dataclass(frozen=True)
class Moments:
    """Mean and sum of squared deviations of the values of one statistic set."""

    count: int
    mean: float
    squares: float
    mean_square: float

    def variance(self, divisor: str) -> float:
        """The variance with the divisor that a spec names."""
        return self.squares / {"n": self.count, "n - 1": self.count - 1}[divisor]


def set_of(axes: str, index: Index, shape: Index, groups: int) -> Key:
    """Which statistic set the value at ``index`` belongs to: its coordinates off the axes. For
    ``(N/G)``, ``groups`` are the images that a chunk has at most."""
    n, c, h, w = index
    channels = shape[1]
    key = []
    if "(N/G)" in axes:
        key.append(n * math.ceil(shape[0] / groups) // shape[0])
    elif "N" not in axes:
        key.append(n)
    if "(C/G)" in axes:
        key.append(c // (channels // groups))
    elif "C" not in axes:
        key.append(c)
    if "H" not in axes:
        key.append(h)
    if "W" not in axes:
        key.append(w)
    return tuple(key)


@lru_cache(maxsize=256)
def statistic_sets(axes: str, shape: Index, groups: int = 1) -> Mapping[Key, list[Index]]:
    """Every statistic set with the indices of its values."""
    sets: dict[Key, list[Index]] = {}
    for index in itertools.product(*map(range, shape)):
        sets.setdefault(set_of(axes, index, shape, groups), []).append(index)
    return sets


def moments(axes: str, x: Array, groups: int = 1) -> Mapping[Key, Moments]:
    """The moments of every set. ``math.fsum`` adds without rounding on the way."""
    return _moments(axes, x.shape, tuple(x.reshape(-1).tolist()), groups)


@lru_cache(maxsize=500)
def _moments(
    axes: str, shape: Index, values: tuple[float, ...], groups: int
) -> Mapping[Key, Moments]:
    found = {}
    numbers = dict(zip(np.ndindex(*shape), values, strict=True))
    for key, indices in statistic_sets(axes, shape, groups).items():
        of = [numbers[i] for i in indices]
        mean = math.fsum(of) / len(of)
        squares = math.fsum((v - mean) ** 2 for v in of)
        found[key] = Moments(len(of), mean, squares, math.fsum(v * v for v in of) / len(of))
    return found


@cache
def names_in(formula: str) -> frozenset[str]:
    """The names that a formula uses; none if it is not an expression."""
    try:
        tree = ast.parse(formula, mode="eval")
    except SyntaxError:
        return frozenset()
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "tanh": math.tanh,
    "erf": math.erf,
    "sigmoid": _sigmoid,
    "max": max,
    "min": min,
}
"""What a formula may call."""


def can_evaluate(spec: NormSpec, parameters: Mapping[str, Array]) -> bool:
    """Whether :func:`forward` knows every name in the spec's formula."""
    known = {"x", "eps", "weight", "bias", *FUNCTIONS, *parameters}
    known |= {f"{name}_{axes}" for axes in spec.axes for name in ("xhat", "mean", "var", "ms")}
    if len(spec.axes) == 1:
        known |= {"mean", "var", "ms"}
    return bool(names_in(spec.formula)) and names_in(spec.formula) <= known


def forward(
    spec: NormSpec,
    x: Array,
    state: Mapping[str, Array],
    *,
    eps: float = 1e-5,
    groups: int = 1,
    training: bool = True,
) -> Array:
    """The spec's formula for every value of ``x``, with these parameters and buffers."""
    assert can_evaluate(spec, state), f"the formula of {spec.name} has names without a meaning here"
    formula = compile(spec.formula, f"formula of {spec.name}", "eval")
    channels = x.shape[1]
    names: dict[Index, dict[str, float]] = {}
    numbers = [_of_channel(c, channels, state) for c in range(channels)]
    for index, value in zip(np.ndindex(*x.shape), x.reshape(-1).tolist(), strict=True):
        names[index] = {"eps": eps, "weight": 1.0, "bias": 0.0, **numbers[index[1]], "x": value}
    for axes in spec.axes:
        fixed = bool(spec.buffers) and "N" in axes and not training
        alone = len(spec.axes) == 1
        mean_, var_, ms_, xhat_ = (f"{name}_{axes}" for name in ("mean", "var", "ms", "xhat"))
        found = moments(axes, x, groups)
        for key, indices in statistic_sets(axes, x.shape, groups).items():
            mean, var, square = found[key].mean, 0.0, found[key].mean_square
            if spec.variance and not fixed:
                var = found[key].variance(spec.variance)
            for index in indices:
                if fixed:
                    c = index[1]
                    mean = float(state["running_mean"][c]) if "running_mean" in state else math.nan
                    var = float(state["running_var"][c])
                of = names[index]
                xhat = (of["x"] - mean) / math.sqrt(var + eps) if var + eps else math.nan
                of[mean_], of[var_], of[ms_], of[xhat_] = mean, var, square, xhat
                if alone:
                    of["mean"], of["var"], of["ms"], of["xhat"] = mean, var, square, xhat
    y = np.empty_like(x)
    known = {"__builtins__": {}, **FUNCTIONS}
    for index, of in names.items():
        y[index] = eval(formula, known, of)
    return y


def _of_channel(c: int, channels: int, state: Mapping[str, Array]) -> dict[str, float]:
    """The numbers that parameters and buffers have for a channel."""
    return {
        name: float(values[c] if values.shape == (channels,) else values.flat[0])
        for name, values in state.items()
        if values.ndim <= 1
    }


def moving_average(
    spec: NormSpec,
    batches: list[Array],
    mean: Array,
    var: Array,
    momentum: float | None,
    groups: int = 1,
) -> tuple[Array, Array, int]:
    """Running mean and variance after the batches, in closed form, and how many were counted.

    The momentum m weighs the new value: after k batches the start has weight ``(1 - m)**k`` and
    batch i ``m * (1 - m)**(k - 1 - i)``. Without momentum it is the plain average of the batches.
    Chunks of a batch count as batches, in their order.
    """
    assert spec.momentum == "the new value"
    of_mean, *_, of_var = [a for a in spec.axes if "N" in a] * 2
    seen: list[tuple[Array, Array]] = []
    for batch in batches:
        means, variances = (moments(axes, batch, groups) for axes in (of_mean, of_var))
        for chunk in sorted({key[:-1] for key in means}):
            wanted = [(*chunk, c) for c in range(batch.shape[1])]
            new_var = [variances[key if key in variances else ()] for key in wanted][: len(var)]
            seen.append(
                (
                    np.array([means[key].mean for key in wanted]),
                    np.array([m.variance(spec.running_variance) for m in new_var]),
                )
            )
    k = len(seen)
    if momentum is None:
        start, shares = 0.0, [1 / k] * k
    else:
        start = (1 - momentum) ** k
        shares = [momentum * (1 - momentum) ** (k - 1 - i) for i in range(k)]
    new_mean, moved_var = start * mean, start * var
    for share, (one_mean, one_var) in zip(shares, seen, strict=True):
        new_mean = new_mean + share * one_mean
        moved_var = moved_var + share * one_var
    return new_mean, moved_var, k


# ---------------------------------------------------------------------------------------------
# Methods whose formula is not an expression of the statistics of sets.


Loop = Callable[[nn.Module, Array, Mapping[str, Array]], Array]

LOOPED: dict[str, Loop] = {}
"""Name of the method to its output in float64, by loops over values."""


def looped(name: str) -> Callable[[Loop], Loop]:
    """Register the function below as the reference of this method: called with the layer (for its
    options and mode), the input and the layer's state."""

    def enter(loop: Loop) -> Loop:
        LOOPED[name] = loop
        return loop

    return enter


# ---------------------------------------------------------------------------------------------
# Layers that torch.nn does not have.

Module = TypeVar("Module", bound=type[nn.Module])

WRITTEN: dict[str, Callable[..., nn.Module]] = {}
"""Name in the catalogue to the module; called with the channels and the layer's options."""


def written(name: str) -> Callable[[Module], Module]:
    """Register the class below as the reference of this entry of the catalogue."""

    def enter(module: Module) -> Module:
        WRITTEN[name] = module
        return module

    return enter


def counterpart(spec: NormSpec) -> Callable[..., nn.Module]:
    """What makes the same layer from PyTorch alone, with the same names of state."""
    made = spec.twin or WRITTEN.get(spec.name)
    assert made is not None, (
        f"{spec.name} has nothing to be compared with: its spec names no twin in torch.nn, and "
        "tests/norms/methods has no module for it. Write one there from its paper and "
        f"register it with @written({spec.name!r})."
    )
    return made


@written("bin")
class BatchInstance(nn.BatchNorm2d):
    """Equation 3 of Nam & Kim 2018, from PyTorch's two functions: both parts have the same weight
    and bias, and the shares add up to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gate = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        by_batch = super().forward(x)
        by_map = F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        rho = self.gate.view(1, -1, 1, 1)
        return (rho * by_batch + (1 - rho) * by_map).to(x.dtype)
