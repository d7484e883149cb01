"""The size of the test split: how small a difference between two networks it can show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...pages.findings import Finding, Level
from ...pages.words import counted, percent
from ...splits import SPLITS
from ..image_set import ImageSet

DISAGREEMENTS = (0.1, 0.2)

_Z = 1.959964
_POINT = 0.01


@dataclass(frozen=True)
class SizeOfTest:
    """What the test images can show.

    Attributes:
        images: different ones.
        half_widths: disagreement d of two networks, as a share of the images, to half the width of
            the 95 % interval of the difference between their accuracies in points,
            100 * 1.96 * sqrt(d / n): both are tested on the same images, and the difference is
            small. Accuracies cannot differ by more than d.
        unpaired: the same for different images, 100 * 1.96 * sqrt(2 p (1 - p) / n), at accuracy
            p = 0.9.
        needed: d to the number of images that make it one point.
        folds: into how many the images are dealt, so that an arm is tested on all of them; None
            where every run is tested on these images.
    """

    images: int
    half_widths: dict[float, float]
    unpaired: float
    needed: dict[float, int]
    folds: int | None = None

    def findings(self) -> list[Finding]:
        """One."""
        widths = " and ".join(
            f"±{points:.1f} points if they disagree on {percent(share)} of the images"
            for share, points in self.half_widths.items()
        )
        needed = " to ".join(f"{count:,}" for count in self.needed.values())
        sentence = (
            f"With {counted(self.images, 'different image')}, each tested once by the runs of "
            f"{self.folds} seeds, the difference between the accuracies of two arms is known no "
            f"better than to {widths} (95 %). For ±1 point, {needed} images are needed."
            if self.folds
            else f"With {counted(self.images, 'different test image')}, the difference between the "
            f"accuracies of two networks is known to {widths} (95 % interval, both tested on the "
            f"same images). For ±1 point, {needed} images are needed."
        )
        if self.half_widths[DISAGREEMENTS[0]] <= 100 * _POINT:
            return [Finding("test-size", Level.FINE, sentence)]
        return [
            Finding(
                "test-size",
                Level.LOOK,
                sentence,
                "Smaller differences between two "
                f"{'arms' if self.folds else 'trained networks'} could be chance. Use more "
                f"{'' if self.folds else 'test '}images. More seeds help less: they do not change "
                "which images were drawn.",
            )
        ]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "images": self.images,
            "unpaired_points": self.unpaired,
            "paired": [
                {"disagreement": share, "points": points, "needed": self.needed[share]}
                for share, points in self.half_widths.items()
            ],
        }


def size_of_test(images: int, folds: int | None = None) -> SizeOfTest:
    """What this many test images can show, see :class:`SizeOfTest`."""
    n = max(images, 1)
    return SizeOfTest(
        images=images,
        half_widths={share: 100 * min(_Z * math.sqrt(share / n), share) for share in DISAGREEMENTS},
        unpaired=100 * min(_Z * math.sqrt(2 * 0.9 * 0.1 / n), 1.0),
        needed={share: math.ceil(share * (_Z / _POINT) ** 2) for share in DISAGREEMENTS},
        folds=folds,
    )


def different_test_images(image_set: ImageSet) -> int:
    """Test images with different pixels: copies say nothing new. With folds, all are tested."""
    if image_set.data.folds is not None:
        return len(np.unique(image_set.digests))
    return len(np.unique(image_set.digests[image_set.split == SPLITS.index("test")]))
