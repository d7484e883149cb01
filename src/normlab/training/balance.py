"""Classes of unequal size: what each image counts in the loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """Weight of an image of each class, inversely proportional to the images that the class has.

    With n images in all, n_c of class c, and K classes that have any::

        w_c = n / (K * n_c)

    so that every class has the same weight in all, and the mean over the images is 1. These are the
    weights of King & Zeng 2001, "Logistic Regression in Rare Events Data" (weighting), with equal
    shares of the classes as the target. A class without images has weight 0.

    >>> class_weights(np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.667, 2.0]

    Args:
        labels: (n,) index of the class of each training image.
        classes: number of classes.
    """
    counts = np.bincount(labels, minlength=classes)
    there = counts > 0
    weights = np.zeros(classes)
    weights[there] = len(labels) / (there.sum() * counts[there])
    return weights
