"""The F1 of classes, and the counts that it is made from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.int64]
"""(n,), the index of a class for each image."""


def class_f1(labels: Classes, predicted: Classes, classes: int) -> npt.NDArray[np.float64]:
    """(K,) the F1 of every class: ``2 TP / (2 TP + FP + FN)``.

    0 for a class that is neither among the labels nor among the predictions. These are the values
    of scikit-learn's ``f1_score(average=None, labels=range(K), zero_division=0)``, to the bit;
    importing that for a few sums takes longer than an epoch of a small study.

    Args:
        labels: the true classes.
        predicted: the predicted ones.
        classes: how many there are, K.

    >>> class_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), classes=3).round(2).tolist()
    [0.67, 0.67, 0.0]
    """
    hits, true, answered = (
        np.bincount(some, minlength=classes)
        for some in (labels[labels == predicted], labels, predicted)
    )
    return _f1(hits, true + answered)


def micro_f1(labels: Classes, predicted: Classes) -> float:
    """The F1 of the counts of all classes together, which equals the accuracy.

    >>> micro_f1(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.75
    """
    hits = np.count_nonzero(labels == predicted)
    return float(_f1(np.array([hits]), np.array([len(labels) + len(predicted)]))[0])


def confusion(labels: Classes, predicted: Classes, classes: int) -> npt.NDArray[np.int64]:
    """(K, K) how many images of each class (rows) were taken for each class (columns).

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.bincount(labels * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def _f1(hits: npt.NDArray[np.int64], both: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """``both``: how often a class is a label, and how often it is predicted, added."""
    found = np.zeros(len(both))
    np.divide(2 * hits, both, out=found, where=both > 0)
    return found
