"""What a run predicted, image by image: ``predictions.npz``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bounded import parse_arrays
from ..errors import InputError
from ..files import write_bytes
from .answers import check_predictions, most_unpacked
from .integrity import check_metrics, checked_content
from .layout import PREDICTIONS, is_run
from .record import read_record

_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """What one run predicted for the images of a split.

    Attributes:
        images: (n,) names of the images inside the source.
        labels: (n,) index of the true class, int64.
        probabilities: (n, K) of the K classes, float32.
    """

    images: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]

    @cached_property
    def predicted(self) -> npt.NDArray[np.int64]:
        """(n,) index of the most probable class, the first of equal ones."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the most probable class is not the true one."""
        return np.asarray(self.predicted != self.labels)


def write_predictions(folder: Path, splits: Mapping[str, SplitPredictions]) -> None:
    """Write predictions.npz of a run: ``SPLIT_image``, ``SPLIT_label``, ``SPLIT_probabilities``."""
    arrays: dict[str, Any] = {}
    for name, found in splits.items():
        arrays[f"{name}_image"] = found.images
        arrays[f"{name}_label"] = found.labels
        arrays[f"{name}_probabilities"] = found.probabilities
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(folder / PREDICTIONS, buffer.getvalue())


def read_predictions(
    folder: Path, split: str, record: Mapping[str, Any] | None = None
) -> SplitPredictions:
    """What a run predicted for the images of a split.

    Args:
        folder: of the run.
        split: which.
        record: what run.json says, if it has been read.

    Raises:
        DamagedError: the file is not what the run wrote, or its record has other metrics.
        InputError: the run has no predictions, or its file cannot be read or contradicts itself.
    """
    path = folder / PREDICTIONS
    if record is None:
        record = read_record(folder) if is_run(folder) else {}
    content = checked_content(folder, PREDICTIONS, _BYTES, record)
    if content is None:
        raise InputError(f"{PREDICTIONS} is missing from {folder}.")
    names = [f"{split}_{part}" for part in ("image", "label", "probabilities")]
    held = parse_arrays(content, path, most_unpacked(len(content)), names)
    if len(held) < len(names):
        raise InputError(f"{path} contains nothing for the split {split}.")
    images, labels, probabilities = (held[name] for name in names)
    check_predictions(path, split, images, labels, probabilities)
    found = SplitPredictions(
        images, labels.astype(np.int64, copy=False), probabilities.astype(np.float32, copy=False)
    )
    check_metrics(folder, record, split, found)
    return found
