"""What a run has reached: after its epochs, and within the one under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..runs import Metrics
from .metrics import measure

LOSSES_AT_A_TIME = 50
"""Reading the loss waits for a GPU, so there it is read in blocks."""


class DivergedError(Exception):
    """The loss is no longer finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"diverged at step {step}")
        self.step = step


@dataclass
class Standing:
    """What a run must remember between epochs.

    Attributes:
        epoch: epochs done.
        best_epoch: the epoch validation chose so far, counted from 1; 0 before the first.
        best_accuracy, best_loss: its validation accuracy and loss.
        history: rows of history.csv so far.
        features: rows of features.csv so far.
        seconds: time spent on the epochs that are done.
        processor: processor time of each epoch that is done, in seconds, over all threads. That of
            the first includes what came before it; all include validation. None where a checkpoint
            of an earlier version did not have it.
        processor_since: processor time since then.
        memory: what was measured of it, in bytes.
        start: of a run that starts from trained weights, what it started with
            (``runs/schema.py`` says what this has).
        resumed: where the run was resumed from a checkpoint that was not plainly the last: an
            earlier one, or one made with other versions or on another machine.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    history: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    processor: list[float] | None = field(default_factory=list)
    processor_since: float = 0.0
    memory: dict[str, int] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    resumed: list[dict[str, Any]] = field(default_factory=list)


class Running:
    """What the updates of an epoch under way have given.

    Attributes:
        seconds: time spent on them.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._losses: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._sizes: list[int] = []

    @property
    def updates(self) -> int:
        """How many there were."""
        return len(self._losses)

    @property
    def images(self) -> int:
        """How many images they saw."""
        return sum(self._sizes)

    def add(self, loss: Tensor, predicted: Tensor, labels: Tensor) -> None:
        """An update: its mean loss (), and for each image the predicted class and the true one."""
        self._losses.append(loss)
        self._predicted.append(predicted)
        self._labels.append(labels)
        self._sizes.append(len(labels))

    def check_finite(self, step: int) -> None:
        """Look at the last losses, of which the last one is of ``step``, counted from 0.

        Raises:
            DivergedError: at the first that is not finite.
        """
        if not self._losses:
            return
        recent = torch.stack(self._losses[-LOSSES_AT_A_TIME:]).isfinite().cpu()
        if not bool(recent.all()):
            first = int((~recent).nonzero()[0])
            raise DivergedError(step - (len(recent) - 1) + first + 1)

    def metrics(self, classes: int) -> Metrics:
        """Over all images so far; the loss is the mean over the images, in float64."""
        sizes = torch.tensor(self._sizes, dtype=torch.float64)
        mean_loss = float((torch.stack(self._losses).cpu().double() * sizes).sum() / sizes.sum())
        answered, true = (
            torch.cat(parts).cpu().numpy() for parts in (self._predicted, self._labels)
        )
        return measure(true, answered, mean_loss, classes)

    def state(self) -> dict[str, Tensor]:
        """All of it but the time, as tensors; none before the first update."""
        if not self._losses:
            return {}
        return {
            "losses": torch.stack(self._losses),
            "predicted": torch.cat(self._predicted),
            "labels": torch.cat(self._labels),
            "sizes": torch.tensor(self._sizes, dtype=torch.int64),
        }

    @classmethod
    def of(cls, state: Mapping[str, Tensor], seconds: float, device: str) -> Running:
        """The reverse of :meth:`state`.

        Raises:
            ValueError: these are no such tensors.
        """
        running = cls()
        running.seconds = seconds
        if not state:
            return running
        if set(state) != {"losses", "predicted", "labels", "sizes"}:
            raise ValueError(f"an epoch has {', '.join(sorted(state))}")
        counts = {name: tensor.dtype for name, tensor in state.items() if name != "losses"}
        if any(tensor.ndim != 1 for tensor in state.values()) or set(counts.values()) != {
            torch.int64
        }:
            raise ValueError("an epoch has tensors of other shapes or types")
        losses, sizes = state["losses"], state["sizes"]
        images = len(state["labels"])
        if (
            losses.dtype not in (torch.float32, torch.float64)
            or len(losses) != len(sizes)
            or not bool((sizes > 0).all())
            or int(sizes.sum()) != images
            or len(state["predicted"]) != images
        ):
            raise ValueError("the tensors of an epoch do not agree")
        running._losses = list(losses.to(device).unbind())
        running._predicted = [state["predicted"].to(device)]
        running._labels = [state["labels"].to(device)]
        running._sizes = sizes.tolist()
        return running
