"""What arrays of predictions may be: how large, and with which values."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .shapes import found, unfit

SMALL, RATIO = 64 << 20, 32
"""An archive may always unpack to so many bytes, and to so many times its own size. Probabilities
hardly shrink; names do, since NumPy pads them to the longest with four bytes a character."""
ROUNDED = 1e-4
"""How far the probabilities of an image may be from a sum of 1: of ten in float32 they are within
1e-6, of 1,000 within 1e-5."""


def most_unpacked(size: int) -> int:
    """The bytes that an archive of this size may unpack to. A small file cannot fill the memory."""
    return SMALL + RATIO * size


def check_predictions(
    path: Path,
    split: str,
    images: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    probabilities: npt.NDArray[np.generic],
) -> None:
    """Check what a run predicted for a split: names (n,) that differ, labels (n,) of K classes, and
    probabilities (n, K) that are shares of 1.

    Raises:
        InputError: naming the array and what is wrong with it.
    """
    wrong = _wrong_shape(images, labels, probabilities) or _wrong_values(
        images, labels, probabilities
    )
    if wrong:
        raise unfit(path, f"of the split {split}, {wrong}")


def is_text(names: npt.NDArray[np.generic]) -> bool:
    """Whether an array of text is; NumPy lets it hold any number for a character."""
    if not names.size or not names.dtype.itemsize:
        return True
    codes = np.ascontiguousarray(names).view(f"{names.dtype.byteorder}u4")
    return not bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any())


def _wrong_shape(
    images: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    probabilities: npt.NDArray[np.generic],
) -> str:
    kinds = images.dtype.kind == "U", labels.dtype.kind in "iu", probabilities.dtype.kind == "f"
    if not all(kinds):
        types = ", ".join(str(array.dtype) for array in (images, labels, probabilities))
        return f"names, labels and probabilities are of the types {types}"
    counts = len(np.atleast_1d(images)), len(np.atleast_1d(labels)), *probabilities.shape[:1]
    dimensions = images.ndim, labels.ndim, probabilities.ndim
    if dimensions != (1, 1, 2) or len(set(counts)) > 1 or not probabilities.size:
        return (
            f"images {images.shape}, labels {labels.shape} and probabilities "
            f"{probabilities.shape} do not belong together"
        )
    return ""


def _wrong_values(
    images: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    probabilities: npt.NDArray[np.generic],
) -> str:
    if not is_text(images):
        return "a name is not text"
    names = images.tolist()
    if len(set(names)) < len(names):
        twice, _ = Counter(names).most_common(1)[0]
        return f"the image {found(twice)} is there twice"
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= probabilities.shape[1]:
        return (
            f"a label is {least if least < 0 else most}, and there are {probabilities.shape[1]} "
            "classes"
        )
    shares = probabilities.astype(np.float64)
    if not bool(((shares >= 0) & (shares <= 1 + ROUNDED)).all()):
        return "a probability is not from 0 to 1"
    sums = shares.sum(axis=1)
    if not bool((np.abs(sums - 1) <= ROUNDED).all()):
        return f"the probabilities of an image add up to {sums[np.abs(sums - 1).argmax()]:.6g}"
    return ""
