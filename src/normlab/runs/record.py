"""The record of a run, and its rows by epoch: ``run.json``, ``history.csv``, ``features.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..bounded import read_file
from ..errors import InputError
from ..files import csv_text, read_json, write_json, write_text
from ..values import json_numbers, read_numbers
from .config import MOST_EPOCHS
from .layout import FEATURES, HISTORY, RECORD, is_run
from .schema import ROWS, check_record, most_bytes, parse_rows

INTERRUPTED, COMPLETE, DIVERGED = "interrupted", "complete", "diverged"
"""What ``status`` says, or begins with: "diverged at step k"."""
HISTORY_COLUMNS = ("epoch", "split", "loss", "accuracy", "micro_f1", "macro_f1", "lr", "seconds")
PERCENTILES = (1, 20, 80, 99)
"""Of the penultimate features, over all validation images and channels together."""
FEATURE_COLUMNS = ("epoch", *(f"p{p}" for p in PERCENTILES))

Row = dict[str, Any]


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json. It comes last: it says that the other files are complete."""
    write_json(folder / RECORD, {**record, "metrics": json_numbers(record.get("metrics"))})


def write_history(folder: Path, rows: Sequence[Row]) -> None:
    """Write history.csv."""
    write_text(folder / HISTORY, csv_text(HISTORY_COLUMNS, rows))


def write_features(folder: Path, rows: Sequence[Row]) -> None:
    """Write features.csv."""
    write_text(folder / FEATURES, csv_text(FEATURE_COLUMNS, rows))


def read_record(folder: Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        InputError: there is no run in the folder, or its record cannot be read.
    """
    if not is_run(folder):
        raise InputError(f"{folder} does not contain a run (no {RECORD}).")
    record = read_json(folder / RECORD)
    if record.get("metrics"):
        record["metrics"] = read_numbers(record["metrics"])
    check_record(record, folder / RECORD)
    return record


def ended_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run that has ended; None where there is none, or one cannot be read."""
    try:
        record = read_record(folder)
    except InputError:
        return None
    return None if record["status"] == INTERRUPTED else record


def read_history(folder: Path, record: Mapping[str, Any] | None = None) -> list[Row]:
    """Rows of history.csv, numbers as numbers; none where the run wrote none.

    Args:
        folder: of the run.
        record: what run.json says, if it has been read.

    Raises:
        InputError: the file cannot be read, or has rows that no such run writes.
    """
    return _rows(folder, HISTORY, HISTORY_COLUMNS, record, ROWS)


def read_features(folder: Path, record: Mapping[str, Any] | None = None) -> list[Row]:
    """Likewise the rows of features.csv."""
    return _rows(folder, FEATURES, FEATURE_COLUMNS, record)


def _rows(
    folder: Path,
    name: str,
    columns: Sequence[str],
    record: Mapping[str, Any] | None,
    splits: Sequence[str] = ("",),
) -> list[Row]:
    path = folder / name
    if not path.is_file():
        return []
    if record is None:
        record = read_record(folder) if is_run(folder) else {}
    epochs = int((record.get("config") or {}).get("epochs", MOST_EPOCHS))
    return parse_rows(read_file(path, most_bytes(epochs)), columns, path, epochs, splits)
