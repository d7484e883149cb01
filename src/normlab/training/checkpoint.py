"""What a run has reached after an epoch, in one file that is whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from ..files import write_bytes
from ..models import packed
from ..runs import CHECKPOINT


@dataclass
class Standing:
    """What a run must remember between epochs.

    Draws are keyed by epoch and rates computed from the step, so there is neither a generator
    nor a schedule to save.

    Attributes:
        epoch: epochs done.
        best_epoch: the epoch validation chose so far, counted from 1; 0 before the first.
        best_accuracy, best_loss: its validation accuracy and loss.
        history: rows of history.csv so far.
        features: rows of features.csv so far.
        seconds: time spent training so far.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    history: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def save(
    folder: Path, identity: str, standing: Standing, states: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the standing and groups of state (``model``, ``best``, ``optimizer``)."""
    flat = {
        f"{group}/{name}": tensor.cpu().contiguous()
        for group, members in states.items()
        for name, tensor in packed(members).items()
    }
    metadata = {"identity": identity, "standing": json.dumps(asdict(standing))}
    write_bytes(folder / CHECKPOINT, safetensors.torch.save(flat, metadata))


def load(folder: Path, identity: str) -> tuple[Standing, dict[str, dict[str, torch.Tensor]]] | None:
    """The last checkpoint of this run, or None if none can be used."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    tensors: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                group, _, rest = name.partition("/")
                tensors[group][rest] = opened.get_tensor(name)
        return Standing(**json.loads(metadata["standing"])), tensors
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None  # a damaged checkpoint costs time, not truth: the run starts over


def clear(folder: Path) -> None:
    """Remove the checkpoint of a run that is complete."""
    shutil.rmtree((folder / CHECKPOINT).parent, ignore_errors=True)
