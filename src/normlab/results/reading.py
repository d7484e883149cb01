"""Reading a study back from its folder."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import csv_text, write_text
from ..once import Once
from ..runs import (
    COMPLETE,
    DIVERGED,
    FAILED,
    INTERRUPTED,
    METRICS,
    SplitPredictions,
    ended_record,
    is_run,
    read_features,
    read_history,
    read_predictions,
    read_record,
    run_folder,
)
from ..runs.layout import RESULTS
from ..runs.same_function import SameFunction, read_same_function
from ..runs.study_file import asked_seeds, read_data, read_question
from ..splits import SPLITS
from .folds import Folds

COLUMNS = ("arm", "seed", "split", "loss", *METRICS, "status")


@dataclass(frozen=True)
class Run:
    """A run read back.

    Attributes:
        arm, seed: which run.
        folder: where it is.
        record: its run.json.
        history: rows of history.csv, numbers as numbers.
        features: rows of features.csv, if the run recorded them.
    """

    arm: str
    seed: int
    folder: Path
    record: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    features: Sequence[Mapping[str, Any]] = ()

    @property
    def status(self) -> str:
        """complete, "diverged at step k", "failed: " with a reason, or interrupted."""
        return str(self.record["status"])

    @property
    def ended(self) -> bool:
        """Whether the run is complete, diverged or failed."""
        return self.status != INTERRUPTED

    @property
    def lost(self) -> bool:
        """Whether the run ended without a model: it diverged or failed."""
        return self.ended and not self.complete

    @property
    def complete(self) -> bool:
        """Whether the run has metrics."""
        return self.status == COMPLETE

    @cached_property
    def _predictions(self) -> dict[str, SplitPredictions]:
        return {}

    def predictions(self, split: str = "test") -> SplitPredictions:
        """What the run predicted for the images of a split; read once.

        Raises:
            DamagedError: the file is not what the run wrote.
            InputError: no such split, no predictions, or a file that cannot be read.
        """
        check_split(split)
        if split not in self._predictions:
            self._predictions[split] = read_predictions(self.folder, split, self.record)
        return self._predictions[split]

    def metric(self, split: str, name: str) -> float | None:
        """A metric of the evaluation pass, or None for a run without a model."""
        if not self.complete:
            return None
        found = (self.record.get("metrics") or {}).get(split)
        return None if found is None else float(found[name])


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds (None with fewer than two, or where a value
    is infinite)."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where there is no value."""
        if not values:
            return None
        finite = all(map(math.isfinite, values))  # a loss need not be
        sd = statistics.stdev(values) if finite and len(values) > 1 else None
        return cls(statistics.fmean(values), sd, len(values))


@dataclass(frozen=True)
class Results(Once):
    """All runs of a study.

    Attributes:
        folder: the study's folder.
        question: what study.toml says.
        data: what data.json says.
        arms: names in the order asked.
        runs: the runs found, in the order of arms and seeds.
        checks: what the check ``same-function`` found, where it was asked.
    """

    folder: Path
    question: Mapping[str, Any]
    data: Mapping[str, Any]
    arms: tuple[str, ...]
    runs: tuple[Run, ...]
    checks: tuple[SameFunction, ...] = ()

    @cached_property
    def folds(self) -> Folds | None:
        """The folds, where every run has splits of its own; None where all have the same."""
        return Folds.of(self.data)

    def only(self, arms: Sequence[str], seeds: Sequence[int] | None = None) -> Results:
        """The results of these arms, and of these seeds if any are named."""
        kept = self.question["seeds"] if seeds is None else seeds
        runs = tuple(run for run in self.runs if run.arm in arms and run.seed in kept)
        question = {**self.question, "seeds": list(kept)}
        return replace(self, question=question, arms=tuple(arms), runs=runs, checks=())

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds that an arm was asked to run with; fewer than the study's where its comparison
        was decided early."""
        return asked_seeds(self.question, arm)

    @property
    def seed_counts(self) -> tuple[int, int]:
        """The smallest and the largest number of seeds of an arm."""
        counts = [len(self.seeds_of(arm)) for arm in self.arms]
        return min(counts, default=0), max(counts, default=0)

    def of_arm(self, arm: str) -> list[Run]:
        """The runs of an arm."""
        return [run for run in self.runs if run.arm == arm]

    def spread(self, arm: str, split: str, metric: str) -> Spread | None:
        """A metric over the seeds of an arm's complete runs."""
        values = [run.metric(split, metric) for run in self.of_arm(arm)]
        return Spread.of([value for value in values if value is not None])

    def ended_otherwise(self, arm: str) -> list[str]:
        """ "seed K diverged at step S" for every run without metrics, and the like."""
        return [f"seed {run.seed} {run.status}" for run in self.of_arm(arm) if not run.complete]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of results.csv: one per run and split, metrics empty where a run has none."""
        return [
            {
                "arm": run.arm,
                "seed": run.seed,
                "split": split,
                **{name: run.metric(split, name) for name in ("loss", *METRICS)},
                "status": run.status,
            }
            for run in self.runs
            for split in SPLITS
        ]


def how_lost(runs: Iterable[Run]) -> str:
    """What became of the runs that ended without a model, in a word or three."""
    kinds = {DIVERGED if run.status.startswith(DIVERGED) else FAILED for run in runs if run.lost}
    return " or ".join(sorted(kinds)) or DIVERGED


def check_split(split: str) -> None:
    """Refuse a split that does not exist."""
    if split not in SPLITS:
        raise InputError(f"{split!r} is not a split. The splits are {', '.join(SPLITS)}.")


def read_results(folder: str | Path) -> Results:
    """Read a study's folder.

    Raises:
        InputError: no study there, no run that has ended, or a file that cannot be read.
    """
    folder = Path(folder)
    question = read_question(folder)
    arms = tuple(question["arms"])
    places = [(arm, seed, run_folder(folder, arm, seed)) for arm in arms
              for seed in asked_seeds(question, arm)]  # fmt: skip
    runs = tuple(_run(arm, seed, where) for arm, seed, where in places if is_run(where))
    if not any(run.ended for run in runs):
        raise InputError(f"No run of {folder} has ended yet. Run the study first.")
    checks = (read_same_function(folder, arm) for arm in arms)
    found = tuple(check for check in checks if check is not None)
    return Results(folder, question, read_data(folder), arms, runs, found)


def ended_runs(folder: Path) -> tuple[int, int]:
    """How many runs of a study have ended, and how many it has; also while it is under way.

    Raises:
        InputError: no study there, or a file that cannot be read.
    """
    question = read_question(folder)
    places = [
        run_folder(folder, arm, seed)
        for arm in question["arms"]
        for seed in asked_seeds(question, arm)
    ]
    return sum(ended_record(place) is not None for place in places), len(places)


def read_run(folder: str | Path) -> Run:
    """Read one run by its folder, whether it belongs to a study or not.

    Raises:
        InputError: there is no run, or a file cannot be read.
    """
    folder = Path(folder)
    config = read_record(folder).get("config", {})
    return _run(str(config.get("norm", folder.parent.name)), int(config.get("seed", 0)), folder)


def write_results_csv(results: Results) -> Path:
    """Write results.csv: every number in full precision."""
    path = results.folder / RESULTS
    write_text(path, csv_text(COLUMNS, results.rows))
    return path


def _run(arm: str, seed: int, folder: Path) -> Run:
    record = read_record(folder)
    history, features = (read(folder, record) for read in (read_history, read_features))
    return Run(arm, seed, folder, record, history, features)
