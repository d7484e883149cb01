"""The evaluation pass: evaluation mode, no augmentation, one pass for every split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from ..data import DeviceSplit
from ..runs import Metrics
from .metrics import measure

EVALUATION_BATCH = 256
"""Fixed, so that evaluation does not depend on the batch size compared."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation pass over a split."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    metrics: Metrics


@torch.no_grad()
def evaluate(model: nn.Module, split: DeviceSplit, classes: int, precision: str) -> Evaluation:
    """Evaluate a model on a split. The model's mode is restored."""
    training = model.training
    model.eval()
    labels, probabilities, losses = [], [], []
    for x, y in split.sequential(EVALUATION_BATCH):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x)
        logits = logits.float()
        losses.append(F.cross_entropy(logits, y, reduction="sum").double())
        probabilities.append(F.softmax(logits, 1))
        labels.append(y)
    model.train(training)
    all_labels = torch.cat(labels).cpu().numpy()
    all_probabilities = torch.cat(probabilities).cpu().numpy()
    loss = float(torch.stack(losses).sum()) / len(all_labels)
    metrics = measure(all_labels, all_probabilities.argmax(1), loss, classes)
    return Evaluation(all_labels, all_probabilities, metrics)
