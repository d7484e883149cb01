"""Pictures on the page, and the words next to them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ...pages.images import LARGE, data_uri
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet

Rows = npt.NDArray[np.int64]

_MEAN_OF = 200
_SMALL = LARGE // 2


def described(image_set: ImageSet, row: int) -> dict[str, str]:
    """Name, split and class of an image."""
    return {
        "name": str(image_set.names[row]),
        "split": SPLIT_WORDS[SPLITS[image_set.split[row]]],
        "class": image_set.classes[image_set.labels[row]],
    }


def strip(image_set: ImageSet, rows: Iterable[int]) -> list[dict[str, str]]:
    """Small pictures in a row, each with its name, split and class."""
    wanted = list(rows)
    return [
        {**described(image_set, row), "src": data_uri(pixels, _SMALL)}
        for row, pixels in zip(wanted, image_set.images(wanted), strict=True)
    ]


def mean_image(image_set: ImageSet, rows: Rows) -> str:
    """The mean of up to 200 of these images, evenly spread over them, as a small picture."""
    step = max(-(-len(rows) // _MEAN_OF), 1)
    mean = image_set.images(rows[::step]).mean(0, dtype=np.float64)
    return data_uri(mean.round().astype(np.uint8), _SMALL)
