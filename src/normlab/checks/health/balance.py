"""Balance: how many images each class has in each split, and which files cannot be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...pages.findings import Finding, Level
from ...pages.words import counted, percent
from ...splits import SPLITS
from ..image_set import ImageSet

_IMBALANCE = 3.0


@dataclass(frozen=True)
class Balance:
    """How many images there are.

    Attributes:
        counts: class to the number of images in train, val and test.
        skipped: unreadable file to the reason.
    """

    counts: dict[str, tuple[int, ...]]
    skipped: dict[str, str]

    @property
    def images(self) -> int:
        """All of them."""
        return sum(map(sum, self.counts.values()))

    @property
    def imbalance(self) -> float:
        """How many times as many training images the largest class has as the smallest."""
        train = [counts[0] for counts in self.counts.values()]
        return max(train) / max(min(train), 1)

    def of_class(self, name: str) -> int:
        """Images of a class in all splits."""
        return sum(self.counts[name])

    def findings(self) -> list[Finding]:
        """One about balance, one about unreadable files."""
        return [self._balance(), self._unreadable()]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "counts": {
                name: dict(zip(SPLITS, counts, strict=True)) for name, counts in self.counts.items()
            },
            "imbalance": self.imbalance,
            "skipped": self.skipped,
        }

    def _balance(self) -> Finding:
        train = {name: counts[0] for name, counts in self.counts.items()}
        least, most = min(train, key=train.__getitem__), max(train, key=train.__getitem__)
        each = (
            f"{train[least]:,}"
            if train[least] == train[most]
            else f"{train[least]:,} ({least}) to {train[most]:,} ({most})"
        )
        whole = (
            f"{counted(self.images, 'image')} in {counted(len(train), 'class', 'classes')}, with "
            f"{each} training images per class"
        )
        if self.imbalance < _IMBALANCE:
            return Finding("balance", Level.FINE, f"{whole}.")
        share = train[most] / sum(train.values())
        return Finding(
            "balance",
            Level.LOOK,
            f"{whole}: the largest has {self.imbalance:.1f} times as many as the smallest. Always "
            f"guessing {most} is right for {percent(share)} of the training images.",
            "Look at macro F1 as well as accuracy, and read the results of each class.",
        )

    def _unreadable(self) -> Finding:
        check = "unreadable-files"
        if not self.skipped:
            return Finding(check, Level.FINE, "Every file can be read.")
        reasons = Counter(self.skipped.values()).most_common(3)
        file = next(iter(self.skipped))
        return Finding(
            check,
            Level.LOOK,
            f"{counted(len(self.skipped), 'file')} cannot be used, for example {file}. "
            f"Reasons: {'; '.join(f'the file {reason} ({count:,})' for reason, count in reasons)}.",
            "Fix or remove them. A study refuses to run with them unless told to skip them.",
        )


def balance(image_set: ImageSet) -> Balance:
    """Count the images by class and split.

    The largest class may have three times the training images of the smallest before that is
    something to look at.
    """
    classes = image_set.classes
    counts = np.stack(
        [
            np.bincount(image_set.labels[image_set.split == split], minlength=len(classes))
            for split in range(len(SPLITS))
        ],
        1,
    )
    return Balance(
        counts={name: tuple(row) for name, row in zip(classes, counts.tolist(), strict=True)},
        skipped=dict(image_set.skipped),
    )
