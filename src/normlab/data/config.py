"""What is asked of the data: where from, which size, how many, how split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from ..errors import InputError
from ..options import option

MIN_SIZE = 8
MAX_SIZE = 1024


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    good = isinstance(value, int) and not isinstance(value, bool)
    if not (good and least <= value and (most is None or value <= most)):  # type: ignore[operator]
        upto = "" if most is None else f" and at most {most}"
        raise InputError(f"{name} must be a whole number of at least {least}{upto}, got {value!r}.")


@dataclass(frozen=True)
class DataConfig:
    """All that decides which images a study sees.

    Attributes:
        source: ``digits`` (1,797 real 8x8 images that come with scikit-learn), or a folder:
            class folders with or without train, val and test above them, IDX files, or CIFAR-10
            batches.
        image_size: side of the square images; None takes the source's own up to 64, else 64.
        limit_per_class: at most so many training images of each class, val and test in proportion.
        val_fraction: share of train that becomes val where the source has no val.
        test_fraction: share of train that becomes test where the source has no test.
        split_seed: the seed of both, and of the draw for ``limit_per_class``.
        skip_bad: leave out files that cannot be read, instead of stopping.
        split: a split file that says which image, known by its content, is in which split; the
            source's own splits and the fractions play no part then.

    >>> DataConfig().source
    'digits'
    >>> DataConfig(limit_per_class=0)
    Traceback (most recent call last):
    normlab.errors.InputError: limit_per_class must be a whole number of at least 1, got 0.
    """

    source: str = option(
        "digits",
        "digits, or a folder: class folders (with or without train, val and test above them), IDX "
        "files, or CIFAR-10 batches.",
    )
    image_size: int | None = option(
        None, "Side of the images in pixels. [default: native size, capped at 64]"
    )
    limit_per_class: int | None = option(
        None, "At most this many training images per class; val and test in proportion."
    )
    val_fraction: float = option(
        0.15, "Share of train that becomes val where the source has no val. [default: 0.15]"
    )
    test_fraction: float = option(
        0.15, "Share of train that becomes test where the source has no test. [default: 0.15]"
    )
    split_seed: int = option(0, "Seed of splits that the source lacks, and of the limit.")
    skip_bad: bool = option(False, "Leave out files that are not usable images, and count them.")
    split: str | None = option(
        None,
        "A split file (from check-data --write-split) that says which image is in which split.",
    )

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source.strip():
            raise InputError(f"source must be a folder or the word digits, got {self.source!r}.")
        if self.image_size is not None:
            _whole("image_size", self.image_size, MIN_SIZE, MAX_SIZE)
        if self.limit_per_class is not None:
            _whole("limit_per_class", self.limit_per_class, 1)
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            real = isinstance(value, Real) and not isinstance(value, bool)
            if not (real and math.isfinite(value) and 0 < value < 1):
                raise InputError(f"{name} must lie between 0 and 1, got {value!r}.")
        if self.val_fraction + self.test_fraction >= 1:
            raise InputError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave "
                "nothing to train on: together they must stay below 1."
            )
        if not isinstance(self.split_seed, int) or isinstance(self.split_seed, bool):
            raise InputError(f"split_seed must be a whole number, got {self.split_seed!r}.")
        if not isinstance(self.skip_bad, bool):
            raise InputError(f"skip_bad must be true or false, got {self.skip_bad!r}.")
        if self.split is not None and (not isinstance(self.split, str) or not self.split.strip()):
            raise InputError(f"split must be the path of a split file, got {self.split!r}.")
