"""The evaluation pass: evaluation mode, no augmentation, one pass for every split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import DeviceSplit
from ..models import modes_kept
from ..runs import Metrics
from ..stopping import requested
from .group import ALONE, Group
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


def evaluate(
    model: nn.Module, split: DeviceSplit, classes: int, precision: str, group: Group = ALONE
) -> Evaluation:
    """Evaluate a model on a split. The model's mode is restored.

    The loss is the mean over the images in float64 of what each has in float32. The processes of a
    ``group`` divide the batches, each of which is the one that a process alone has.

    Raises:
        Stopped: an end was asked for meanwhile.
    """
    size = EVALUATION_BATCH[split.labels.device.type]
    batches = math.ceil(len(split) / size)
    parts, number = _logits(model, split, precision, group.launch.share(batches))
    (asked,) = group.largest(number or 0)
    if asked:
        group.stop(asked)
    ends = np.minimum(np.cumsum((0, *group.launch.shares(batches))) * size, len(split))
    own = torch.cat(parts) if parts else split.labels.new_zeros((0, classes)).float()
    logits, labels = group.gathered(own, np.diff(ends).tolist()), split.labels
    losses = F.cross_entropy(logits, labels, reduction="none").double()
    probabilities = F.softmax(logits, 1).cpu().numpy()
    known = labels.cpu().numpy()
    metrics = measure(known, probabilities.argmax(1), float(losses.mean()), classes)
    return Evaluation(known, probabilities, metrics)


def probabilities(
    model: nn.Module, split: DeviceSplit, precision: str, *, batches: int
) -> npt.NDArray[np.float32]:
    """(n, K) of the images of the first few batches, as :func:`evaluate` makes them."""
    parts, _ = _logits(model, split, precision, slice(0, batches), wait=True)
    found: npt.NDArray[np.float32] = F.softmax(torch.cat(parts), 1).cpu().numpy()
    return found


@torch.no_grad()
def _logits(
    model: nn.Module, split: DeviceSplit, precision: str, which: slice, *, wait: bool = False
) -> tuple[list[Tensor], int | None]:
    """Logits (k, K) in float32 of each of these batches, and the signal that asked for an end.

    A pass over many images takes long, and nothing of it need be saved: unless it is to ``wait``,
    an end that is asked for ends it.
    """
    logits: list[Tensor] = []
    size = EVALUATION_BATCH[split.labels.device.type]
    with modes_kept(model):
        model.eval()
        for x, _ in split.sequential(size, which):
            if not wait and (number := requested()) is not None:
                return [], number
            with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits.append(model(x).float())
    return logits, None
