"""The record of a run, and its rows by epoch: ``run.json``, ``history.csv``, ``features.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import csv_text, read_json, write_json, write_text
from ..values import json_numbers, read_numbers
from .layout import FEATURES, HISTORY, RECORD, is_run

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
    if not isinstance(record, dict) or "status" not in record:
        raise InputError(f"{folder / RECORD} was not written by normlab.")
    if record.get("metrics"):
        record["metrics"] = read_numbers(record["metrics"])
    return record


def is_result(status: str) -> bool:
    """Whether a run of this status has its result, and is not made again.

    >>> is_result("diverged at step 12"), is_result("failed: killed by SIGKILL three times")
    (True, False)
    """
    return status == COMPLETE or status.startswith(DIVERGED)


def ended_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run that has its result; None where there is none, or one cannot be read."""
    try:
        record = read_record(folder)
    except InputError:
        return None
    return record if is_result(str(record["status"])) else None


def read_history(folder: Path) -> list[Row]:
    """Rows of history.csv, numbers as numbers; none where the run wrote none.

    Raises:
        InputError: the file cannot be read.
    """
    return _rows(folder / HISTORY)


def read_features(folder: Path) -> list[Row]:
    """Likewise the rows of features.csv."""
    return _rows(folder / FEATURES)


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as opened:
            return [
                {
                    key: value if key == "split" else int(value) if key == "epoch" else float(value)
                    for key, value in row.items()
                }
                for row in csv.DictReader(opened)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
