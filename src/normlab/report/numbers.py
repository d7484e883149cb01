"""Differences and intervals in points, as the report writes them."""

from __future__ import annotations

from ..results.statistics import Interval

NARROW = 0.5
"""Points: an interval whose half is below this is given with two decimals, and one that leaves out
0 by less than one decimal shows."""


def places(interval: Interval | None) -> int:
    """Decimals for a difference in points: two where one would round the interval away."""
    if interval is None:
        return 1
    near = 0 not in interval and min(abs(interval.low), abs(interval.high)) < 0.0005
    return 2 if near or 100 * interval.half < NARROW else 1


def signed(share: float, digits: int = 1) -> str:
    """A share as points with its sign: "+1.2", "−0.4", "0.0"."""
    text = f"{100 * share:+.{digits}f}"
    if float(text) == 0:
        return text[1:]
    return text.replace("-", "−")


def points(share: float, digits: int = 1) -> str:
    """The size of a share in points, without sign."""
    return f"{abs(100 * share):.{digits}f}"


def bracket(interval: Interval, digits: int | None = None) -> str:
    """ "[−0.9, +1.2]" in points."""
    digits = places(interval) if digits is None else digits
    return f"[{signed(interval.low, digits)}, {signed(interval.high, digits)}]"


def with_interval(mean: float, interval: Interval | None) -> str:
    """ "−0.2 [−0.9, +0.5]" in points."""
    digits = places(interval)
    mean_text = signed(mean, digits)
    return mean_text if interval is None else f"{mean_text} {bracket(interval, digits)}"


def margin(share: float) -> str:
    """A margin with its unit: "0.5 points", "1 point"."""
    text = f"{100 * share:g}"
    return f"{text} point{'' if text == '1' else 's'}"


def seeds_range(bounds: tuple[int | None, int | None], *, endless: bool = True) -> str:
    """ "6 to 40", "about 6", "6 to more than 10,000", "more than 10,000"; with folds, where more
    seeds help only so far (not ``endless``), "at least 6" and "more images" for the last two."""
    from ..results.statistics.planning import MOST_SEEDS

    low, high = bounds
    most = f"more than {MOST_SEEDS:,}"
    if not endless and high is None:
        return "more images" if low is None else f"at least {low:,}"
    if low is None:
        return most
    if low == high:
        return f"about {low:,}"
    return f"{low:,} to {most if high is None else f'{high:,}'}"
