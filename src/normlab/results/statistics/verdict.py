"""What the interval of a difference says."""

from __future__ import annotations

from enum import StrEnum

from .intervals import Interval


class Verdict(StrEnum):
    """What the interval of a difference says about an arm compared with the reference."""

    EQUIVALENT = "equivalent"
    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


def verdict(interval: Interval | None, margin: float) -> Verdict:
    """Equivalent if the interval is entirely within ±margin; else better or worse if it excludes
    0; else inconclusive, as when there is no interval.

    >>> from normlab.results.statistics import Interval
    >>> verdict(Interval(-0.003, 0.002, 0.95), margin=0.005).value
    'equivalent'
    >>> verdict(Interval(-0.020, 0.004, 0.95), margin=0.005).value
    'inconclusive'
    """
    if interval is None:
        return Verdict.INCONCLUSIVE
    if -margin <= interval.low and interval.high <= margin:
        return Verdict.EQUIVALENT
    if interval.low > 0:
        return Verdict.BETTER
    if interval.high < 0:
        return Verdict.WORSE
    return Verdict.INCONCLUSIVE
