"""The evaluation pass: evaluation mode, no augmentation, one pass for every split."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import DeviceSplit
from ..runs import Metrics
from ..stopping import Stopped, requested
from .metrics import measure

EVALUATION_BATCH = {"cpu": 64, "cuda": 256}
"""Images that are evaluated at a time, by device; fixed, so that evaluation does not depend on the
batch size compared. The maps of many images do not fit into a processor's cache: 256 at a time give
the same bits there, and take a quarter to a half longer."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation pass over a split."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    metrics: Metrics


def evaluate(model: nn.Module, split: DeviceSplit, classes: int, precision: str) -> Evaluation:
    """Evaluate a model on a split. The model's mode is restored.

    The loss is the mean over the images in float64 of what each has in float32.

    Raises:
        Stopped: an end was asked for meanwhile.
    """
    labels, logits = _answers(model, split, precision)
    losses = F.cross_entropy(logits, labels, reduction="none").double()
    probabilities = F.softmax(logits, 1).cpu().numpy()
    known = labels.cpu().numpy()
    metrics = measure(known, probabilities.argmax(1), float(losses.mean()), classes)
    return Evaluation(known, probabilities, metrics)


def probabilities(
    model: nn.Module, split: DeviceSplit, precision: str, *, batches: int
) -> npt.NDArray[np.float32]:
    """(n, K) of the images of the first few batches, as :func:`evaluate` makes them."""
    _, logits = _answers(model, split, precision, batches)
    found: npt.NDArray[np.float32] = F.softmax(logits, 1).cpu().numpy()
    return found


@torch.no_grad()
def _answers(
    model: nn.Module, split: DeviceSplit, precision: str, batches: int | None = None
) -> tuple[Tensor, Tensor]:
    """Labels (n,) and logits (n, K) in float32, of all batches or the first few.

    A pass over many images takes long, and nothing of it need be saved: a stop is not waited for.
    """
    training = model.training
    model.eval()
    labels, logits = [], []
    size = EVALUATION_BATCH[split.labels.device.type]
    try:
        for x, y in itertools.islice(split.sequential(size), batches):
            if batches is None and (number := requested()) is not None:
                raise Stopped(number)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits.append(model(x).float())
            labels.append(y)
    finally:
        model.train(training)
    return torch.cat(labels), torch.cat(logits)
