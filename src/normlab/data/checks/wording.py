"""How findings put names and numbers."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 8


def listed(names: Iterable[str], most: int = _MOST) -> str:
    """``a, b and c``; after eight names ``and N more``."""
    every = list(names)
    if len(every) > most:
        return f"{', '.join(every[:most])} and {len(every) - most} more"
    return " and ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def percent(share: float) -> str:
    """A share as a percentage that is 0 or 100 only when it is, to a digit below 10."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if value < 0.1:
        return "below 0.1 %"
    if value < 9.95:
        return f"{value:.1f} %"
    return f"{value:.0f} %" if value < 99.5 else f"{min(value, 99.9):.1f} %"


def span(low: float, high: float) -> str:
    """``12 % to 15 %``, or one number where they read the same."""
    one, two = percent(low), percent(high)
    return one if one == two else f"{one} to {two}"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 class``, ``2 classes``, ``3,000 images``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
