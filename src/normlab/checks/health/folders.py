"""Classes that look like a mistake: tiny ones, stray folders, and classes that are really one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ...pages.findings import Finding, Level
from ...pages.words import counted, percent, shortened
from ..image_set import ImageSet

_FEW = 0.1
_SHARED = 0.5
_LONG_NAME = 10
_CHECK = "folders"

_SPLIT_WORDS = frozenset(
    {"train", "training", "val", "valid", "validation", "test", "testing", "holdout", "dev"}
)
_STRAY = re.compile(
    r"new folder.*|untitled.*|copy of .*|kopie von .*|.* - copy.*|.*[ _-]copy|.* ?\(\d+\)"
    r"|te?mp|backup|images?|data|dataset|output|annotations|labels"
)


@dataclass(frozen=True)
class Folders:
    """What looks like a mistake among the classes.

    Attributes:
        suspects: classes that look like a mistake, and why.
        alike: pairs of classes with almost the same name.
        shared: pairs of classes, and the share of the smaller one's different images that are in
            the other too, if that is half or more.
    """

    suspects: dict[str, str]
    alike: tuple[tuple[str, str], ...]
    shared: tuple[tuple[str, str, float], ...]

    def findings(self) -> list[Finding]:
        """One for each kind of mistake; one that is fine if there is none."""
        found = []
        if self.shared:
            one, two, share = self.shared[0]
            pairs = shortened(f"{first} and {second}" for first, second, _ in self.shared)
            several = len(self.shared) > 1
            found.append(
                Finding(
                    _CHECK,
                    Level.INVALID,
                    f"{counted(len(self.shared), 'pair')} of classes "
                    f"{'share' if several else 'shares'} most images: {pairs}. {percent(share)} of "
                    f"the different images in the smaller of {one} and {two} are in both, so no "
                    "network can be right about them.",
                    "Merge these classes, or remove the copies.",
                )
            )
        if self.suspects:
            reasons = shortened(f"{name} ({why})" for name, why in self.suspects.items())
            found.append(
                Finding(
                    _CHECK,
                    Level.LOOK,
                    f"{counted(len(self.suspects), 'class looks', 'classes look')} like a mistake: "
                    f"{reasons}.",
                    "Every folder counts as a class. Remove or merge folders that are not classes.",
                )
            )
        if self.alike:
            found.append(
                Finding(
                    _CHECK,
                    Level.LOOK,
                    "Some classes have almost the same name: "
                    f"{shortened(f'{one} and {two}' for one, two in self.alike)}.",
                    "Merge them if they mean the same.",
                )
            )
        return found or [
            Finding(
                _CHECK,
                Level.FINE,
                "No class looks like a mistake: none is tiny, a copy of another, or named like a "
                "split or a stray folder.",
            )
        ]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "suspects": self.suspects,
            "alike": [list(pair) for pair in self.alike],
            "shared": [{"classes": [one, two], "share": share} for one, two, share in self.shared],
        }


def folders(image_set: ImageSet) -> Folders:
    """Look for classes that are a mistake, from their names, counts and pixels.

    A class looks like a mistake if it has less than a tenth of the median class's images, or a name
    such as ``train``, ``New folder``, ``X copy`` or ``X (1)``. Two names are almost the same if
    they differ by a plural s, or are at least ten characters long and differ by one letter (not the
    first of a word) or by two swapped letters. Two classes that share half the different images of
    the smaller one invalidate accuracies.
    """
    images = np.bincount(image_set.labels, minlength=len(image_set.classes))
    return Folders(
        suspects=_suspects(image_set.classes, images),
        alike=almost_alike(image_set.classes),
        shared=_shared(image_set),
    )


def _suspects(classes: Sequence[str], images: npt.NDArray[np.int64]) -> dict[str, str]:
    found = {}
    median = float(np.median(images))
    splits = [name for name in classes if name.casefold().strip() in _SPLIT_WORDS]
    # One class called train may well be a locomotive.
    splits = [] if [name.casefold() for name in splits] == ["train"] else splits
    for name, count in zip(classes, images.tolist(), strict=True):
        plain = name.casefold().strip()
        if name in splits:
            found[name] = "named like a split"
        elif _STRAY.fullmatch(plain):
            found[name] = "named like a copy or a stray folder"
        elif count < _FEW * median:
            found[name] = f"{counted(count, 'image')}, the median class has {median:,.0f}"
    return found


def almost_alike(classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of names that are almost the same.

    Only names that agree once a character is dropped are compared.
    """
    groups: dict[str, set[int]] = defaultdict(set)
    plain = [unicodedata.normalize("NFC", name).casefold() for name in classes]
    for index, name in enumerate(plain):
        for key in {name, *(name[:at] + name[at + 1 :] for at in range(len(name)))}:
            groups[key].add(index)
    pairs = {pair for group in groups.values() for pair in combinations(sorted(group), 2)}
    return tuple(
        (classes[one], classes[two]) for one, two in sorted(pairs) if _slip(plain[one], plain[two])
    )


def _slip(one: str, two: str) -> bool:
    """Whether one is the other's plural, or a typing error away from it."""
    short, long = sorted((one, two), key=len)
    if len(short) >= 3 and long == f"{short}s" and short[-1].isalpha():
        return True
    if min(len(one), len(two)) < _LONG_NAME:
        return False
    start = 0
    while start < len(short) and short[start] == long[start]:
        start += 1
    if start == 0 or not long[start - 1].isalpha():
        return False
    if len(long) > len(short):
        return long[start].isalpha() and short[start:] == long[start + 1 :]
    changed = [at for at in range(start, len(long)) if short[at] != long[at]]
    letters = all(short[at].isalpha() and long[at].isalpha() for at in changed)
    if len(changed) == 1:
        return letters
    swapped = len(changed) == 2 and changed[1] == start + 1
    return (
        swapped and letters and short[start] == long[start + 1] and short[start + 1] == long[start]
    )


def _shared(image_set: ImageSet) -> tuple[tuple[str, str, float], ...]:
    """The pixels decide, so that the same image saved twice counts."""
    order = np.lexsort((image_set.labels, image_set.digests))
    digests, labels = image_set.digests[order], image_set.labels[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (digests[1:] != digests[:-1]) | (labels[1:] != labels[:-1])
    digests, labels = digests[new], labels[new]
    distinct = np.bincount(labels, minlength=len(image_set.classes))
    several = np.flatnonzero(digests[1:] == digests[:-1])
    groups: dict[int, set[int]] = defaultdict(set)
    for at in several.tolist():
        groups[int(digests[at])] |= {int(labels[at]), int(labels[at + 1])}
    both = Counter(pair for group in groups.values() for pair in combinations(sorted(group), 2))
    found = [
        (
            image_set.classes[one],
            image_set.classes[two],
            count / int(min(distinct[one], distinct[two])),
        )
        for (one, two), count in both.items()
    ]
    most = [entry for entry in found if entry[2] >= _SHARED]
    return tuple(sorted(most, key=lambda entry: -entry[2]))
