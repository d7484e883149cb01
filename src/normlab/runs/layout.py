"""Where the files of a study and of its runs are. Nothing else knows these names."""

from __future__ import annotations

import itertools
from pathlib import Path

STUDY, DATA, SPLIT = "study.toml", "data.json", "split.json"
RECORD, HISTORY, FEATURES = "run.json", "history.csv", "features.csv"
PREDICTIONS, PICTURES, TUNING = "predictions.npz", "hardest.npz", "tuning.json"
MODEL, WEIGHTS = "model.json", "weights.safetensors"
CHECKPOINTS = "checkpoint"
RESULTS = "results.csv"
ERRORS = "error.log"
"""Where an error came from that nobody foresaw; removed when the run is complete."""
LISTED = (HISTORY, FEATURES, PREDICTIONS, MODEL, WEIGHTS)
"""The files of a run whose SHA-256 its record lists."""


def run_folder(study: Path, arm: str, seed: int) -> Path:
    """The folder of a run.

    >>> run_folder(Path("study"), "gn:groups=4", 0).as_posix()
    'study/runs/gn,groups=4/seed-0'
    """
    return study / "runs" / file_name(arm) / f"seed-{seed}"


def study_of(run: Path) -> Path:
    """The folder of the study that a run belongs to, if it belongs to one."""
    return run.absolute().parent.parent.parent


def tuning_folder(study: Path, field: str) -> Path:
    """Where the tuning of a field is kept."""
    return study / "tuning" / field


def same_function_file(study: Path, arm: str) -> Path:
    """Where the comparison of an arm with its reference is kept."""
    return study / "checks" / "same-function" / f"{file_name(arm)}.json"


def superseded_folder(study: Path, arm: str, seed: int, identity: str) -> Path:
    """Where a run goes whose layer's code has changed since."""
    return study / "superseded" / file_name(arm) / f"seed-{seed}-{identity[:8]}"


def damaged_place(folder: Path, name: str) -> Path:
    """Where something of a study or a run goes that is damaged: a path that is not taken yet."""
    kept = folder / "damaged" / name
    numbers = itertools.count(1)
    return next(
        place
        for number in numbers
        if not (place := kept.with_name(f"{kept.name}-{number}")).exists()
    )


def file_name(arm: str) -> str:
    """An arm's name as a file name. A colon becomes a comma, for the sake of file systems and of
    tools that read ``host:path``."""
    return arm.replace(":", ",")


def is_run(folder: Path) -> bool:
    """Whether a run was made in this folder."""
    return (folder / RECORD).is_file()


def is_study(folder: Path) -> bool:
    """Whether this is the folder of a study."""
    return (folder / STUDY).is_file()
