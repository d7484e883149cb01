"""Metrics from labels and predicted classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..runs import Metrics


def measure(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], loss: float, classes: int
) -> Metrics:
    """Metrics of one pass."""
    from sklearn.metrics import f1_score

    every = range(classes)
    return Metrics(
        loss=float(loss),
        accuracy=float(np.mean(labels == predicted)),
        micro_f1=float(f1_score(labels, predicted, labels=every, average="micro", zero_division=0)),
        macro_f1=float(f1_score(labels, predicted, labels=every, average="macro", zero_division=0)),
    )
