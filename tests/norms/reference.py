"""What the layers mean, one value at a time in float64.

Nothing here is shared with the package but the spec: it names the axes of each statistic, the
divisors of the variances and the place of eps, and the loops below do as it says. Slow and plain
on purpose.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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

    def variance(self, divisor: str) -> float:
        """The variance with the divisor that a spec names."""
        return self.squares / {"n": self.count, "n - 1": self.count - 1}[divisor]


def set_of(axes: str, index: Index, channels: int, groups: int) -> Key:
    """Which statistic set the value at ``index`` belongs to: its coordinates off the axes."""
    n, c, h, w = index
    key = []
    if "N" not in axes:
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


def statistic_sets(axes: str, shape: Index, groups: int = 1) -> dict[Key, list[Index]]:
    """Every statistic set with the indices of its values."""
    sets: dict[Key, list[Index]] = {}
    for index in itertools.product(*map(range, shape)):
        sets.setdefault(set_of(axes, index, shape[1], groups), []).append(index)
    return sets


def moments(axes: str, x: Array, groups: int = 1) -> dict[Key, Moments]:
    """The moments of every set. ``math.fsum`` adds without rounding on the way."""
    found = {}
    for key, indices in statistic_sets(axes, x.shape, groups).items():
        values = [float(x[i]) for i in indices]
        mean = math.fsum(values) / len(values)
        squares = math.fsum((v - mean) ** 2 for v in values)
        found[key] = Moments(len(values), mean, squares)
    return found


def forward(
    spec: NormSpec,
    x: Array,
    state: Mapping[str, Array],
    *,
    eps: float = 1e-5,
    groups: int = 1,
    training: bool = True,
) -> Array:
    """The output of a layer with this spec, these parameters and these buffers."""
    if not spec.axes:
        return x.copy()
    assert spec.eps_place == "inside the root"
    channels = x.shape[1]
    found = [moments(axes, x, groups) for axes in spec.axes]
    y = np.empty_like(x)
    for index in itertools.product(*map(range, x.shape)):
        c = index[1]
        parts = []
        for axes, of_set in zip(spec.axes, found, strict=True):
            if spec.buffers and "N" in axes and not training:
                mean, var = float(state["running_mean"][c]), float(state["running_var"][c])
            else:
                m = of_set[set_of(axes, index, channels, groups)]
                mean, var = m.mean, m.variance(spec.variance)
            parts.append((float(x[index]) - mean) / math.sqrt(var + eps))
        if len(parts) == 1:
            xhat = parts[0]
        else:
            rho = float(state["gate"][c])
            xhat = rho * parts[0] + (1 - rho) * parts[1]
        weight = float(state["weight"][c]) if "weight" in state else 1.0
        bias = float(state["bias"][c]) if "bias" in state else 0.0
        y[index] = weight * xhat + bias
    return y


def moving_average(
    spec: NormSpec,
    batches: list[Array],
    mean: Array,
    var: Array,
    momentum: float | None,
) -> tuple[Array, Array]:
    """Running mean and variance after the batches, in closed form.

    The momentum m weighs the new value: after k batches the start has weight ``(1 - m)**k`` and
    batch i ``m * (1 - m)**(k - 1 - i)``. Without momentum it is the plain average of the batches.
    """
    assert spec.momentum == "the new value"
    k = len(batches)
    if momentum is None:
        start, shares = 0.0, [1 / k] * k
    else:
        start = (1 - momentum) ** k
        shares = [momentum * (1 - momentum) ** (k - 1 - i) for i in range(k)]
    (axes,) = (a for a in spec.axes if "N" in a)
    new_mean, new_var = start * mean, start * var
    for share, batch in zip(shares, batches, strict=True):
        for (c,), m in moments(axes, batch).items():
            new_mean[c] += share * m.mean
            new_var[c] += share * m.variance(spec.running_variance)
    return new_mean, new_var
