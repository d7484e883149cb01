"""The axes of a set of statistics: read from a spec's notation, in words, and as a drawing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from .spec import NormSpec

Extent = Literal["all", "part", "one"]
"""How much of an axis one set takes: all of it; a group, chunk or window of it; one index."""

_NOTATION = re.compile(
    r"(?P<letters>(?P<n>N|\(N/\w+\))?(?P<c>C|\(C/\w+\))?(?P<h>H)?(?P<w>W)?)(?P<window> windows?)?"
)
_GRID_N, _GRID_C = 4, 8


@dataclass(frozen=True)
class Axes:
    """How much of each axis of (N, C, H, W) one set of statistics takes.

    In a filter bank, N are the filters, C the channels that a filter reads, H and W its kernel.

    Attributes:
        n: of the images.
        c: of the channels.
        hw: of the positions.
        windows: whether ``part`` means neighbours, each value with a window of its own, and not
            groups that divide the axis.
    """

    n: Extent
    c: Extent
    hw: Extent
    windows: bool = False

    @property
    def letters(self) -> str:
        """Three columns: what is pooled, in lower case where it is in parts, and dots.

        >>> read_axes("(C/G)HW").letters
        '· c HW'
        """
        named = (("N", self.n), ("C", self.c), ("HW", self.hw))
        return " ".join(
            {"all": name, "part": name.lower(), "one": "·" * len(name)}[extent]
            for name, extent in named
        )

    def words(self, *, filters: bool = False) -> str:
        """What one set takes.

        >>> read_axes("(C/G)HW").words()
        'one image, a group of channels, all positions'
        >>> read_axes("CHW").words(filters=True)
        'one filter, all its channels, all its positions'
        """
        what = ("filter", "channel", "position") if filters else ("image", "channel", "position")
        its = "its " if filters else ""
        parts = ("chunk", "window" if self.windows else "group", "window")
        said = []
        for index, (extent, name, part) in enumerate(
            zip((self.n, self.c, self.hw), what, parts, strict=True)
        ):
            of = its if index else ""
            said.append(
                {
                    "all": f"all {of}{name}s",
                    "part": f"a {part} of {of}{name}s",
                    "one": f"one {name}" if not (index and filters) else f"one of its {name}s",
                }[extent]
            )
        return ", ".join(said)

    def drawn(self, *, filters: bool = False) -> list[str]:
        """Images against channels in characters, the values of one set filled.

        >>> print("\\n".join(read_axes("HW").drawn()))
                  channels
        images    ■ □ □ □ □ □ □ □
                  □ □ □ □ □ □ □ □
                  □ □ □ □ □ □ □ □
                  □ □ □ □ □ □ □ □
        """
        mark = {"all": "■", "part": "◧", "one": "▪"}[self.hw]
        rows, columns = (
            {"all": whole, "part": whole // 2, "one": 1}[extent]
            for extent, whole in ((self.n, _GRID_N), (self.c, _GRID_C))
        )
        lines = [" " * 10 + "channels"]
        for row in range(_GRID_N):
            head = ("filters" if filters else "images") if row == 0 else ""
            cells = [mark if row < rows and c < columns else "□" for c in range(_GRID_C)]
            lines.append(f"{head:<10}" + " ".join(cells))
        return lines


def read_axes(notation: str) -> Axes:
    """Read a spec's notation: the letters of N, C, H and W that a set takes whole, ``(C/G)`` for
    a group of channels and ``(N/G)`` for a chunk of images. With ``window`` after them, positions
    are a window of neighbours, or channels where positions are not named.

    >>> read_axes("NHW")
    Axes(n='all', c='one', hw='all', windows=False)
    >>> read_axes("C window")
    Axes(n='one', c='part', hw='one', windows=True)
    >>> read_axes("CHW windows")
    Axes(n='one', c='all', hw='part', windows=True)

    Raises:
        ValueError: another notation.
    """
    found = _NOTATION.fullmatch(notation)
    if (
        found is None
        or not found["letters"]
        or (found["h"] is None) != (found["w"] is None)
        or (found["window"] and not (found["c"] or found["h"]))
    ):
        raise ValueError(
            f"the axes {notation!r} are not of N, C, H and W, such as NHW, (C/G)HW, (N/G)HW, "
            "C window or HW windows."
        )
    windows = found["window"] is not None
    extents: dict[str, Extent] = {}
    for axis in ("n", "c", "h"):
        letter = found[axis]
        extents[axis] = "one" if letter is None else "all" if len(letter) == 1 else "part"
    if windows:
        extents["h" if found["h"] else "c"] = "part"
    return Axes(extents["n"], extents["c"], extents["h"], windows)


@dataclass(frozen=True)
class Kind:
    """One kind of sets of statistics: its axes, of the activations or of the filters."""

    axes: Axes
    filters: bool

    @property
    def words(self) -> str:
        """What one set takes."""
        return self.axes.words(filters=self.filters)

    @property
    def drawn(self) -> list[str]:
        """See :meth:`Axes.drawn`."""
        return self.axes.drawn(filters=self.filters)


def kinds_of(spec: NormSpec) -> tuple[Kind, ...]:
    """Every kind of set of a method: those of its filters, then those of its layer."""
    filters = [Kind(Axes("one", "all", "all"), filters=True)] if spec.filters else []
    return (*filters, *(Kind(read_axes(axes), filters=False) for axes in spec.axes))
