"""Metrics from labels and predicted classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..runs import Metrics
from ..runs.f1 import class_f1, micro_f1


def measure(
    labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], loss: float, classes: int
) -> Metrics:
    """Metrics of one pass."""
    return Metrics(
        loss=float(loss),
        accuracy=float(np.mean(labels == predicted)),
        micro_f1=micro_f1(labels, predicted),
        macro_f1=float(np.mean(class_f1(labels, predicted, classes))),
    )
