"""Levels that end early: all images of a class darkened, or brightened, by the same factor.

An object is dark or bright, and still something else in its image, a highlight or a shadow, reaches
the end of the scale in most photographs. Where all images of a class were multiplied by a factor,
none reaches beyond it. So what is compared is the brightest and the darkest level of each image,
not the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...pages.words import percent
from .halves import Floats, Judged, Pixels, cut, judged

_OUTERMOST = 0.002
_FOUND = {True: 0.5, False: 0.65}
_MARGIN = 0.4
_SLACK = 0.04
_INNER = {True: 12, False: 16}
_PILE, _PILED = 12, 0.28
_PLAIN = 0.75


@dataclass(frozen=True)
class ToneLimit:
    """A level that images of a class stay within and those of others do not.

    Attributes:
        index: of the class; ``name`` its name.
        bright: whether it is the brightest level, not the darkest.
        level: from 0 to 255, apart from 0.2 % of the pixels.
        judged: how many images stay within it.
    """

    index: int
    bright: bool
    level: float
    name: str = ""
    judged: Judged | None = None

    def holds(self, images: Pixels) -> npt.NDArray[np.bool_]:
        """(n,): whether an image stays within the level."""
        return np.asarray(_ends(images, self.bright) >= _score(self.level, self.bright))

    def judged_on(
        self, holds: Sequence[npt.NDArray[np.bool_]], classes: Sequence[str]
    ) -> ToneLimit | None:
        """The limit with its counts; None if they do not show it."""
        counted = judged(holds, self.index, ())
        if counted.low - counted.others < _MARGIN:
            return None
        return replace(self, name=classes[self.index], judged=counted)

    def words(self) -> str:
        """What stays within it, and what does not."""
        assert self.judged is not None
        return (
            f"in {percent(self.judged.share)} of the images of {self.name} nothing is "
            f"{'brighter' if self.bright else 'darker'} than level {self.level:.0f} of 255, in "
            f"the other classes in {percent(self.judged.others)}"
        )

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        assert self.judged is not None
        return {
            "class": self.name,
            "end": "brightest" if self.bright else "darkest",
            "level": self.level,
            **self.judged.describe(),
        }


def tone_limits(images: Mapping[int, Pixels]) -> list[ToneLimit]:
    """Limits that separate a class from the others.

    The share of the class's images within the limit exceeds that of the others by 0.5 or more
    (0.65 at the dark end), and the limit is at least 12 levels below white or 16 above black.
    Multiplied images pile up at the limit, since many photographs reach the end of the scale, while
    merely dark ones thin out: of the images within the limit 28 % end within 12 levels of it. For
    the brightest level a distance of 0.75 suffices.

    Args:
        images: (n, S, S, C) by class; at least two classes.
    """
    found = []
    for bright in (True, False):
        ends = {index: _ends(own, bright) for index, own in images.items()}
        for index, own in ends.items():
            rest = [other for at, other in ends.items() if at != index]
            score, distance = cut(own, rest, _SLACK)
            level = _score(score, bright)
            inner = 255 - level if bright else level
            within = own[own >= score]
            piled = float((within < score + _PILE).mean())
            if (
                distance >= _FOUND[bright]
                and inner >= _INNER[bright]
                and (piled >= _PILED or (bright and distance >= _PLAIN))
            ):
                found.append(ToneLimit(index, bright, _score(score, bright)))
    return found


def _score(level: float, bright: bool) -> float:
    """From a level to a score that is larger the earlier levels end, and back."""
    return -level if bright else level


def _ends(images: Pixels, bright: bool) -> Floats:
    if not len(images):
        return np.empty(0)
    if bright:
        flat = images.max(-1).reshape(len(images), -1)
        return np.asarray(-np.quantile(flat, 1 - _OUTERMOST, axis=1))
    flat = images.min(-1).reshape(len(images), -1)
    return np.asarray(np.quantile(flat, _OUTERMOST, axis=1))
