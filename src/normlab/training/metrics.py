"""Metrics from labels and probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.dataset import SPLITS

__all__ = ["METRICS", "SPLITS", "Metrics", "measure"]

METRICS = ("accuracy", "micro_f1", "macro_f1")


@dataclass(frozen=True)
class Metrics:
    """Loss (mean cross entropy in nats), accuracy, micro F1 and macro F1, as shares of 1.

    With one label an image micro F1 equals accuracy. Macro F1 is the plain mean over all classes
    of the data set; a class absent from labels and predictions counts 0.
    """

    loss: float
    accuracy: float
    micro_f1: float
    macro_f1: float


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
