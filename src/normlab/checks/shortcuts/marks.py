"""Marks: something at the same place in many images of a class, such as a logo or a frame.

Marks are found on half of the images (:mod:`.constant`, :mod:`.coherent`) and judged on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...data.cache import Progress
from ...pages.findings import Finding, Level
from ...pages.words import counted, percent, shortened
from ..image_set import ImageSet
from .balanced import Rows
from .coherent import Details, coherent_marks
from .constant import Bools, Colours, constant_marks
from .halves import Floats, Halves, Judged, Pixels, cut, halves, judged, looked_at
from .regions import Place, in_words, places
from .tone import ToneLimit, tone_limits

_STAGE = "Looking for marks"
_MARGIN = 0.25
_BIG = 0.5
_EXAMPLES = 6
_TOLD = 4


@dataclass(frozen=True, eq=False)
class Mark:
    """Something at one place in many images of a class.

    Attributes:
        name: of the class.
        opaque: whether it has the same colours in every image; otherwise only its details are
            alike, as of something half transparent.
        region: (S, S), the pixels that gave it away, at most 64 a side.
        places: the same in words.
        judged: how many images have it.
        having: rows of some images that have it; ``lacking`` of some that do not.
    """

    name: str
    opaque: bool
    region: Bools
    places: tuple[Place, ...]
    judged: Judged
    having: tuple[int, ...]
    lacking: tuple[int, ...]

    @property
    def at_the_rim(self) -> bool:
        """Whether each of its places reaches the border of the image."""
        return all(
            min(place.left, place.top) <= 0
            or max(place.left + place.width, place.top + place.height) >= 1
            for place in self.places
        )


@dataclass(frozen=True, eq=False)
class Marks:
    """Result of :func:`marks`.

    Attributes:
        marks: one for each class that has any, the most certain first.
        tones: classes whose images end at a level that those of others exceed.
        classes: how many classes were looked at.
        aligned: whether objects have the same place and size in most images, as in digits.
    """

    marks: tuple[Mark, ...]
    tones: tuple[ToneLimit, ...]
    classes: int
    aligned: bool
    _names: Mapping[int, str]

    def findings(self, check: str, told: frozenset[str] = frozenset()) -> list[Finding]:
        """One for marks and one for levels, where there are any.

        Args:
            check: what the findings are about.
            told: classes whose surroundings are in other findings; marks at the rim of their
                images are not told again.
        """
        found = []
        shown = [mark for mark in self.marks if not (mark.name in told and mark.at_the_rim)]
        if shown:
            found.append(_finding(check, shown))
        if self.tones:
            found.append(_tone_finding(check, self.tones))
        return found

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; images go by their names."""
        return {
            "classes": self.classes,
            "aligned_objects": self.aligned,
            "marks": [
                {
                    "class": mark.name,
                    "opaque": mark.opaque,
                    "places": [place.describe() for place in mark.places],
                    **mark.judged.describe(),
                    "having": [self._names[row] for row in mark.having],
                    "lacking": [self._names[row] for row in mark.lacking],
                }
                for mark in self.marks
            ],
            "tone_limits": [tone.describe() for tone in self.tones],
        }


