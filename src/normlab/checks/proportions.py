"""Intervals of shares."""

from __future__ import annotations

import math


def wilson(share: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % score interval of a share of ``count`` (Wilson 1927); (0, 1) for a count of 0.

    The count may be an effective number that is not whole, which scipy does not accept.
    """
    if count <= 0:
        return 0.0, 1.0
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    whole = 1 + z * z / count
    # Rounding must not leave out the share itself: of 0 and 1 it is an end of the interval.
    return max(min((middle - reach) / whole, share), 0.0), min(
        max((middle + reach) / whole, share), 1.0
    )
