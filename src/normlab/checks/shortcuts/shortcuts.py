"""Shortcuts: what gives a class away without the object.

A network that can recognize a class by black corners does so (Geirhos et al. 2020, "Shortcut
learning in deep neural networks"), and a test set made in the same way rewards it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...data.cache import Progress
from ...pages.findings import Finding, Level
from ...pages.words import listed, shortened
from ..image_set import ImageSet
from ..measures.filenames import NONE, carried_classes
from ..measures.headers import headers
from ..measures.pixels import pixel_measures
from .corners import CHECK, KINDS, SURROUNDINGS, FilledCorners, filled_corners
from .cues import cues
from .guessing import CueResult, guessed, sample
from .marks import Marks, marks
from .saving import SavedAlike, saved_alike, saving_findings

_STAGE = "Testing cues"


@dataclass(frozen=True, eq=False)
class Shortcuts:
    """Result of :func:`shortcuts`.

    Attributes:
        corners: filled corners and padding by class.
        marks: what is at the same place in many images of a class.
        saved: classes whose files were saved in a way of their own.
        cues: one result per cue, those outside the object first, then by accuracy.
        named_by_class: share of the files whose names contain a class name; 0 without files.
    """

    corners: FilledCorners
    marks: Marks
    saved: tuple[SavedAlike, ...]
    cues: tuple[CueResult, ...]
    named_by_class: float

    def findings(self) -> list[Finding]:
        """At least one; the worst first."""
        marked = {mark.kind for mark in self.corners.marked}
        found = self.corners.findings() if marked else []
        around = frozenset(mark.name for mark in self.corners.marked if mark.above and mark.big)
        found += self.marks.findings(CHECK, around)
        found += saving_findings(CHECK, self.saved)
        found += [
            self._finding(cue)
            for cue in self.cues
            if cue.shortcut and cue.name not in marked and not self._told(cue)
        ]
        # Objects on a plain ground, or aligned ones, decide such cues by their shapes.
        shapes = bool(self.corners.ground) or self.marks.aligned
        deciding = [cue for cue in self.cues if cue.decides_some and not self._told(cue)]
        if deciding and not shapes:
            found.append(_decided(deciding))
        if not any(finding.level is not Level.FINE for finding in found):
            of_files = any(cue.name == "image-size" for cue in self.cues)
            found.append(
                Finding(
                    CHECK,
                    Level.FINE,
                    "No class stands out by filled corners, padding, something at one place, image "
                    "size, compression, metadata or the style of its file names."
                    if of_files
                    else self.corners.findings()[0].sentence,
                )
            )
        tried, total = max((cue.classes for cue in self.cues), default=0), len(self.corners.classes)
        if 0 < tried < total:
            found.append(
                Finding(
                    CHECK,
                    Level.FINE,
                    f"Cues other than corners were tried on {tried:,} of the {total:,} classes, "
                    "drawn among those with enough different images.",
                )
            )
        inner = [
            cue
            for cue in self.cues
            # Filled corners are dark borders as well.
            if cue.associated and not cue.outside and not (marked and cue.name == "borders")
        ]
        if inner:
            best = max(inner, key=lambda cue: cue.accuracy or 0)
            others = listed(cue.title for cue in inner if cue is not best)
            sentence = (
                f"{best.sentence()}{f'; fewer from {others}' if others else ''}. Such cues may "
                "come from the objects themselves, so this is not an error, but a network should "
                "do better than this."
            )
            found.append(Finding(CHECK, Level.FINE, sentence))
        return sorted(found, key=lambda finding: -finding.level.rank)

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; images go by their names."""
        return {
            "filled_corners": self.corners.describe(),
            "at_one_place": self.marks.describe(),
            "saved_alike": [one.describe() for one in self.saved],
            "cues": [cue.describe() for cue in self.cues],
            "files_named_by_a_class": self.named_by_class,
        }

    def _told(self, cue: CueResult) -> bool:
        """Whether other findings name every class that the cue gives away, or decides. What tells
        one of two classes tells the other."""
        placed = {mark.name for mark in self.marks.marks}
        alike = {
            kind: {one.name for one in self.saved if one.kind == kind}
            for kind in ("saved", "stated")
        }
        if cue.outside:
            away = {name for name, _ in cue.gives_away}
            named = {
                "compression": alike["saved"],
                "metadata": alike["stated"],
                **dict.fromkeys(KINDS, placed),
            }.get(cue.name, set())
        else:
            away = set(cue.decided)
            named = placed | alike["saved"] | {tone.name for tone in self.marks.tones}
            named |= {mark.name for mark in self.corners.marked}
            named |= {
                name
                for other in self.cues
                if other.shortcut and other.seen
                for name in other.decided
            }
        return bool(away) and (away <= named or (cue.classes == 2 and bool(away & named)))

    def _finding(self, cue: CueResult) -> Finding:
        away = [name for name, _ in cue.gives_away]
        given = f" It gives away {shortened(away)}." if away else ""
        told = f"{cue.sentence()}.{given}"
        if cue.name == "name-words" and self.named_by_class >= 0.5:
            return Finding(
                CHECK,
                Level.FINE,
                f"File names contain the class. {told} A network does not see names, but images "
                "sorted or split by name are sorted or split by class.",
                "Draw splits at random within each class, as normlab does.",
            )
        if not cue.seen:
            return Finding(
                CHECK,
                Level.LOOK,
                f"{told} A network does not see this, but it suggests that these classes came from "
                "another source or went through another tool.",
                "Find out what else was done to these classes, and do the same to all classes.",
            )
        if cue.name in KINDS:
            return Finding(
                CHECK,
                Level.INVALID if cue.big else Level.LOOK,
                f"{told} A network can use what surrounds the picture instead of the object.",
                SURROUNDINGS,
            )
        return Finding(
            CHECK,
            Level.LOOK,
            f"{told} A network can see it, because resizing and compression leave traces.",
            "Take the images of all classes from the same source, at the same size and quality.",
        )


