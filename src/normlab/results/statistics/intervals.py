"""Intervals of a mean from few values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Values = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``; a share ``level`` of such intervals contains the truth."""

    low: float
    high: float
    level: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2

    def within(self, largest: float) -> Interval:
        """The part of it from ``-largest`` to ``largest``: what is impossible is left out.

        >>> Interval(-2.8, 0.4, 0.95).within(1.0)
        Interval(low=-1.0, high=0.4, level=0.95)
        """
        return Interval(max(self.low, -largest), min(self.high, largest), self.level)


@lru_cache(maxsize=4096)
def quantile(level: float, degrees: float) -> float:
    """The two-sided quantile of Student's t: ``P(|T| <= t) = level``."""
    from scipy.stats import t

    # From the upper tail, where a level near 1 loses no digits.
    return float(t.isf((1 - level) / 2, degrees))


def effective(n: int, shared: float) -> float:
    """How many independent values n values are worth, as the variance of their mean goes:
    ``n / (1 + n shared)``, that is ``1 / (1/n + shared)``. With ``shared`` 0 it is n.

    >>> effective(10, 0.0), round(effective(10, 0.25), 2)
    (10.0, 2.86)
    """
    return n / (1 + n * shared)


def t_interval(
    values: Values, level: float, *, least_sd: float = 0.0, shared: float = 0.0
) -> Interval | None:
    """Student's t interval of a mean: ``mean ± t s sqrt(1/n + shared)`` with n - 1 degrees of
    freedom; for independent values ``mean ± t s / sqrt(n)``.

    Runs that train on parts of the same images are not independent. With ``shared = n_test /
    n_train`` this is the corrected resampled t interval of Nadeau and Bengio (2003): it takes the
    correlation of two runs to be n_test / (n_test + n_train).

    Args:
        values: one per seed.
        level: for example 0.95.
        least_sd: taken for the standard deviation s where s is below it, see
            :attr:`~normlab.results.statistics.Difference.grain`.
        shared: what the variance of the mean has beyond that of independent values, in units of s².

    Returns:
        None with fewer than two values, which have no spread.

    >>> found = t_interval([-0.012, -0.004, -0.009], level=0.95)
    >>> f"[{found.low:.4f}, {found.high:.4f}]"
    '[-0.0184, 0.0017]'
    >>> 0 in found
    True
    """
    n = len(values)
    if n < 2:
        return None
    found = np.asarray(values, dtype=float)
    sd = max(float(found.std(ddof=1)), least_sd)
    half = quantile(level, n - 1) * sd / math.sqrt(effective(n, shared))
    mean = float(found.mean())
    return Interval(mean - half, mean + half, level)


def simultaneous_level(level: float, comparisons: int, looks: int = 1) -> float:
    """The level of each interval so that all of them hold simultaneously at ``level`` (Bonferroni).

    The error ``1 - level`` is divided evenly over comparisons and looks. By the union bound the
    total error is at most that, whatever depends on what.

    Raises:
        ValueError: fewer than one comparison or look.

    >>> round(simultaneous_level(0.95, comparisons=6), 4)
    0.9917
    """
    if comparisons < 1 or looks < 1:
        raise ValueError(f"needs a comparison and a look, got {comparisons} and {looks}")
    return 1 - (1 - level) / (comparisons * looks)
