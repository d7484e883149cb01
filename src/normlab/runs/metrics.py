"""The metrics of a split."""

from __future__ import annotations

from dataclasses import dataclass

METRICS = ("accuracy", "micro_f1", "macro_f1")
RUNNING = "train_running"
"""The split of history rows gathered while an epoch trains."""


@dataclass(frozen=True)
class Metrics:
    """Loss (mean cross entropy in nats), accuracy, micro F1 and macro F1, as shares of 1.

    With one label per image, micro F1 equals accuracy. Macro F1 is the plain mean over all classes
    of the data set; a class absent from labels and predictions counts as 0.
    """

    loss: float
    accuracy: float
    micro_f1: float
    macro_f1: float
