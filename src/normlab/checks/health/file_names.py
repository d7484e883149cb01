"""Names of files that clash, or that name another class than their folder."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...pages.findings import Finding, Level
from ...pages.words import counted, shortened
from ..image_set import ImageSet
from ..measures.filenames import NONE, carried_classes

_SAME_NAME = 3
_CHECK = "file-names"


@dataclass(frozen=True)
class FileNames:
    """What is odd about the names of files.

    Attributes:
        clashes: files of one folder whose names differ only in case or Unicode form.
        misnamed: (class, class in the name, files): names that contain another class's name, if
            three files or more have it and it is not a word that most classes use.
    """

    clashes: tuple[tuple[str, ...], ...] = ()
    misnamed: tuple[tuple[str, str, int], ...] = ()

    def findings(self) -> list[Finding]:
        """One for each kind of oddity; one that is fine if there is none."""
        found = []
        if self.misnamed:
            files = sum(count for _, _, count in self.misnamed)
            which = shortened(
                f"{count:,} in {name} are named {other}" for name, other, count in self.misnamed
            )
            found.append(
                Finding(
                    _CHECK,
                    Level.LOOK,
                    f"{counted(files, 'file')} carry the name of a class other than their folder: "
                    f"{which}. The folder is used as the label.",
                    "Look at some of them: either the names are wrong or the labels are.",
                )
            )
        if self.clashes:
            found.append(
                Finding(
                    _CHECK,
                    Level.LOOK,
                    f"{counted(len(self.clashes), 'group')} of files in one folder "
                    f"{'differs' if len(self.clashes) == 1 else 'differ'} only in upper and lower "
                    "case or Unicode form, for example "
                    f"{' and '.join(self.clashes[0][:2])}.",
                    "Rename them: on Windows and macOS one overwrites the other.",
                )
            )
        return found or [
            Finding(
                _CHECK,
                Level.FINE,
                "No file is named like another class or clashes with another file.",
            )
        ]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "clashes": [list(group) for group in self.clashes],
            "misnamed": [
                {"class": name, "named": other, "files": files}
                for name, other, files in self.misnamed
            ],
        }


def odd_file_names(image_set: ImageSet) -> FileNames:
    """Look at the names of files; an image set without files has nothing odd."""
    if image_set.root is None:
        return FileNames()
    return FileNames(_clashes(image_set.names.tolist()), _misnamed(image_set))


def _clashes(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[name if name.isascii() and name.islower() else _folded(name)].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _misnamed(image_set: ImageSet) -> tuple[tuple[str, str, int], ...]:
    carried = carried_classes(image_set.names.tolist(), image_set.labels, image_set.classes)
    wrong = (carried != NONE) & (carried != image_set.labels)
    pairs = Counter(zip(image_set.labels[wrong].tolist(), carried[wrong].tolist(), strict=True))
    users = Counter(other for _, other in pairs)
    found = [
        (image_set.classes[label], image_set.classes[other], count)
        for (label, other), count in pairs.items()
        if count >= _SAME_NAME and users[other] <= max(len(image_set.classes) // 2, 1)
    ]
    return tuple(sorted(found, key=lambda entry: -entry[2]))
