"""Filled corners and padding: pictures that were turned or padded, counted class by class."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_high, median_low
from typing import Any

import numpy as np
import numpy.typing as npt

from ...keyed import rng
from ...pages.findings import Finding, Level
from ...pages.words import counted, percent, shortened, span
from ..image_set import ImageSet
from ..measures.frames import COLOURS, Frames, frames_of, plain_ground
from ..proportions import wilson
from .balanced import Rows, first_of_each

CHECK = "shortcuts"
"""Which check the findings belong to."""
KINDS = {"filled-corners": "filled corners", "padding": "padding"}
"""Marks of a class, and what they are called."""
SURROUNDINGS = (
    "A network can recognize these classes by what surrounds the picture, and the test images "
    "reward it. Use the pictures as they were before they were turned or padded, or crop every "
    "class to what is inside."
)
"""What to do about pictures whose surroundings give their class away."""

_MARGIN = 0.25
_BIG = 0.5
_QUICK = 60_000
_EXAMPLES = 6
_HAVE = {
    "filled-corners": "at least two {colour}corners",
    "padding": "a {colour}bar along a side",
}


@dataclass(frozen=True)
class Marked:
    """A class that has filled corners or padding far more often, or far less, than the others.

    Attributes:
        kind: ``filled-corners`` or ``padding``.
        name: of the class.
        share: of its images that have the mark; ``low`` and ``high`` its 95 % interval (Wilson).
        others: median share of the other classes.
        images: how many images of the class were examined.
        having: rows of some images with the mark; ``lacking`` of some without.
    """

    kind: str
    name: str
    share: float
    low: float
    high: float
    others: float
    images: int
    having: tuple[int, ...]
    lacking: tuple[int, ...]

    @property
    def above(self) -> bool:
        """Whether the mark is more common here than elsewhere, not less."""
        return self.share > self.others

    @property
    def difference(self) -> float:
        """Distance from the other classes to the near end of the interval; from 0 to 1."""
        return max(self.low - self.others, self.others - self.high, 0.0)

    @property
    def big(self) -> bool:
        """Whether most of the class and only a minority of the others have the mark."""
        return self.difference >= _BIG


@dataclass(frozen=True, eq=False)
class FilledCorners:
    """Turned and padded pictures by class.

    Attributes:
        classes: their names.
        images: how many images of each class were examined.
        shares: kind to the share of each class's images that have it.
        colours: how many of the turned or padded pictures are surrounded by each of ``COLOURS``.
        ground: those of ``COLOURS`` that are the background of the set's objects, and therefore not
            a sign of turning or padding.
        marked: classes that stand out, the clearest first.
    """

    classes: tuple[str, ...]
    images: tuple[int, ...]
    shares: dict[str, tuple[float, ...]]
    colours: tuple[int, ...]
    ground: tuple[str, ...]
    marked: tuple[Marked, ...]
    _names: dict[int, str]

    def findings(self) -> list[Finding]:
        """One for filled corners and one for padding where classes stand out, otherwise one."""
        found = [
            self._finding(kind, group)
            for kind in KINDS
            if (group := [mark for mark in self.marked if mark.kind == kind])
        ]
        if found:
            return found
        if self.ground:
            sentence = (
                f"Objects are on a plain background ({shortened(self.ground)}), so corners of that "
                "colour do not count as filled. No class stands out by filled corners or padding."
            )
        else:
            sentence = "No class stands out by filled corners or padding."
        return [Finding(CHECK, Level.FINE, sentence)]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON: shares by class, and classes that stand out with example images."""
        return {
            "plain_ground": list(self.ground),
            "colours": dict(zip(COLOURS, self.colours, strict=True)),
            "shares": [
                {"class": name, "images": images}
                | {kind.replace("-", "_"): self.shares[kind][index] for kind in KINDS}
                for index, (name, images) in enumerate(zip(self.classes, self.images, strict=True))
            ],
            "marked": [
                {
                    "kind": mark.kind,
                    "class": mark.name,
                    "share": mark.share,
                    "interval": [mark.low, mark.high],
                    "others": mark.others,
                    "images": mark.images,
                    "having": [self._names[row] for row in mark.having],
                    "lacking": [self._names[row] for row in mark.lacking],
                }
                for mark in self.marked
            ],
        }

    def _finding(self, kind: str, group: list[Marked]) -> Finding:
        most = max(self.colours)
        one = most >= 0.9 * sum(self.colours) and self.colours[2] != most
        colour = f"{COLOURS[self.colours.index(most)]} " if one else "filled "
        have = _HAVE[kind].format(colour="" if kind == "padding" and not one else colour)
        low, high = min(mark.share for mark in group), max(mark.share for mark in group)
        others = float(np.median([mark.others for mark in group]))
        sentence = (
            f"{counted(len(group), 'class has', 'classes have')} {KINDS[kind]} far "
            f"{'more' if group[0].above else 'less'} often than the others: "
            f"{shortened(mark.name for mark in group)}. "
            f"{span(low, high)} of {'its' if len(group) == 1 else 'their'} images have {have}; the "
            f"median of the other classes is {percent(others)}."
        )
        big = any(mark.big for mark in group)
        return Finding(CHECK, Level.INVALID if big else Level.LOOK, sentence, SURROUNDINGS)


