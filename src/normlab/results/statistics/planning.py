"""What a number of seeds can find, and how many would be needed.

Everything here is for a paired difference that is normal over seeds with standard deviation
``sd``, judged by the t interval of the given level. ``shared`` is what the variance of its mean has
beyond that of independent seeds, in units of ``sd²`` (:func:`.intervals.t_interval`). ``folds`` is
what numbers of seeds are multiples of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from .intervals import effective, quantile

POWER = 0.8
"""A difference counts as visible if four out of five studies would find it."""
MOST_SEEDS = 10_000
"""Numbers above this are given as None: more than anybody runs."""
SPREAD_LEVEL = 0.95
"""Level of the interval of a standard deviation."""
_POINTS = 1000


def visible_difference(
    seeds: int, sd: float, level: float, power: float = POWER, *, shared: float = 0.0
) -> float:
    """The smallest true difference that ``seeds`` seeds find with probability ``power``.

    Found means that the interval excludes 0. Solves ``P(|T'| > t) = power`` for the
    noncentrality of T', noncentral t with ``seeds - 1`` degrees of freedom (Cohen 1988, chapter 2).

    Returns:
        In the unit of ``sd``; infinite with fewer than two seeds.

    >>> round(visible_difference(seeds=5, sd=0.005, level=0.95), 4)
    0.0084
    """
    if seeds < 2:
        return math.inf
    # The noncentrality is the difference in standard errors, whatever these are.
    return sd * _visible(seeds, round(level, 12), power) * math.sqrt(1 + seeds * shared)


def seeds_to_see(
    difference: float,
    sd: float,
    level: float,
    power: float = POWER,
    *,
    shared: float = 0.0,
    folds: int = 1,
) -> int | None:
    """The smallest number of seeds that find a true ``difference`` with probability ``power``.

    None above ``MOST_SEEDS``, and where no number would do. At least 2.

    >>> seeds_to_see(0.005, sd=0.005, level=0.95)
    10
    """
    return _least(
        lambda n: visible_difference(n, sd, level, power, shared=shared) <= abs(difference), folds
    )


def equivalence_power(
    seeds: int, margin: float, sd: float, level: float, *, shared: float = 0.0
) -> float:
    """The probability that two arms without any difference are found equivalent within ``margin``.

    The probability that ``|mean| + t s / sqrt(n) < margin`` (n the effective number of seeds): for
    a given s the mean is normal, and s is integrated over its chi distribution.

    >>> [round(equivalence_power(seeds, 0.5, 0.5, 0.95), 2) for seeds in (3, 10)]
    [0.06, 0.61]
    """
    import numpy as np
    from scipy.stats import chi2, norm

    if seeds < 2:
        return 0.0
    if sd == 0:
        return 1.0
    shares = (np.arange(_POINTS) + 0.5) / _POINTS
    s = sd * np.sqrt(chi2.ppf(shares, seeds - 1) / (seeds - 1))
    root = math.sqrt(effective(seeds, shared))
    room = (margin - quantile(level, seeds - 1) * s / root) * root / sd
    return float(np.mean(np.maximum(0.0, 2 * norm.cdf(room) - 1)))


def seeds_for_equivalence(
    margin: float,
    sd: float,
    level: float,
    power: float = POWER,
    *,
    shared: float = 0.0,
    folds: int = 1,
) -> int | None:
    """The smallest number of seeds with which arms without a difference are found equivalent within
    ``margin`` with probability ``power``. None above ``MOST_SEEDS``, and where no number would do.
    At least 2.

    >>> seeds_for_equivalence(margin=0.5, sd=0.5, level=0.95)
    13
    """
    return _least(lambda n: equivalence_power(n, margin, sd, level, shared=shared) >= power, folds)


def seeds_to_hold(
    mean: float, sd: float, variance: float, margin: float, level: float
) -> int | None:
    """With how many seeds the interval over seeds and images ``mean ± t sqrt(sd²/n + variance)``
    would decide, if mean and spread stay as they are.

    More seeds shrink the first term alone. None where the second leaves it undecided however many
    seeds there are.

    Args:
        mean: the difference.
        sd: its standard deviation over seeds.
        variance: of the mean over images.
        margin: within which two arms count as equivalent.
        level: of the interval.

    >>> seeds_to_hold(mean=0.02, sd=0.01, variance=2.5e-5, margin=0.005, level=0.95)
    5
    >>> seeds_to_hold(mean=0.02, sd=0.01, variance=4e-4, margin=0.005, level=0.95) is None
    True
    """

    def decided(seeds: int) -> bool:
        half = quantile(level, seeds - 1) * math.sqrt(sd**2 / seeds + variance)
        return abs(mean) > half or abs(mean) + half <= margin

    return _least(decided)


def spread_range(sd: float, seeds: int, level: float = SPREAD_LEVEL) -> tuple[float, float]:
    """Between which values the true standard deviation is: ``s sqrt(f / chi2)``, f = seeds - 1.

    With three seeds from half to more than six times the estimate.

    Raises:
        ValueError: fewer than two seeds.

    >>> tuple(round(value, 2) for value in spread_range(1.0, seeds=3))
    (0.52, 6.28)
    """
    from scipy.stats import chi2

    if seeds < 2:
        raise ValueError(f"A spread needs at least two seeds, got {seeds}.")
    free = seeds - 1
    tail = (1 - level) / 2
    return tuple(sd * math.sqrt(free / float(chi2.ppf(q, free))) for q in (1 - tail, tail))  # type: ignore[return-value]


@lru_cache(maxsize=4096)
def _visible(seeds: int, level: float, power: float) -> float:
    """In standard deviations."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    edge = quantile(level, seeds - 1)
    root = math.sqrt(seeds)

    def lacking(effect: float) -> float:
        upper = float(nct.sf(edge, seeds - 1, effect * root))
        lower = float(nct.cdf(-edge, seeds - 1, effect * root))
        # Far from 0 scipy gives no number for the tail on the other side, which is nothing there.
        return upper + (0.0 if math.isnan(lower) else lower) - power

    high = 1.0
    while lacking(high) < 0:
        high *= 2
    return float(brentq(lacking, 0.0, high, xtol=1e-6))


def _least(enough: Callable[[int], bool], step: int = 1) -> int | None:
    """The smallest n >= 2 from which on ``enough`` is true, among the multiples of ``step``."""
    low, high = (1, 2) if step == 1 else (0, 1)
    while not enough(high * step):
        low, high = high, 2 * high
        if low * step >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle * step):
            high = middle
        else:
            low = middle
    return high * step if high * step <= MOST_SEEDS else None
