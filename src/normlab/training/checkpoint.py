"""Checkpoints: what resuming needs, in files that are named by their content.

``checkpoint/STEP-SHA256.safetensors`` appears in one step, whole. Two are kept, and where the newer
one is damaged the older one serves. Nothing of a file is used before all of it has been checked,
and reading takes no more memory than the file has bytes.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..bounded import parse_json, read_file
from ..errors import InputError
from ..files import write_bytes
from ..models import packed
from ..models.state import EXTRA
from ..runs import CHECKPOINTS, FEATURE_COLUMNS, HISTORY_COLUMNS, RUNNING
from ..runs.schema import START
from ..seals import digest
from ..values import json_numbers, read_numbers
from .standing import Standing

GROUPS = ("model", "best", "optimizer", "epoch", "random")
_NAME = re.compile(r"(\d{1,15})-([0-9a-f]{64})\.safetensors")
_EARLIER = "state.safetensors"
_TRIED = 8
"""There are two, and after a kill at a bad moment three."""
_FREE = 64 << 20
"""Bytes that a checkpoint may have besides those that its run accounts for."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run was, at one step.

    Attributes:
        step: updates done in all.
        standing: after the last epoch.
        states: ``model``, ``best``, ``optimizer``, ``epoch`` (the updates of the epoch under way)
            and ``random`` (generators within that epoch).
        seconds: time spent on the epoch under way.
        made_on: the versions and the machine.
    """

    step: int
    standing: Standing
    states: Mapping[str, Mapping[str, Any]]
    seconds: float
    made_on: Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """What there was to resume from.

    Attributes:
        checkpoint: the newest that is whole, or None.
        path: its file.
        damaged: newer ones that are not.
        earlier: whether there is one that an earlier version wrote, which is not read.
    """

    checkpoint: Checkpoint | None = None
    path: Path | None = None
    damaged: int = 0
    earlier: bool = False


def encoded(identity: str, checkpoint: Checkpoint) -> bytes:
    """A checkpoint of the run with this identity, as the content of a file.

    Raises:
        InputError: a layer's extra state is neither a tensor nor plain JSON.
    """
    flat = {
        f"{group}/{name}": tensor.cpu().contiguous()
        for group, members in checkpoint.states.items()
        for name, tensor in packed(members).items()
    }
    metadata = {
        "identity": identity,
        "step": str(checkpoint.step),
        "standing": json.dumps(_plain(checkpoint.standing), allow_nan=False),
        "seconds": repr(checkpoint.seconds),
        "made_on": json.dumps(dict(checkpoint.made_on)),
    }
    return safetensors.torch.save(flat, metadata)


def write(folder: Path, step: int, content: bytes, before: Path | None) -> Path:
    """Write a checkpoint, and remove all others but ``before``, the last one that was whole.

    Raises:
        InputError: it cannot be written; ``before`` is still there.
    """
    path = folder / CHECKPOINTS / f"{step}-{digest(content)}.safetensors"
    write_bytes(path, content)
    for other in path.parent.iterdir():
        if other not in (path, before):
            with suppress(OSError):
                other.unlink()
    return path


def load(
    folder: Path, identity: str, bytes_known: int, fits: Callable[[Checkpoint], bool]
) -> Found:
    """The newest checkpoint of this run that is whole.

    Args:
        folder: the run's.
        identity: the run's. Checkpoints of another are passed over.
        bytes_known: what the run's own tensors take; a file that is much larger is not read.
        fits: whether a checkpoint is one of the run; may raise ValueError.
    """
    place = folder / CHECKPOINTS
    named = [(_NAME.fullmatch(path.name), path) for path in _listed(place)]
    files = [(int(match[1]), match[2], path) for match, path in named if match]
    damaged = 0
    for step, known, path in sorted(files, key=lambda file: file[0], reverse=True)[:_TRIED]:
        try:
            checkpoint = _read(path, step, known, identity, 2 * bytes_known + _FREE)
            if checkpoint is None:
                continue
            if not fits(checkpoint):
                raise ValueError("it is not one of the run")
        except (
            InputError,
            SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
        ):
            damaged += 1
            continue
        return Found(checkpoint, path, damaged)
    return Found(damaged=damaged, earlier=(place / _EARLIER).exists())


def clear(folder: Path) -> None:
    """Remove the checkpoints of a run."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def same_tensors(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether two packed state dicts have the same names, shapes and types. Extra state has the
    shape that its layer gives it."""
    return found.keys() == own.keys() and all(
        tensor.dtype == own[name].dtype and (EXTRA in name or tensor.shape == own[name].shape)
        for name, tensor in found.items()
    )


def _listed(place: Path) -> list[Path]:
    try:
        return list(place.iterdir())
    except OSError:
        return []


def _read(path: Path, step: int, known: str, identity: str, most: int) -> Checkpoint | None:
    """None for a checkpoint of another run."""
    content = read_file(path, most)
    if digest(content) != known:
        raise ValueError("its content is not what was written")
    length = int.from_bytes(content[:8], "little")
    metadata = parse_json(content[8 : 8 + length], path)["__metadata__"]
    if metadata["identity"] != identity:
        return None
    if metadata["step"] != str(step):
        raise ValueError("it is of another step")
    states: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
    for name, tensor in safetensors.torch.load(content).items():
        group, _, rest = name.partition("/")
        states[group][rest] = tensor
    made_on = parse_json(metadata["made_on"].encode(), path)
    if not isinstance(made_on, dict) or not all(isinstance(v, str) for v in made_on.values()):
        raise ValueError("it does not say where it was made")
    standing = _standing(parse_json(metadata["standing"].encode(), path))
    return Checkpoint(step, standing, states, _number(float(metadata["seconds"])), made_on)


def _plain(standing: Standing) -> dict[str, Any]:
    """As JSON has it."""
    content: dict[str, Any] = json_numbers(asdict(standing))
    rows = {name: [json_numbers(row) for row in content[name]] for name in ("history", "features")}
    return {**content, **rows}


def _standing(content: Any) -> Standing:
    """The reverse of :func:`_plain`, each part of its type.

    Raises:
        ValueError, TypeError, KeyError: it is no such content.
    """
    if not isinstance(content, dict):
        raise ValueError("it is not what a run remembers")
    # Earlier versions had none of these.
    content = {"processor": None, "processor_since": 0.0, "start": {}, **content}
    if set(content) != {f.name for f in fields(Standing)}:
        raise ValueError("it is not what a run remembers")
    return Standing(
        epoch=_count(content["epoch"]),
        best_epoch=_count(content["best_epoch"]),
        best_accuracy=_number(content["best_accuracy"], least=-1.0),
        best_loss=_number(read_numbers(content["best_loss"]), least=-math.inf, finite=False),
        history=[_row(row, HISTORY_COLUMNS) for row in content["history"]],
        features=[_row(row, FEATURE_COLUMNS) for row in content["features"]],
        seconds=_number(content["seconds"]),
        processor=None
        if content["processor"] is None
        else [_number(spent) for spent in content["processor"]],
        processor_since=_number(content["processor_since"]),
        memory={str(name): _count(size) for name, size in content["memory"].items()},
        start=_start(content["start"]),
        resumed=[_resumed(entry) for entry in content["resumed"]],
    )


def _start(content: Any) -> dict[str, Any]:
    found: dict[str, Any] = read_numbers(content)
    if found:
        START(found, "start")
    return found


def _row(row: Any, columns: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(row, dict) or tuple(row) != columns:
        raise ValueError("a row has other columns")
    if row.get("split", RUNNING) not in (RUNNING, "val"):
        raise ValueError("a row is of another split")
    return {
        name: _count(value)
        if name == "epoch"
        else value
        if name == "split"
        else _number(read_numbers(value), least=-math.inf, finite=False)
        for name, value in row.items()
    }


def _resumed(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not set(entry) <= {"step", "damaged", "from", "to"}:
        raise ValueError("it was resumed otherwise")
    found: dict[str, Any] = {"step": _count(entry["step"])}
    if "damaged" in entry:
        found["damaged"] = _count(entry["damaged"])
    for name in ("from", "to"):
        if name in entry:
            if not all(isinstance(v, str) for v in entry[name].values()):
                raise ValueError("it was resumed elsewhere")
            found[name] = dict(entry[name])
    return found


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r:.60} is no count")
    return value


def _number(value: Any, least: float = 0.0, *, finite: bool = True) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{value!r:.60} is no number")
    number = float(value)
    if (finite and not math.isfinite(number)) or number < least:
        raise ValueError(f"{value!r:.60} is out of range")
    return number
