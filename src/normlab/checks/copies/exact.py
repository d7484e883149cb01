"""Exact duplicates: files with equal bytes, or images with equal pixels, whatever their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.grouping import joined, same
from ...pages.findings import Finding, Level
from ...pages.words import counted, percent, shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet

Rows = npt.NDArray[np.int64]

NEGLIGIBLE = 0.01
"""Up to this share of a split, copies cannot change its accuracy by more than a point."""

SPLIT_PAIRS = (("val", ("train",)), ("test", ("train", "val")))
"""Each split whose numbers copies affect, and the splits where they count."""

CLEAN_SPLIT = (
    "Use a clean split: normlab check-data SOURCE --write-split F.json, or compare --clean-split."
)


@dataclass(frozen=True)
class Shared:
    """What one split has in common with others.

    Attributes:
        split: the split whose numbers are affected.
        others: the splits it shares images with.
        images: different images shared.
        files: files of ``split`` that contain them.
        total: files of ``split``.
    """

    split: str
    others: tuple[str, ...]
    images: int
    files: int
    total: int

    @property
    def share(self) -> float:
        """Share of the split's files that are shared; from 0 to 1."""
        return self.files / self.total if self.total else 0.0

    @property
    def level(self) -> Level:
        """How bad it is."""
        if self.files == 0:
            return Level.FINE
        return Level.LOOK if self.share <= NEGLIGIBLE else Level.INVALID

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "split": self.split,
            "others": list(self.others),
            "images": self.images,
            "files": self.files,
            "of": self.total,
            "share": self.share,
        }


@dataclass(frozen=True, eq=False)
class ExactCopies:
    """Images that appear more than once.

    Attributes:
        image_set: the images that were checked.
        group: (n,) the same number for rows whose bytes or pixels are equal.
        shared: what validation shares with training, and test with both; by bytes or pixels.
        shared_bytes: likewise by bytes alone.
        conflicts: groups of rows whose labels differ.
        within: superfluous files by split: copies within one split and label.
    """

    image_set: ImageSet
    group: Rows
    shared: tuple[Shared, ...]
    shared_bytes: tuple[Shared, ...]
    conflicts: tuple[Rows, ...]
    within: dict[str, int]

    def findings(self) -> list[Finding]:
        """On what the splits share, on labels, on repeats within a split."""
        both = zip(self.shared, self.shared_bytes, strict=True)
        shared = [self._shared(by_either, by_bytes) for by_either, by_bytes in both]
        return [*shared, self._conflicts(), self._within()]

    def _shared(self, shared: Shared, by_bytes: Shared) -> Finding:
        split = SPLIT_WORDS[shared.split]
        others = " or ".join(SPLIT_WORDS[name] for name in shared.others)
        if not shared.files:
            return Finding(
                "exact-duplicates", Level.FINE, f"No {split} image is also a {others} image."
            )
        files = "" if shared.files == shared.images else f" (in {shared.files:,} {split} files)"
        pixels = shared.images - by_bytes.images
        how = f"; {pixels:,} of them are equal in pixels but not in bytes" if pixels > 0 else ""
        word = split[0].upper() + split[1:]
        sentence = (
            f"{word} shares {counted(shared.images, 'image')} with {others}"
            f"{files}: {percent(shared.share)} of {split} is not new{how}."
        )
        return Finding("exact-duplicates", shared.level, sentence, CLEAN_SPLIT)

    def _conflicts(self) -> Finding:
        if not self.conflicts:
            return Finding("label-conflicts", Level.FINE, "No image has two labels.")
        image_set = self.image_set
        files = sum(map(len, self.conflicts))
        pairs = sorted(
            {
                " and ".join(sorted({image_set.classes[label] for label in image_set.labels[rows]}))
                for rows in self.conflicts
            }
        )
        level = Level.LOOK if files <= NEGLIGIBLE * len(image_set) else Level.INVALID
        count = len(self.conflicts)
        return Finding(
            "label-conflicts",
            level,
            f"{counted(count, 'image')} ({files:,} files) "
            f"{'have' if count != 1 else 'has'} more than one label: {shortened(pairs)}.",
            "Decide which label is right. --drop-conflicts omits these images from a written "
            "split.",
        )

    def _within(self) -> Finding:
        extra = sum(self.within.values())
        if not extra:
            return Finding(
                "repeated-images",
                Level.FINE,
                "No image appears twice in the same split with the same label.",
            )
        where = ", ".join(
            f"{count:,} in {SPLIT_WORDS[name]}" for name, count in self.within.items() if count
        )
        worst = max(
            count / max(int((self.image_set.split == SPLITS.index(name)).sum()), 1)
            for name, count in self.within.items()
        )
        return Finding(
            "repeated-images",
            Level.FINE if worst <= NEGLIGIBLE else Level.LOOK,
            f"{counted(extra, 'file')} repeat{'s' * (extra == 1)} an image with the same split and "
            f"label ({where}).",
            ""
            if worst <= NEGLIGIBLE
            else "Repeated images count more than others. Remove the repeats.",
        )

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; the files are in the table of copies."""
        image_set = self.image_set
        return {
            "images": len(image_set),
            "distinct_by_bytes": len(np.unique(image_set.contents)),
            "distinct_by_pixels": len(np.unique(image_set.digests)),
            "shared": [shared.describe() for shared in self.shared],
            "shared_by_bytes": [shared.describe() for shared in self.shared_bytes],
            "repeated_within": dict(self.within),
            "conflicts": len(self.conflicts),
        }


def exact_copies(image_set: ImageSet) -> ExactCopies:
    """Find files that are equal in bytes, and images that are equal in the pixels the network sees.

    Equal bytes with equal pixels are the usual case. Equal pixels with different bytes are files
    saved again without loss, or with other metadata.
    """
    group = joined(len(image_set), same(image_set.contents), same(image_set.digests))
    conflicts = []
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(rows) > 1 and len(np.unique(image_set.labels[rows])) > 1:
            conflicts.append(rows)
    _, content = np.unique(image_set.contents, return_inverse=True)
    within = {}
    for index, name in enumerate(SPLITS):
        here = image_set.split == index
        each = np.stack([group[here], image_set.labels[here]], 1)
        within[name] = int(here.sum()) - len(np.unique(each, axis=0))
    return ExactCopies(
        image_set=image_set,
        group=group,
        shared=shared_between(image_set, group),
        shared_bytes=shared_between(image_set, content.astype(np.int64)),
        conflicts=tuple(conflicts),
        within=within,
    )


def shared_between(image_set: ImageSet, group: Rows) -> tuple[Shared, ...]:
    """What validation shares with training, and test with both, if a group counts as one image."""
    made = []
    for split, others in SPLIT_PAIRS:
        here = image_set.split == SPLITS.index(split)
        there = np.isin(image_set.split, [SPLITS.index(name) for name in others])
        common = np.intersect1d(group[here], group[there])
        files = int(np.isin(group[here], common).sum())
        made.append(Shared(split, others, len(common), files, int(here.sum())))
    return tuple(made)