def filled_corners(image_set: ImageSet, frames: Frames | None = None) -> FilledCorners:
    """Turned and padded pictures by class, from the pixels alone.

    An image counts as turned if oblique edges cut off at least two of its corners, and as padded
    if it is upright with a bar along a side (:mod:`.frames`). A class is marked if its share
    exceeds the median of the other classes by at least 0.25, measured from the near end of the
    share's 95 % interval (Wilson): knowing the mark then changes the odds of the class by a third
    or more, while the one photograph in a hundred that merely looks turned never counts. From 0.5
    on, most of the class and only a minority of the others have the mark, which invalidates
    accuracies.

    If no class is marked in this way, classes that lack what the others have are marked instead,
    but only if their flat corners of any shape are equally rare. Corners in the colour of a plain
    background (:func:`~.frames.plain_ground`) never mark a class.

    Args:
        image_set: the images.
        frames: the frames of every image, if they are known. Otherwise they are measured, above
            60,000 images on a sample with equal numbers of each class.
    """
    rows = np.arange(len(image_set), dtype=np.int64)
    if frames is None and len(rows) > _QUICK:
        per_class = max(_QUICK // len(image_set.classes), 1)
        order = rng(0, "filled corners").permutation(rows)
        rows = np.sort(first_of_each(order, image_set.labels, per_class))
    return _corners(image_set, frames or frames_of(image_set, rows), rows)


def _corners(image_set: ImageSet, frames: Frames, rows: Rows) -> FilledCorners:
    labels, classes = image_set.labels[rows], len(image_set.classes)
    images = np.bincount(labels, minlength=classes)
    ground = plain_ground(frames, labels, classes)
    frames = frames.without(ground)
    having = {"filled-corners": frames.turned, "padding": frames.padded}
    framed = frames.turned | frames.padded
    colours = np.bincount(frames.colour[framed], minlength=len(COLOURS))
    flat = _shares(frames.flat[:, int(colours.argmax())], labels, images)
    shares = {kind: _shares(has, labels, images) for kind, has in having.items()}
    marked = []
    for kind, has in having.items():
        for index in range(classes):
            mark = _marked(index, shares[kind], flat, images)
            if mark:
                mine = labels == index
                marked.append(
                    Marked(
                        kind,
                        image_set.classes[index],
                        *mark,
                        int(images[index]),
                        _examples(rows[mine & has], kind, index, "having"),
                        _examples(rows[mine & ~has], kind, index, "lacking"),
                    )
                )
    above = {mark.kind for mark in marked if mark.above}
    marked = [mark for mark in marked if mark.above or mark.kind not in above]
    examples = (row for mark in marked for row in mark.having + mark.lacking)
    return FilledCorners(
        classes=image_set.classes,
        images=tuple(images.tolist()),
        shares={kind: tuple(values.tolist()) for kind, values in shares.items()},
        colours=tuple(colours.tolist()),
        ground=tuple(np.array(COLOURS)[ground].tolist()),
        marked=tuple(sorted(marked, key=lambda mark: -mark.difference)),
        _names={row: str(image_set.names[row]) for row in examples},
    )


def _marked(
    index: int,
    shares: npt.NDArray[np.float64],
    flat: npt.NDArray[np.float64],
    images: npt.NDArray[np.int64],
) -> tuple[float, float, float, float] | None:
    """Share, interval and median of the others if the class is marked, otherwise None."""
    others = images > 0
    others[index] = False
    if not images[index] or not others.any():
        return None
    share = float(shares[index])
    low, high = wilson(share, int(images[index]))
    # Of two middle values the nearer one: half of the other classes are then farther away.
    rest = shares[others].tolist()
    below, above = median_low(rest), median_high(rest)
    rare = float(np.median(flat[others])) - flat[index] >= _MARGIN
    if low - above >= _MARGIN:
        return share, low, high, above
    if below - high >= _MARGIN and rare:
        return share, low, high, below
    return None


def _shares(
    has: npt.NDArray[np.bool_], labels: Rows, images: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    return np.bincount(labels[has], minlength=len(images)) / np.maximum(images, 1)


def _examples(rows: Rows, kind: str, index: int, which: str) -> tuple[int, ...]:
    drawn = rng(0, "examples", kind, index, which).permutation(rows)[:_EXAMPLES]
    return tuple(sorted(drawn.tolist()))
