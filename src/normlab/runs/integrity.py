"""Whether the files of a run are those that it wrote, and agree with each other.

``run.json`` is sealed and lists the SHA-256 of every other file of the run that is read back. A
file is compared with the list when it is opened. Runs of earlier versions list nothing; of them,
as of all others, it is compared what can be: metrics with predictions, and with the history.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bounded import read_file
from ..errors import InputError
from ..seals import DamagedError, digest_for, digest_of
from .layout import HISTORY, LISTED, PREDICTIONS, RECORD

if TYPE_CHECKING:
    from .predictions import SplitPredictions

FILES = "files"
"""The field of ``run.json`` that lists them."""
AGAIN = (
    "Copy it again if it was handed on. Otherwise repeat the command that made it, with --repair: "
    "what is damaged is set aside, and made again."
)
EXACT = 1e-9
"""Shares are counts of the same images, so they agree but for rounding of the last digit."""
ROUNDED = 1e-4
"""The loss is of logits, and probabilities are rounded to float32."""
MEASURED_AGAIN = 0.01
"""The history is of the time of the epoch; a run that was resumed may have been evaluated on
another machine in the end."""


def is_listed(record: Mapping[str, Any]) -> bool:
    """Whether a run that has ended lists its files; those of earlier versions do not."""
    return FILES in record


def listed(folder: Path, record: Mapping[str, Any]) -> dict[str, str] | None:
    """Name to SHA-256 of the files of a run; None where its record has no list.

    Raises:
        InputError: the list was not written by normlab.
    """
    if not is_listed(record):
        return None
    known = record[FILES]
    if not isinstance(known, dict) or not all(
        name in LISTED and isinstance(value, str) for name, value in known.items()
    ):
        raise InputError(f"{folder / RECORD} was not written by normlab: files is {known!r:.60}.")
    return known


def checked_content(folder: Path, name: str, most: int, record: Mapping[str, Any]) -> bytes | None:
    """The content of a file of a run, as it was written; None where the run has none.

    Args:
        folder: of the run.
        name: one of :data:`~.layout.LISTED`.
        most: bytes that it may have.
        record: what run.json says.

    Raises:
        DamagedError: it is not what the run wrote.
        InputError: it cannot be read.
    """
    path, known = folder / name, listed(folder, record)
    if not path.exists():
        if known is not None and name in known:
            raise _damaged(path, "it is missing", record)
        return None
    content = read_file(path, most)
    if known is not None:
        _compare(path, digest_for(name, content), known, record)
    return content


def check_listed(folder: Path, record: Mapping[str, Any], name: str) -> None:
    """Compare a file of a run with the list of its record, if it has one.

    Raises:
        DamagedError: it is missing, or not what the run wrote.
    """
    path, known = folder / name, listed(folder, record)
    if known is None:
        return
    if not path.exists():
        if name in known:
            raise _damaged(path, "it is missing", record)
        return
    _compare(path, digest_of(path), known, record)


def check_history(
    folder: Path, record: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> None:
    """Compare the record of a complete run with its history: the chosen epoch is the one with the
    highest validation accuracy, then the lower loss, then the earlier; what validation gave then
    is what it gives in the end; and the last epoch is the last that was done.

    Raises:
        DamagedError: they contradict each other.
    """
    rows = {row["epoch"]: row for row in history if row["split"] == "val"}
    metrics, chosen = (record.get("metrics") or {}).get("val"), record.get("chosen_epoch")
    if not rows or not metrics or chosen is None:
        return
    if record.get("epochs_done", max(rows)) != max(rows):
        said = f"it says that {record['epochs_done']} epochs were done, and {HISTORY} has"
        raise _contradicting(folder, record, f"{said} {max(rows)}")
    best = max(rows, key=lambda epoch: (rows[epoch]["accuracy"], -rows[epoch]["loss"], -epoch))
    if chosen != best:
        raise _contradicting(
            folder, record, f"it says that epoch {chosen} was chosen, and by {HISTORY} it is {best}"
        )
    for name in ("loss", "accuracy", "macro_f1"):
        if name in metrics and not _near(metrics[name], rows[best][name], MEASURED_AGAIN):
            raise _contradicting(
                folder,
                record,
                f"its {name} on val is {metrics[name]:.6g}, and {HISTORY} has "
                f"{rows[best][name]:.6g} for epoch {best}",
            )


def check_metrics(
    folder: Path, record: Mapping[str, Any], split: str, found: SplitPredictions
) -> None:
    """Compare the metrics of a run with its predictions of a split.

    Raises:
        DamagedError: they contradict each other.
    """
    metrics = (record.get("metrics") or {}).get(split)
    if not metrics:
        return
    for name, (value, bound) in _measured(found).items():
        if name in metrics and not _near(metrics[name], value, bound):
            raise _contradicting(
                folder,
                record,
                f"its {name} on {split} is {metrics[name]:.6g}, and {PREDICTIONS} gives "
                f"{value:.6g}",
            )


def _measured(found: SplitPredictions) -> dict[str, tuple[float, float]]:
    """Metric to its value, and how near the record has to be."""
    import numpy as np

    classes = found.probabilities.shape[1]
    right, has, given = (
        np.bincount(labels, minlength=classes)
        for labels in (found.labels[~found.wrong], found.labels, found.predicted)
    )
    accuracy = float(right.sum() / len(found.labels))
    # A class that is neither there nor predicted counts as 0.
    f1 = float(np.mean(2 * right / np.maximum(has + given, 1)))
    measured = {"accuracy": (accuracy, EXACT), "micro_f1": (accuracy, EXACT)}
    measured["macro_f1"] = f1, EXACT
    true = found.probabilities[np.arange(len(found.labels)), found.labels].astype(np.float64)
    if true.min() > np.finfo(np.float32).tiny:  # below, nothing is left of the loss
        measured["loss"] = float(-np.log(true).mean()), ROUNDED
    return measured


def _near(one: float, other: float, bound: float) -> bool:
    return math.isclose(one, other, rel_tol=bound, abs_tol=bound)


def _compare(path: Path, found: str, known: Mapping[str, str], record: Mapping[str, Any]) -> None:
    if path.name not in known:
        raise _damaged(path, "the run did not write it", record)
    if found != known[path.name]:
        raise _damaged(path, "its content is not what normlab wrote (the SHA-256 differs)", record)


def _damaged(path: Path, what: str, record: Mapping[str, Any]) -> DamagedError:
    return DamagedError(path, what + _written(record), AGAIN)


def _contradicting(folder: Path, record: Mapping[str, Any], what: str) -> DamagedError:
    return _damaged(folder / RECORD, what, record)


def _written(record: Mapping[str, Any]) -> str:
    """When the run ended, by its own account."""
    try:
        moment = datetime.fromisoformat(str(record.get("written"))).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return f"; the run ended on {moment:%Y-%m-%d at %H:%M} UTC"
