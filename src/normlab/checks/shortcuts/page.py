"""What the check for shortcuts shows on the page: classes that stand out, corners, cues."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...pages.words import percent, shortened
from ..image_set import ImageSet
from ..page.pictures import mean_image, strip
from ..protocol import PagePart, Section
from .corners import CHECK, KINDS, FilledCorners, Marked
from .guessing import CueResult
from .halves import Judged
from .marks import Mark
from .regions import in_words
from .saving import SavedAlike
from .shortcuts import Shortcuts
from .tone import ToneLimit

MARKED = 24
"""Classes whose filled corners or padding are shown in pictures; likewise those with marks."""
_BARS = 40
_AWAY = 4

Rows = npt.NDArray[np.int64]


def shortcuts_part(image_set: ImageSet, shortcuts: Shortcuts) -> PagePart:
    """Everything about shortcuts."""
    context = {
        **_marked(image_set, shortcuts.corners),
        **_placed(image_set, shortcuts),
        **_chart(shortcuts.corners),
        "cues": [_cue(cue) for cue in shortcuts.cues],
        "sample": max((cue.images for cue in shortcuts.cues), default=0),
    }
    return PagePart(
        __package__,
        sections=(
            Section("shortcuts", "Shortcuts", "shortcuts.html.j2", context, explains=(CHECK,)),
        ),
        style="shortcuts.css",
        method=(
            (
                "Shortcuts",
                "are cues outside the object from which a random forest predicts the class better "
                "than chance: by more than 2 points and a third of chance, at the lower end of the "
                "95 % interval.",
            ),
            (
                "Marks",
                "are found on half of the images of each class, as pixels of one colour with an "
                "edge beside them, or as details alike in sign and strength; they are counted on "
                "the other half. Up to 400 images a class are looked at, at most 64 pixels a side.",
            ),
        ),
        limits=(
            "Shortcuts other than these cues, such as a background that goes with a class.",
            "Faint marks where objects are aligned, as in digits, and marks in the colour of the "
            "background; marks that change their place from image to image.",
        ),
    )


def _marked(image_set: ImageSet, corners: FilledCorners) -> dict[str, Any]:
    """The classes that stand out, in pictures."""
    shown = corners.marked[:MARKED]
    standing_out = [image_set.classes.index(mark.name) for mark in corners.marked]
    others = np.flatnonzero(~np.isin(image_set.labels, standing_out))
    return {
        "marked": [_mark(image_set, mark) for mark in shown],
        "more_marked": len(corners.marked) - len(shown),
        "others": mean_image(image_set, others) if shown and len(others) else "",
    }


def _mark(image_set: ImageSet, mark: Marked) -> dict[str, Any]:
    rows = np.flatnonzero(image_set.labels == image_set.classes.index(mark.name))
    return {
        "name": mark.name,
        "kind": KINDS[mark.kind],
        "share": percent(mark.share),
        "low": percent(mark.low),
        "high": percent(mark.high),
        "others": percent(mark.others),
        "images": mark.images,
        "mean": mean_image(image_set, rows),
        "having": strip(image_set, mark.having),
        "lacking": strip(image_set, mark.lacking),
    }


def _placed(image_set: ImageSet, shortcuts: Shortcuts) -> dict[str, Any]:
    """What is at the same place in a class, in pictures, and what else sets a class apart."""
    every = shortcuts.marks.marks
    carriers = [image_set.classes.index(mark.name) for mark in every]
    rest = np.flatnonzero(~np.isin(image_set.labels, carriers))
    return {
        "placed": [_place(image_set, mark, rest) for mark in every[:MARKED]],
        "more_placed": max(len(every) - MARKED, 0),
        "tones": [_tone(tone) for tone in shortcuts.marks.tones],
        "saved": [_saved(one) for one in shortcuts.saved],
    }


def _place(image_set: ImageSet, mark: Mark, rest: Rows) -> dict[str, Any]:
    index = image_set.classes.index(mark.name)
    rows = np.flatnonzero(image_set.labels == index)
    if not len(rest):
        rest = np.flatnonzero(image_set.labels != index)
    return {
        "name": mark.name,
        "what": "the same colours" if mark.opaque else "similar details",
        "where": in_words(mark.places),
        "boxes": [
            f"left:{100 * place.left:.1f}%;top:{100 * place.top:.1f}%;"
            f"width:{100 * place.width:.1f}%;height:{100 * place.height:.1f}%"
            for place in mark.places
        ],
        "mean": mean_image(image_set, rows),
        "others": mean_image(image_set, rest),
        "having": strip(image_set, mark.having),
        "lacking": strip(image_set, mark.lacking),
        **_counted(mark.judged),
    }


def _counted(judged: Judged) -> dict[str, Any]:
    return {
        "share": percent(judged.share),
        "low": percent(judged.low),
        "high": percent(judged.high),
        "rest": percent(judged.others),
        "images": judged.images,
    }


def _tone(tone: ToneLimit) -> dict[str, Any]:
    assert tone.judged is not None
    end = "brighter" if tone.bright else "darker"
    return {
        "name": tone.name,
        "what": f"nothing {end} than level {tone.level:.0f} of 255",
        **_counted(tone.judged),
    }


def _saved(one: SavedAlike) -> dict[str, Any]:
    what = "saved as" if one.kind == "saved" else "the file states"
    return {"name": one.name, "what": f"{what} {one.value}", **_counted(one.counted)}


def _chart(corners: FilledCorners) -> dict[str, Any]:
    """Shares by class; where there are many, the largest."""
    names = {(mark.kind, mark.name) for mark in corners.marked}
    order = sorted(
        range(len(corners.classes)),
        key=lambda at: -max(corners.shares[kind][at] for kind in KINDS),
    )
    shown = sorted(order[:_BARS]) if len(order) > _BARS else range(len(order))
    rows = [
        {
            "name": corners.classes[at],
            "bars": [
                {
                    "share": corners.shares[kind][at],
                    "marked": (kind, corners.classes[at]) in names,
                }
                for kind in KINDS
            ],
        }
        for at in shown
    ]
    some = any(share > 0 for shares in corners.shares.values() for share in shares)
    return {
        "ground": corners.ground,
        "kinds": KINDS,
        "chart": rows if some else [],
        "left_out": len(order) - len(shown),
    }


def _cue(cue: CueResult) -> dict[str, Any]:
    accuracy, low, high = (value or 0.0 for value in (cue.accuracy, cue.low, cue.high))
    return {
        "title": cue.title[0].upper() + cue.title[1:],
        "outside": cue.outside,
        "seen": cue.seen,
        "told": cue.accuracy is not None,
        "accuracy": percent(accuracy),
        "interval": f"{percent(low)} to {percent(high)}",
        "chance": percent(cue.chance),
        "at": {
            "accuracy": 100 * accuracy,
            "low": 100 * low,
            "width": 100 * (high - low),
            "chance": 100 * cue.chance,
        },
        "verdict": cue.verdict,
        "away": shortened((f"{name} ({area:.2f})" for name, area in cue.gives_away), _AWAY),
    }
