"""Images that show nothing, and sets with very few levels of grey."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ...pages.findings import Finding, Level
from ...pages.words import counted, listed, shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet

_STAGE = "Looking for blank images"
_FLAT = 2.0
"""Standard deviation of the levels (0 to 255) of an image that shows nothing, at most."""
_DARK, _BRIGHT = 24, 231
_FEW = 16
"""Levels of a set that has very few."""
_LOOKED_AT = 1000
"""Images whose levels are counted, evenly spread."""
_CHUNK_BYTES = 1 << 25
_NAMED = 20
_CHECK = "blank-images"


@dataclass(frozen=True)
class Blank:
    """Images that show nothing, and how many levels the others have.

    Attributes:
        kinds: ``black``, ``white`` or ``of one colour`` to the number of such images.
        counts: class to the number in train, val and test, for classes that have some.
        names: paths of the images.
        levels: different values of the pixels, if there are few; empty otherwise.
    """

    kinds: dict[str, int]
    counts: dict[str, tuple[int, ...]]
    names: tuple[str, ...]
    levels: tuple[int, ...]

    @property
    def images(self) -> int:
        """How many show nothing."""
        return sum(self.kinds.values())

    def findings(self) -> list[Finding]:
        """One about blank images, one about levels if there are few."""
        return [self._blank(), *self._levels()]

    def _blank(self) -> Finding:
        if not self.images:
            return Finding(_CHECK, Level.FINE, "No image is blank or nearly so.")
        kinds = listed(f"{count:,} {kind}" for kind, count in self.kinds.items())
        places = (
            f"{name} ({', '.join(_by_split(counts))})"
            for name, counts in sorted(self.counts.items(), key=lambda one: -sum(one[1]))
        )
        one = self.images == 1
        return Finding(
            _CHECK,
            Level.LOOK,
            f"{counted(self.images, 'image')} {'shows' if one else 'show'} nothing or nearly "
            f"nothing: {kinds}. {'It is' if one else 'They are'} in {shortened(places, 4)}, for "
            f"example {self.names[0]}.",
            "Their pixels say nothing about their class. Remove them, unless an empty image is "
            "what the class means.",
        )

    def _levels(self) -> list[Finding]:
        if not self.levels:
            return []
        values = shortened(map(str, self.levels), 4)
        return [
            Finding(
                "grey-levels",
                Level.LOOK,
                f"All pixels have one of {len(self.levels)} levels ({values} of 0 to 255). This is "
                "what drawings, scanned text and masks look like. Different images may then be "
                "equal by chance, and near copies are harder to tell apart.",
                "Nothing needs to be done if the images are meant to be like this. Photographs "
                "have lost their shades: save them again from the originals.",
            )
        ]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "blank": {
                "images": self.images,
                "kinds": self.kinds,
                "counts": {
                    name: dict(zip(SPLITS, counts, strict=True))
                    for name, counts in self.counts.items()
                },
                "examples": list(self.names[:_NAMED]),
            },
            "few_levels": list(self.levels),
        }


def _by_split(counts: tuple[int, ...]) -> list[str]:
    return [
        f"{count:,} in {SPLIT_WORDS[split]}"
        for split, count in zip(SPLITS, counts, strict=True)
        if count
    ]


def blank_images(image_set: ImageSet, progress: Progress | None = None) -> Blank:
    """Find images that show nothing, and sets with few levels.

    An image shows nothing if the standard deviation of its levels is at most 2 of 255 in every
    channel. It is black if its mean is at most 24, white if it is at least 231 in every channel. A
    set has few levels if 1,000 of its images, evenly spread, have at most 16 different ones.
    """
    size, channels = image_set.data.image_size, image_set.data.channels
    step = max(_CHUNK_BYTES // (size * size * channels), 1)
    flat: list[int] = []
    kinds: Counter[str] = Counter()
    for start in range(0, len(image_set), step):
        if progress:
            progress(_STAGE, start, len(image_set))
        pixels = image_set.images(slice(start, start + step))
        rows = np.flatnonzero(_nearly_flat(pixels))
        for row, mean in zip(rows.tolist(), pixels[rows].mean((1, 2)), strict=True):
            flat.append(start + row)
            dark, bright = bool((mean <= _DARK).all()), bool((mean >= _BRIGHT).all())
            kinds["black" if dark else "white" if bright else "of one colour"] += 1
    if progress:
        progress(_STAGE, len(image_set), len(image_set))
    counts = np.zeros((len(image_set.classes), len(SPLITS)), np.int64)
    np.add.at(counts, (image_set.labels[flat], image_set.split[flat].astype(np.int64)), 1)
    return Blank(
        kinds=dict(kinds),
        counts={
            image_set.classes[label]: tuple(counts[label].tolist())
            for label in np.flatnonzero(counts.sum(1)).tolist()
        },
        names=tuple(image_set.names[flat].tolist()),
        levels=_few_levels(image_set),
    )


def _nearly_flat(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    # A quarter of the pixels, which decides for nearly all images that show something.
    part = pixels[:, ::2, ::2].std((1, 2), dtype=np.float32).max(1) <= 2 * _FLAT
    found = np.flatnonzero(part)
    part[found] = pixels[found].std((1, 2), dtype=np.float32).max(1) <= _FLAT
    return np.asarray(part, np.bool_)


def _few_levels(image_set: ImageSet) -> tuple[int, ...]:
    rows = np.unique(np.linspace(0, len(image_set) - 1, _LOOKED_AT).astype(np.int64))
    seen = np.zeros(256, np.bool_)
    for part in np.array_split(rows, 10):
        seen[np.unique(image_set.images(part))] = True
    levels = np.flatnonzero(seen)
    return tuple(levels.tolist()) if len(levels) <= _FEW else ()