def _decided(cues: Sequence[CueResult]) -> Finding:
    """Cues that may come from the object, but tell a class almost without error."""
    told = listed(
        f"{cue.title} ({shortened(f'{name}, AUC {area:.3f}' for name, area in cue.surest)})"
        for cue in cues
    )
    return Finding(
        CHECK,
        Level.LOOK,
        f"One simple measure alone tells nearly every image of a class from all others: {told}. "
        "Objects can do that, and so can light, another camera or a program.",
        "Compare images of these classes with others, and find out how they were made.",
    )


def shortcuts(image_set: ImageSet, *, progress: Progress | None = None) -> Shortcuts:
    """What gives classes away without the object.

    For every cue (:func:`~.cues.cues`) a random forest is trained on that cue alone and tested by
    five-fold cross-validation, stratified by class, on a sample with equal numbers of each class
    (at most about 5,000 images and 150 classes). Equal images count once, so that none is in two
    folds. Balanced accuracy is compared with chance, 1 / classes; its 95 % interval (Wilson) is for
    classes times the harmonic mean of the numbers of images per class.

    A cue is *associated* with the class if the lower end exceeds chance by 2 points and by a third
    of chance. It is a *shortcut* if it is also outside the object. Turned, mirrored and cropped
    copies of a photograph may be in two folds; leaves of at least 8 images keep the forest from
    recognizing single images.

    Filled corners and padding are judged class by class, see :func:`.corners.filled_corners`.

    Args:
        image_set: the images.
        progress: called with a stage, and how many of how many images or cues are done.
    """
    corners = filled_corners(image_set, pixel_measures(image_set, progress=progress).frames)
    found_marks = marks(image_set, progress=progress)
    measured = cues(image_set, progress=progress)
    rows = sample(image_set)
    results = []
    for done, cue in enumerate(measured):
        if progress:
            progress(_STAGE, done, len(measured))
        results.append(guessed(cue, image_set, rows))
    if progress:
        progress(_STAGE, len(measured), len(measured))
    named = 0.0
    if image_set.root is not None:
        carried = carried_classes(image_set.names.tolist(), image_set.labels, image_set.classes)
        named = float((carried != NONE).mean())
    ordered = sorted(results, key=lambda cue: (not cue.outside, -(cue.accuracy or 0)))
    about = headers(image_set)
    return Shortcuts(
        corners=corners,
        marks=found_marks,
        saved=saved_alike(about, image_set.labels, image_set.classes) if about else (),
        cues=tuple(ordered),
        named_by_class=named,
    )
