"""Attributes of layers that follow a run."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """A number as a function of the share of a run's updates that are done.

    A layer lists the attributes that follow the run in ``schedules`` (name of the attribute to its
    ramp). The trainer sets them before every update, for any layer, including your own. In
    evaluation they have the ramp's last value; so has a layer that is used by itself, because that
    is what its constructor must set.

    >>> ramp = Ramp(((0.2, 1.0), (0.6, 3.0)))
    >>> [ramp.at(share) for share in (0.0, 0.2, 0.4, 0.6, 1.0)]
    [1.0, 1.0, 2.0, 3.0, 3.0]
    >>> ramp.last
    3.0

    Attributes:
        points: (share, value) each, shares from 0 to 1 in ascending order. Between two points the
            value is on the line through them; before the first and after the last it is theirs.

    Raises:
        ValueError: no point, one that is not a pair of finite numbers, a share outside of 0 to 1,
            shares that do not ascend.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        points = self.points
        if not isinstance(points, (tuple, list)) or not points or not all(map(_is_pair, points)):
            raise ValueError(
                "points of a ramp must be pairs of finite numbers (share of the run, value), at "
                f"least one; got {points!r:.80}."
            )
        shares = [share for share, _ in points]
        if not all(0 <= share <= 1 for share in shares) or sorted(set(shares)) != shares:
            raise ValueError(
                f"shares of the run in a ramp must ascend between 0 and 1, got {shares!r:.80}."
            )
        as_floats = tuple((float(share), float(value)) for share, value in points)
        object.__setattr__(self, "points", as_floats)

    @property
    def last(self) -> float:
        """The value at the end of a run."""
        return self.points[-1][1]

    def at(self, share: float) -> float:
        """The value when this share of the run's updates is done."""
        points = self.points
        after = bisect.bisect_right(points, share, key=lambda point: point[0])
        if after in (0, len(points)):
            return points[max(0, after - 1)][1]
        (start, low), (stop, high) = points[after - 1 : after + 1]
        between = low + (high - low) * ((share - start) / (stop - start))
        return sorted((low, between, high))[1]  # rounding goes past neither


def _is_pair(point: object) -> bool:
    return (
        isinstance(point, (tuple, list))
        and len(point) == 2
        and all(
            isinstance(number, (int, float))
            and not isinstance(number, bool)
            and math.isfinite(number)
            for number in point
        )
    )
