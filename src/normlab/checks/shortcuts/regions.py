"""Where something is, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, find_objects, label

from ...pages.words import listed

Bools = npt.NDArray[np.bool_]

_MOST = 4
_LONG = 0.75
_JOINED = 1 / 24
_ROWS = ("top", "", "bottom")
_COLUMNS = ("left", "", "right")


@dataclass(frozen=True)
class Place:
    """A box that something fills, in shares of the side.

    Attributes:
        left: of the box; ``top`` likewise, and ``width`` and ``height``.
        words: where that is.
    """

    left: float
    top: float
    width: float
    height: float
    words: str

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "left": self.left,
            "top": self.top,
            "width": self.width,
            "height": self.height,
            "words": self.words,
        }


def places(region: Bools) -> tuple[Place, ...]:
    """The parts of a region (S, S), the largest first, four at most."""
    size = len(region)
    if _is_frame(region):
        return (Place(0.0, 0.0, 1.0, 1.0, "around the edge"),)
    reach = max(round(_JOINED * size), 1)
    parts, _ = label(binary_dilation(region, np.ones((3, 3)), iterations=reach))
    parts[~region] = 0
    found = []
    for number, box in enumerate(find_objects(parts), 1):
        if box is not None:
            rows, columns = box
            found.append((int((parts[box] == number).sum()), _place(rows, columns, size)))
    ordered = sorted(found, key=lambda pair: -pair[0])
    return tuple(place for _, place in ordered[:_MOST])


def in_words(found: tuple[Place, ...]) -> str:
    """Where, and how large.

    >>> in_words((Place(0.05, 0.05, 0.15, 0.15, "at the top left"),))
    'at the top left, about 15 % of the width'
    """
    where = listed(dict.fromkeys(place.words for place in found))
    if len(found) == 1 and max(found[0].width, found[0].height) < _LONG:
        extent = max(found[0].width, found[0].height)
        return f"{where}, about {max(round(100 * extent), 1)} % of the width"
    return where


def _is_frame(region: Bools) -> bool:
    """Whether it lies along all four sides and nowhere else."""
    size = len(region)
    rim = max(size // 8, 1)
    sides = (
        region[:rim].any(0),
        region[-rim:].any(0),
        region[:, :rim].any(1),
        region[:, -rim:].any(1),
    )
    inner = region[2 * rim : -2 * rim, 2 * rim : -2 * rim]
    return all(side.mean() >= _LONG for side in sides) and inner.mean() < 0.05


def _place(rows: slice, columns: slice, size: int) -> Place:
    top, height = rows.start / size, (rows.stop - rows.start) / size
    left, width = columns.start / size, (columns.stop - columns.start) / size
    row, column = (_ROWS[_third(top + height / 2)], _COLUMNS[_third(left + width / 2)])
    if width >= _LONG and height >= _LONG:
        words = "over most of the image"
    elif width >= _LONG:
        words = f"across the {row or 'middle'}"
    elif height >= _LONG:
        words = f"along the {column} side" if column else "down the middle"
    elif row or column:
        words = f"at the {' '.join(filter(None, (row, column)))}"
    else:
        words = "in the centre"
    return Place(left, top, width, height, words)


def _third(middle: float) -> int:
    return min(int(3 * middle), 2)
