"""Samples with equal numbers of every class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def first_of_each(order: Rows, labels: npt.NDArray[np.int64], most: int) -> Rows:
    """Up to ``most`` rows of every class, the first in this order."""
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels[by_class])
    starts = np.cumsum(counts) - counts
    place = np.arange(len(by_class)) - starts[labels[by_class]]
    return by_class[place < most]
