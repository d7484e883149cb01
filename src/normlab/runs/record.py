"""The record of a run, and its rows by epoch: ``run.json``, ``history.csv``, ``features.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import csv_text, read_json, write_json, write_text
from ..seals import digests_of
from ..values import json_numbers, read_numbers
from .config import MOST_EPOCHS
from .integrity import AGAIN, FILES, check_history, checked_content
from .layout import FEATURES, HISTORY, LISTED, RECORD, is_run
from .schema import ROWS, check_record, most_bytes, parse_rows

INTERRUPTED, COMPLETE, DIVERGED, FAILED = "interrupted", "complete", "diverged", "failed"
"""What ``status`` says, or begins with: "diverged at step k", "failed: killed by SIGKILL ...". The
first and the last are no results: such a run is made, or made again."""
RUNNING = "train_running"
"""The split of history rows gathered while an epoch trains."""
HISTORY_COLUMNS = ("epoch", "split", "loss", "accuracy", "micro_f1", "macro_f1", "lr", "seconds")
PERCENTILES = (1, 20, 80, 99)
"""Of the penultimate features, over all validation images and channels together."""
FEATURE_COLUMNS = ("epoch", *(f"p{p}" for p in PERCENTILES))

Row = dict[str, Any]


def write_record(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write run.json, and return what it says. It comes last: it says that the other files are
    complete, and once the run has ended it lists their SHA-256."""
    content = {**record, "metrics": json_numbers(record.get("metrics"))}
    if record["status"] != INTERRUPTED:
        content[FILES] = digests_of(folder, LISTED)
    write_json(folder / RECORD, content)
    return {**content, "metrics": record.get("metrics")}


def write_history(folder: Path, rows: Sequence[Row]) -> None:
    """Write history.csv."""
    write_text(folder / HISTORY, csv_text(HISTORY_COLUMNS, rows))


def write_features(folder: Path, rows: Sequence[Row]) -> None:
    """Write features.csv."""
    write_text(folder / FEATURES, csv_text(FEATURE_COLUMNS, rows))


def read_record(folder: Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        DamagedError: it is not what was written.
        InputError: there is no run in the folder, or its record cannot be read.
    """
    if not is_run(folder):
        raise InputError(f"{folder} does not contain a run (no {RECORD}).")
    record = read_json(folder / RECORD, AGAIN)
    if record.get("metrics"):
        record["metrics"] = read_numbers(record["metrics"])
    check_record(record, folder / RECORD)
    return record


def is_result(status: str) -> bool:
    """Whether a run of this status has its result, and is not made again.

    >>> is_result("diverged at step 12"), is_result("failed: killed by SIGKILL three times")
    (True, False)
    """
    return status == COMPLETE or status.startswith(DIVERGED)


def ended_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run that has its result; None where there is none.

    Raises:
        InputError: there is one that cannot be read. A run whose record is damaged may have ended.
    """
    record = read_record(folder) if is_run(folder) else None
    return record if record is not None and is_result(str(record["status"])) else None


def read_history(folder: Path, record: Mapping[str, Any] | None = None) -> list[Row]:
    """Rows of history.csv, numbers as numbers; none where the run wrote none.

    Args:
        folder: of the run.
        record: what run.json says, if it has been read.

    Raises:
        DamagedError: the file is not what the run wrote, or contradicts its record.
        InputError: the file cannot be read, or has rows that no such run writes.
    """
    record = _record_of(folder) if record is None else record
    rows = _rows(folder, HISTORY, HISTORY_COLUMNS, record, ROWS)
    if record.get("status") == COMPLETE:
        check_history(folder, record, rows)
    return rows


def read_features(folder: Path, record: Mapping[str, Any] | None = None) -> list[Row]:
    """Likewise the rows of features.csv."""
    record = _record_of(folder) if record is None else record
    return _rows(folder, FEATURES, FEATURE_COLUMNS, record)


def _record_of(folder: Path) -> dict[str, Any]:
    return read_record(folder) if is_run(folder) else {}


def _rows(
    folder: Path,
    name: str,
    columns: Sequence[str],
    record: Mapping[str, Any],
    splits: Sequence[str] = ("",),
) -> list[Row]:
    epochs = int((record.get("config") or {}).get("epochs", MOST_EPOCHS))
    content = checked_content(folder, name, most_bytes(epochs), record)
    if content is None:
        return []
    return parse_rows(content, columns, folder / name, epochs, splits)
