"""Files saved alike: most files of a class were written in one way, and other classes' were not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...pages.findings import Finding, Level
from ...pages.words import percent, shortened
from ..measures.headers import Headers
from ..proportions import wilson
from .halves import Judged

_LEAST = 20
_MARGIN = 0.5
_TOLD = 4
_SAVED = "saved"
_ADVICE = {
    _SAVED: "Save the images of all classes with the same program and settings: compression leaves "
    "traces in the pixels.",
    "stated": "Find out where these files come from: a network does not see this, but they were "
    "probably made otherwise than the rest.",
}


@dataclass(frozen=True)
class SavedAlike:
    """A class most of whose files agree in something that few files of other classes have.

    Attributes:
        kind: ``saved`` (how the picture was saved) or ``stated`` (what else the file states).
        name: of the class.
        value: what they agree in, in words.
        counted: how many files have it.
    """

    kind: str
    name: str
    value: str
    counted: Judged

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "kind": self.kind,
            "class": self.name,
            "value": self.value,
            **self.counted.describe(),
        }


def saved_alike(
    about: Headers, labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> tuple[SavedAlike, ...]:
    """Classes whose files were saved in a way of their own, or state something of their own.

    For each class the most common value is counted. It is told if its share there exceeds that in
    the other classes by 0.5, both at the near ends of their 95 % intervals (Wilson). What the
    other classes have is the mean of their shares.

    Args:
        about: the headers of every file.
        labels: class of each file.
        classes: their names.
    """
    found = []
    for kind, codes, words in (
        (_SAVED, about.saved, about.ways),
        ("stated", about.stated, about.statements),
    ):
        table = np.zeros((len(classes), len(words)), np.int64)
        np.add.at(table, (labels[about.read], codes[about.read]), 1)
        images = table.sum(1)
        for index in np.flatnonzero(images >= _LEAST).tolist():
            rest = images > 0
            rest[index] = False
            if not rest.any():
                continue
            value = int(table[index].argmax())
            share = float(table[index, value] / images[index])
            others = float((table[rest, value] / images[rest]).mean())
            low, high = wilson(share, int(images[index]))
            most = wilson(others, int(images[rest].sum()))[1]
            counted = Judged(share, low, high, others, most, int(images[index]))
            if counted.difference >= _MARGIN:
                found.append(SavedAlike(kind, classes[index], words[value], counted))
    return tuple(sorted(found, key=lambda one: -one.counted.difference))


def saving_findings(check: str, found: Sequence[SavedAlike]) -> list[Finding]:
    """One for each kind."""
    made = []
    for kind, advice in _ADVICE.items():
        group = [one for one in found if one.kind == kind]
        if not group:
            continue
        verb = "were saved alike" if kind == _SAVED else "state the same"
        told = shortened(
            (
                f"{one.name} ({percent(one.counted.share)}: {one.value}; "
                f"other classes {percent(one.counted.others)})"
                for one in group
            ),
            _TOLD,
        )
        which = "1 class" if len(group) == 1 else f"{len(group):,} classes"
        sentence = f"The files of {which} {verb}, unlike others: {told}."
        made.append(Finding(check, Level.LOOK, sentence, advice))
    return made
