"""What is asked of the data: where it comes from, what size, how many images, how it is split."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal, get_args

from ..errors import InputError
from ..options import option
from ..values import plain

MIN_SIZE = 8
MAX_SIZE = 1024
MAX_FOLDS = 20
Resize = Literal["crop", "letterbox"]
"""How an image becomes a square."""


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    good = isinstance(value, int) and not isinstance(value, bool)
    if not (good and least <= value and (most is None or value <= most)):  # type: ignore[operator]
        upto = "" if most is None else f" and at most {most}"
        raise InputError(f"{name} must be a whole number of at least {least}{upto}, got {value!r}.")


@dataclass(frozen=True)
class DataConfig:
    """Everything that decides which images a study sees. Each field has its description in
    ``metadata["help"]``, which the help page and the settings page print.

    >>> DataConfig("photos", image_size=96).split_seed
    0

    Raises:
        InputError: an impossible value, naming the field, the value and what is possible.
    """

    source: str = option(
        "digits",
        "digits (1,797 real 8x8 images that come with scikit-learn), or a folder: class folders "
        "(with or without train, val and test above them) of JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM, "
        "AVIF or JPEG 2000 files, IDX files, or CIFAR-10 batches.",
    )
    image_size: int | None = option(
        None,
        "Side of the square images in pixels. [default: native size, capped at 64]",
    )
    resize: Resize = option(
        "crop",
        "How an image becomes a square: crop takes the centre square; letterbox keeps everything "
        "and pads the shorter side with grey.",
    )
    limit_per_class: int | None = option(
        None, "At most this many training images per class; val and test keep all of theirs."
    )
    limit_all_splits: bool = option(
        False, "Limit val and test as well, in proportion to limit_per_class."
    )
    val_fraction: float | None = option(
        None, "Share of train that becomes val if the source has no val. [default: 0.15]"
    )
    test_fraction: float | None = option(
        None,
        "Share of train that becomes test if the source has no test. [default: 0.15; digits 0.55]",
    )
    split_seed: int = option(0, "Seed of the splits that are drawn, and of the limit.")
    group_by: str | None = option(
        None,
        "A regular expression searched in each image's path inside the source. What it captures "
        "(without brackets: what it matches) names the image's group, such as a patient, a session "
        "or a photographer. A split that is drawn never separates a group.",
    )
    folds: int | None = option(
        None,
        "Deal all images into this many folds, and test each run on another one, so that every "
        "image is tested once in as many runs. The seed decides which fold it is; the images are "
        "dealt anew once all have been tested. For small data.",
    )
    skip_bad: bool = option(False, "Leave out files that are not usable images, and count them.")
    split: str | None = option(
        None,
        "A split file (from check-data --write-split) that assigns each image, identified by its "
        "content, to a split. The source's own splits and the fractions are then ignored.",
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))
        if not isinstance(self.source, str) or not self.source.strip():
            raise InputError(f"source must be a folder or the word digits, got {self.source!r}.")
        for path in (self.source, self.split):
            if isinstance(path, str):
                _check_path(path)
        if self.image_size is not None:
            _whole("image_size", self.image_size, MIN_SIZE, MAX_SIZE)
        if self.resize not in get_args(Resize):
            raise InputError(
                f"resize must be {' or '.join(get_args(Resize))}, got {self.resize!r}."
            )
        if self.limit_per_class is not None:
            _whole("limit_per_class", self.limit_per_class, 1)
        if not isinstance(self.limit_all_splits, bool):
            raise InputError(
                f"limit_all_splits must be true or false, got {self.limit_all_splits!r}."
            )
        if self.limit_all_splits and self.limit_per_class is None:
            raise InputError(
                "limit_all_splits needs limit_per_class, the number of training images per class."
            )
        if self.folds is not None:
            _whole("folds", self.folds, 2, MAX_FOLDS)
            self._check_folds(self.folds)
        if self.group_by is not None:
            if not isinstance(self.group_by, str) or not self.group_by:
                raise InputError(f"group_by must be a regular expression, got {self.group_by!r}.")
            compiled(self.group_by)
        given = {"val": self.val_fraction, "test": self.test_fraction}
        for name, value in given.items():
            real = isinstance(value, Real) and not isinstance(value, bool)
            if value is not None and not (real and math.isfinite(value) and 0 < value < 1):
                raise InputError(f"{name}_fraction must be between 0 and 1, got {value!r}.")
        _leave_some({name: value for name, value in given.items() if value is not None})
        if not isinstance(self.split_seed, int) or isinstance(self.split_seed, bool):
            raise InputError(f"split_seed must be a whole number, got {self.split_seed!r}.")
        if not isinstance(self.skip_bad, bool):
            raise InputError(f"skip_bad must be true or false, got {self.skip_bad!r}.")
        if self.split is not None and (not isinstance(self.split, str) or not self.split.strip()):
            raise InputError(f"split must be the path of a split file, got {self.split!r}.")

    def _check_folds(self, folds: int) -> None:
        """Refuse what would contradict folds."""
        if self.test_fraction is not None:
            raise InputError(
                f"Give test_fraction or folds, not both: with {folds} folds, each run is tested on "
                f"1/{folds} of the images."
            )
        if self.limit_per_class is not None:
            raise InputError(
                "Give limit_per_class or folds, not both: folds are for small data, and each run "
                "trains on all images that it is neither validated nor tested on."
            )

    def fractions(self, defaults: Mapping[str, float]) -> dict[str, float]:
        """The shares of the splits in ``defaults``: as asked, or else those defaults.

        Raises:
            InputError: together they leave nothing to train on.
        """
        asked = {"val": self.val_fraction, "test": self.test_fraction}
        found = {
            name: default if (value := asked[name]) is None else value
            for name, default in defaults.items()
        }
        _leave_some(found)
        return found


def _check_path(path: str) -> None:
    """A path is written into records and commands, which are text."""
    try:
        path.encode()
        Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no home folder. Give a full path.") from None
    except UnicodeEncodeError:
        raise InputError(f"The name of {path!a} is not valid Unicode. Rename it.") from None


def _leave_some(fractions: Mapping[str, float]) -> None:
    if sum(fractions.values()) >= 1:
        both = " and ".join(f"{name}_fraction {value}" for name, value in fractions.items())
        raise InputError(f"{both} leave nothing to train on. Their sum must be below 1.")


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern of ``--group-by``.

    Raises:
        InputError: it is not a regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"group_by '{pattern}' is not a regular expression: {error}. For example, "
            r"'patient(\d+)' groups images by the number after the word patient in their paths."
        ) from None