def marks(image_set: ImageSet, *, progress: Progress | None = None) -> Marks:
    """Marks of classes, and limits of their levels.

    A mark counts if its share in the class exceeds that in the other classes by 0.25, both taken
    at the near ends of their 95 % intervals (Wilson), on images that did not help to find it.
    """
    parts = halves(image_set)
    classes = parts.classes
    if len(classes) < 2:
        return Marks((), (), 0, False, {})
    images: dict[int, Pixels] = {}
    for done, index in enumerate(classes):
        if progress:
            progress(_STAGE, done, len(classes))
        images[index] = looked_at(image_set, parts.find[index])
    faint, aligned = coherent_marks(images)
    kinds: tuple[Mapping[int, Colours | Details], ...] = (
        constant_marks(images, aligned=aligned),
        faint,
    )
    limits = tone_limits(images)
    scored = [
        {index: _separated(mark.scores, index, images) for index, mark in kind.items()}
        for kind in kinds
    ]
    has: dict[tuple[int, int], list[Bools]] = {
        (number, index): [] for number, kind in enumerate(kinds) for index in kind
    }
    beyond: list[list[Bools]] = [[] for _ in limits]
    if has or limits:
        for rows in parts.judge:
            judge = looked_at(image_set, rows)
            for (number, index), found in has.items():
                found.append(kinds[number][index].scores(judge) >= scored[number][index])
            for limit, found in zip(limits, beyond, strict=True):
                found.append(limit.holds(judge))
    if progress:
        progress(_STAGE, len(classes), len(classes))
    carriers = sorted({index for _, index in has})
    by_class: dict[int, Mark] = {}
    for (number, index), found in has.items():
        mark = _judged_mark(image_set, parts, kinds[number][index], found, index, carriers)
        known = by_class.get(index)
        if mark and (known is None or mark.judged.difference > known.judged.difference + 0.05):
            by_class[index] = mark
    told = sorted(by_class.values(), key=lambda mark: -mark.judged.difference)
    examples = (row for mark in told for row in mark.having + mark.lacking)
    return Marks(
        marks=tuple(told),
        tones=tuple(
            told_limit
            for limit, held in zip(limits, beyond, strict=True)
            if (told_limit := limit.judged_on(held, image_set.classes))
        ),
        classes=len(classes),
        aligned=aligned,
        _names={row: str(image_set.names[row]) for row in examples},
    )


def _separated(
    scores: Callable[[Pixels], Floats], index: int, images: Mapping[int, Pixels]
) -> float:
    """The score from which an image counts as having the mark."""
    others = [scores(other) for at, other in images.items() if at != index]
    return cut(scores(images[index]), others)[0]


def _judged_mark(
    image_set: ImageSet,
    parts: Halves,
    mark: Colours | Details,
    has: Sequence[Bools],
    index: int,
    carriers: Sequence[int],
) -> Mark | None:
    shares = judged(has, index, carriers)
    if shares.difference < _MARGIN:
        return None
    rows = parts.judge[index]
    return Mark(
        name=image_set.classes[index],
        opaque=isinstance(mark, Colours),
        region=mark.region,
        places=places(mark.region),
        judged=shares,
        having=_some(rows[has[index]]),
        lacking=_some(rows[~has[index]]),
    )


def _some(rows: Rows) -> tuple[int, ...]:
    return tuple(sorted(rows[:_EXAMPLES].tolist()))


def _finding(check: str, shown: Sequence[Mark]) -> Finding:
    told = shortened(
        (
            f"{mark.name} ({in_words(mark.places)}, in {percent(mark.judged.share)} of its images)"
            for mark in shown
        ),
        _TOLD,
    )
    others = max(mark.judged.others for mark in shown)
    has = "no image" if not others else f"at most {percent(others)} of the images"
    low = percent(min(mark.judged.low for mark in shown))
    least = f"at least {low} of the images" if len(shown) == 1 else f"at least {low} of each class"
    return Finding(
        check,
        Level.INVALID if any(mark.judged.difference >= _BIG for mark in shown) else Level.LOOK,
        f"{counted(len(shown), 'class has', 'classes have')} something at the same place in many "
        f"images, such as a logo, a date or a frame: {told}. By images that did not help to find "
        f"it, {least} {'have' if len(shown) == 1 else 'has'} it (95 % interval), and {has} of "
        "other classes.",
        "Look at the images. A network can recognize the class by this alone, and the test images "
        "reward it: remove it, cover the same place in all classes, or use other images.",
    )


def _tone_finding(check: str, tones: Sequence[ToneLimit]) -> Finding:
    told = shortened((tone.words() for tone in tones), _TOLD)
    return Finding(
        check,
        Level.LOOK,
        f"{counted(len(tones), 'class has', 'classes have')} images whose "
        f"levels end where those of other classes go on: {told}.",
        "Find out whether these images were darkened, brightened or exposed otherwise, and treat "
        "all classes alike: a network can recognize the class by this.",
    )
