"""What the interval of a difference says."""

from __future__ import annotations

from enum import StrEnum

from .intervals import Interval


class Verdict(StrEnum):
    """What is known about an arm compared with the reference.

    Three say what the interval of the difference shows, and three why it shows nothing:

    - ``INCONCLUSIVE``: there is an interval, and it decides nothing.
    - ``WITHHELD``: the interval would decide, but runs without a model could reverse it.
    - ``NONE``: there is no interval, because too few seeds were completed by both arms.
    """

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    WITHHELD = "withheld"
    NONE = "no verdict"

    @property
    def decided(self) -> bool:
        """Whether the arm is called better, worse or equivalent."""
        return self in (Verdict.EQUIVALENT, Verdict.BETTER, Verdict.WORSE)


def verdict(interval: Interval | None, margin: float) -> Verdict:
    """Equivalent if the interval is entirely within ±margin; else better or worse if it excludes
    0; else inconclusive. No verdict without an interval.

    >>> from normlab.results.statistics import Interval
    >>> verdict(Interval(-0.003, 0.002, 0.95), margin=0.005).value
    'equivalent'
    >>> verdict(Interval(-0.020, 0.004, 0.95), margin=0.005).value
    'inconclusive'
    >>> verdict(None, margin=0.005).value
    'no verdict'
    """
    if interval is None:
        return Verdict.NONE
    if -margin <= interval.low and interval.high <= margin:
        return Verdict.EQUIVALENT
    if interval.low > 0:
        return Verdict.BETTER
    if interval.high < 0:
        return Verdict.WORSE
    return Verdict.INCONCLUSIVE
