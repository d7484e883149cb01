"""Grey values of more than 8 bits: which of them is black, and which is white.

A file of 16 bits may hold values up to 255, 1,023, 4,095 or 65,535, and few files say which. The
range is chosen once for all images of a set, never for an image alone: that would make a dark image
as bright as others, and hide what tells them apart. A model keeps the range it was trained with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Range = tuple[float, float]
"""The value that becomes 0, and the one that becomes 255."""
Kind = Literal["whole", "real"]

SIXTEEN: Range = (0, 65535)
_WHOLE: tuple[Range, ...] = tuple((0, 2**bits - 1) for bits in (8, 10, 12, 14, 16))
_REAL: tuple[Range, ...] = ((0, 1), (-1, 1), *_WHOLE)
_LINES = 256
_KINDS: tuple[Kind, ...] = ("whole", "real")
_CALLED = {"whole": "grey values of more than 8 bits", "real": "floating-point grey values"}


@dataclass(frozen=True)
class Shown:
    """What one file shows of its range.

    Attributes:
        kind: ``whole`` numbers of more than 8 bits, or ``real`` numbers.
        low: its smallest value; ``high`` its largest.
        declared: the range that the file or its format says it has; None if it does not.
    """

    kind: Kind
    low: float
    high: float
    declared: Range | None = None


class UnknownRangeError(ValueError):
    """Values that have no place between black and white; the message follows a file's name."""


@dataclass(frozen=True)
class Levels:
    """Black and white for files of whole numbers, and of real numbers; None where not known.

    The default is what is known without any other image of a set: 16 bits, all of them used.
    """

    whole: Range | None = SIXTEEN
    real: Range | None = None

    @classmethod
    def of(cls, shown: Iterable[Shown]) -> Levels:
        """The levels of a set.

        For each kind: the range that all files declare, if it is one and holds their values;
        otherwise the smallest usual one that holds them (8, 10, 12, 14 or 16 bits; for real numbers
        also 0 to 1 and -1 to 1); otherwise the smallest and largest value of the set.

        >>> Levels.of([Shown("whole", 3, 250), Shown("whole", 0, 3000)])
        Levels(whole=(0, 4095), real=None)
        """
        every = list(shown)
        ranges = {kind: _range([one for one in every if one.kind == kind]) for kind in _KINDS}
        return cls(**ranges)

    @classmethod
    def read(cls, described: dict[str, Any]) -> Levels:
        """The reverse of :func:`dataclasses.asdict`, by way of JSON."""
        return cls(
            **{kind: None if found is None else tuple(found) for kind, found in described.items()}
        )

    def applied(self, values: npt.NDArray[Any], shown: Shown) -> npt.NDArray[np.uint8]:
        """Values as brightness from 0 to 255, rounded.

        Raises:
            UnknownRangeError: there is no range for their kind, or a usual one does not hold them.
        """
        known: Range | None = getattr(self, shown.kind)
        what = _CALLED[shown.kind]
        if known is None:
            raise UnknownRangeError(
                f"has {what}, and which of them is white is not known: the images that the model "
                "was trained on have none. Save it with 8 bits"
            )
        black, white = known
        usual = known in (_WHOLE if shown.kind == "whole" else _REAL)
        if usual and not black <= shown.low <= shown.high <= white:
            raise UnknownRangeError(
                f"has {what} from {shown.low:,g} to {shown.high:,g}, but here {black:,g} is black "
                f"and {white:,g} is white. Save it in this range, or with 8 bits"
            )
        made = np.empty(values.shape, np.uint8)
        for start in range(0, len(values), _LINES):  # all at once take nine times the memory
            part = values[start : start + _LINES].astype(np.float64)
            scaled = (part - black) * (255 / (white - black))
            made[start : start + _LINES] = np.rint(np.clip(scaled, 0, 255))
        return made


NO_LEVELS = Levels(None, None)
"""Of a set without such values."""


def read_otherwise(levels: Levels) -> bool:
    """Whether earlier versions read files of these levels with other values: they took 16 bits for
    whole numbers, whatever the set showed.

    >>> read_otherwise(Levels((0, 4095))), read_otherwise(Levels())
    (True, False)
    """
    return levels.whole not in (None, SIXTEEN) or levels.real is not None


def _range(shown: list[Shown]) -> Range | None:
    if not shown:
        return None
    low, high = min(one.low for one in shown), max(one.high for one in shown)
    declared = {one.declared for one in shown}
    usual = _WHOLE if shown[0].kind == "whole" else _REAL
    said = [one for one in declared if one is not None] if len(declared) == 1 else []
    holding = [one for one in (*said, *usual) if one[0] <= low and high <= one[1]]
    return holding[0] if holding else (low, high if high > low else low + 1)


def assumed(shown: Iterable[Shown], levels: Levels) -> list[str]:
    """What was taken for black and white, in sentences."""
    every = list(shown)
    said = []
    for kind in _KINDS:
        files = [one for one in every if one.kind == kind]
        known: Range | None = getattr(levels, kind)
        if not files or known is None:
            continue
        low, high = min(one.low for one in files), max(one.high for one in files)
        if {one.declared for one in files} == {known}:
            why = "as the files say"
        elif known in (_WHOLE if kind == "whole" else _REAL):
            why = "the smallest usual range that holds them"
        else:
            why = "their own range; values beyond it are cut off"
        one = len(files) == 1
        said.append(
            f"{len(files):,} file{'s' * (not one)} {'has' if one else 'have'} {_CALLED[kind]}, "
            f"from {low:,g} to {high:,g}. {'In it' if one else 'In all of them'} {known[0]:,g} is "
            f"black and {known[1]:,g} is white: {why}."
        )
    return said
