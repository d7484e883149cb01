"""Grey images among coloured ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...data.cache import Progress
from ...pages.findings import Finding, Level
from ...pages.words import percent, shortened, span
from ..image_set import ImageSet
from ..measures.pixels import pixel_measures
from ..proportions import wilson
from .balance import Balance

_GREY = 0.25
_CHECK = "grey-images"


@dataclass(frozen=True)
class GreyImages:
    """Images without colour among coloured ones.

    Attributes:
        counts: class to number, for classes that have some.
        marked: classes whose share exceeds the median of the other classes by 0.25, measured from
            the lower end of its 95 % interval (Wilson).
    """

    counts: dict[str, int]
    marked: tuple[str, ...]

    def findings(self, balance: Balance) -> list[Finding]:
        """One."""
        total = sum(self.counts.values())
        if not total:
            return [Finding(_CHECK, Level.FINE, "Every image has colours.")]
        sentence = (
            f"{total:,} of {balance.images:,} images are grey ({percent(total / balance.images)})"
        )
        if not self.marked:
            return [
                Finding(_CHECK, Level.FINE, f"{sentence}; no class has far more than the others.")
            ]
        shares = [self.counts[name] / balance.of_class(name) for name in self.marked]
        return [
            Finding(
                _CHECK,
                Level.LOOK,
                f"{sentence}. {shortened(self.marked)} {'has' if len(shares) == 1 else 'have'} far "
                f"more of them than the other classes ({span(min(shares), max(shares))}).",
                "A network can recognize a class by its lack of colour. Make all images grey, or "
                "replace the grey ones.",
            )
        ]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def grey_images(image_set: ImageSet, progress: Progress | None) -> GreyImages | None:
    """Count grey images; None for sources with one channel.

    An image is grey if the largest channel exceeds the smallest by at most 3 levels on average, and
    by more than 16 in at most 0.5 % of its pixels.
    """
    if image_set.data.channels == 1:
        return None
    grey = pixel_measures(image_set, progress=progress).grey
    classes = len(image_set.classes)
    images = np.bincount(image_set.labels, minlength=classes)
    counts = np.bincount(image_set.labels[grey], minlength=classes)
    shares = counts / np.maximum(images, 1)
    marked = [
        image_set.classes[index]
        for index in range(classes)
        if wilson(float(shares[index]), int(images[index]))[0]
        - float(np.median(np.delete(shares, index)))
        >= _GREY
    ]
    some = {image_set.classes[index]: int(counts[index]) for index in np.flatnonzero(counts)}
    return GreyImages(counts=some, marked=tuple(marked))
