"""Whether a disk has room for what is to be run, before anything is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..data import DataSet
from ..errors import InputError
from ..runs import RunConfig
from ..training import build

PAGE = 4 << 20
"""Tables, figures and the page of a study."""
GENERATIONS = 3
"""Checkpoints that a run under way has: two, and the one that is being written."""
_NAME = 32
"""What an image's name and label take, roughly."""


def bytes_of_run(config: RunConfig, data: DataSet) -> tuple[int, int]:
    """What a run leaves, and what it takes besides while it is made, in bytes.

    It leaves its weights and, for each image, a float32 for each class. A checkpoint has the
    weights twice (those of the last step and the chosen ones), and what the optimizer remembers:
    SGD as much as the parameters, AdamW twice as much.
    """
    model = build(config, data).model
    state = sum(tensor.nbytes for tensor in model.state_dict().values())
    images = sum(len(split) for split in data.splits.values())
    kept = state + images * (4 * len(data.classes) + _NAME)
    memory = 2 if config.optimizer == "adamw" else 1
    return kept, GENERATIONS * (2 + memory) * state


def check_room(
    folder: Path, runs: Iterable[RunConfig], data: DataSet, workers: int = 1, more: int = 0
) -> int:
    """Fail before any work where the disk has no room for these runs; returns the bytes needed.

    Args:
        folder: where they go.
        runs: those to be made.
        data: of all of them.
        workers: runs side by side.
        more: bytes that are needed besides.

    Raises:
        InputError: naming what is needed and what is free.
    """
    sizes: dict[tuple[object, ...], tuple[int, int]] = {}
    kept, under_way = more, [0]
    for config in runs:
        network = (
            config.norm,
            config.model,
            config.weights,
            config.n,
            config.shortcut,
            config.optimizer,
        )
        if network not in sizes:
            sizes[network] = bytes_of_run(config, data)
        kept += sizes[network][0]
        under_way.append(sizes[network][1])
    needed = kept + sum(sorted(under_way)[-workers:])
    place = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"{folder} needs about {_megabytes(needed)} of disk for what is to be run, and "
            f"{_megabytes(free)} are free there. Free some space, or choose another place with "
            "--out."
        )
    return needed


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
