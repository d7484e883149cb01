"""Carrying out the runs of a study side by side in processes."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..data import DataSet
from ..errors import InputError
from ..training import Progress, RunConfig, train
from . import same_function
from .study import Study

AROUND = 8.0
CROWDING = 1.25
CHECKED = 4.0
"""Measured on two cores: see estimate_seconds."""
_TIMED_BY = ("norm", "n", "shortcut", "batch_size", "accumulate", "optimizer", "precision",
             "device", "threads")  # fmt: skip
"""The settings on which the time of a step depends."""


@dataclass(frozen=True)
class RunProgress:
    """Where one run of the study is."""

    arm: str
    seed: int
    progress: Progress

    @property
    def name(self) -> str:
        """The run's name within its study."""
        return run_name(self.arm, self.seed)


@dataclass(frozen=True)
class _Check:
    """Is an arm the same function as a reference? Names and configurations."""

    reference: tuple[str, RunConfig]
    arm: tuple[str, RunConfig]
    question: str

    @property
    def title(self) -> str:
        return f"check of {self.arm[0]}"

    @property
    def name(self) -> str:
        return run_name(self.title, self.reference[1].seed)


class Reporter(Protocol):
    """What a study tells while it runs."""

    def started(self, runs: int, steps: int) -> None:
        """How many runs are to be made, with how many training steps in all."""

    def advanced(self, steps: int, active: list[RunProgress]) -> None:
        """Steps done in all, and the runs under way; called about twice a second."""

    def finished(self, arm: str, seed: int, record: dict[str, Any]) -> None:
        """A run ended; ``record`` is its run.json."""


def default_workers(device: str) -> int:
    """All cores that this process may use; on a GPU one run at a time."""
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def carry_out(
    study: Study,
    data: DataSet,
    workers: int,
    reporter: Reporter | None = None,
    *,
    trials: bool = False,
) -> int:
    """Make the runs and the checks that are missing; return how many runs there were.

    Runs side by side are processes, each with its run's number of threads; with one worker the
    runs follow each other in this process. Results are the same. A run that diverges ends and is
    recorded; the others go on. With ``trials`` the runs are judged by validation alone: the test
    split is not read, and no model is kept.

    Raises:
        InputError: a run's own layer failed, or a folder cannot be written.
    """
    pending, checks = study.pending(), _missing_checks(study, data)
    if not pending and not checks:
        return 0
    workers = max(1, min(workers, len(pending) + len(checks)))
    sizes = {run_name(arm, config.seed): _steps(config, data) for arm, config, _ in pending}
    sizes |= {check.name: same_function.STEPS for check in checks}
    if reporter:
        reporter.started(len(pending), sum(sizes.values()))
    # Imported here: joblib's start costs time that a study with nothing to do should not pay.
    import joblib

    with tempfile.TemporaryDirectory(prefix="normlab-") as notes_folder:
        notes = Path(notes_folder)
        done: dict[str, int] = {}
        with _watching(notes, sizes, done, reporter):
            parallel = joblib.Parallel(
                n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1
            )
            here = Path.cwd()  # workers live on, and may have been started in another folder
            # Checks first: one takes longer than a short run, and would be waited for at the end.
            tasks = itertools.chain(
                (
                    joblib.delayed(_check_one)(check, data, here / study.folder, notes, os.getpid())
                    for check in checks
                ),
                (
                    joblib.delayed(_carry_out_one)(
                        arm, config, data, here / folder, notes, os.getpid(), workers, trials
                    )
                    for arm, config, folder in pending
                ),
            )
            try:
                for arm, config, record in parallel(tasks):
                    if isinstance(record, str):
                        raise InputError(record)
                    name = run_name(arm, config.seed)
                    done[name] = sizes[name]
                    if reporter and record is not None:
                        reporter.finished(arm, config.seed, record)
            except BaseException:
                if workers > 1:
                    _stop_workers()
                raise
    return len(pending)


def _missing_checks(study: Study, data: DataSet) -> list[_Check]:
    """What ``same-function`` was asked of and was not answered yet."""
    arms = study.plan.arms
    asked = [
        _Check(
            (reference, arms[reference]),
            (arm, arms[arm]),
            same_function.question(arms[reference], arms[arm], data),
        )
        for reference, arm in study.plan.twins
    ]
    return [
        check
        for check in asked
        if not same_function.made(study.folder, check.arm[0], check.question)
    ]


def run_name(arm: str, seed: int) -> str:
    """A run's name within its study."""
    return f"{arm} seed {seed}"


def _steps(config: RunConfig, data: DataSet) -> int:
    return config.epochs * config.updates_per_epoch(len(data.splits["train"]))


def _carry_out_one(
    arm: str,
    config: RunConfig,
    data: DataSet,
    folder: Path,
    notes: Path,
    parent: int,
    workers: int,
    trial: bool,
) -> tuple[str, RunConfig, dict[str, Any] | str]:
    """In the worker (or here, with one). What a person can put right comes back as text."""
    _settle(parent)
    with _noting(notes, arm, config.seed) as tell:
        try:
            record = train(config, data, folder, tell, side_by_side=workers, trial=trial)
            return arm, config, record
        except InputError as error:
            return arm, config, str(error)
        except Exception:
            return arm, config, f"{run_name(arm, config.seed)} failed:\n{traceback.format_exc()}"


def _check_one(
    check: _Check, data: DataSet, study: Path, notes: Path, parent: int
) -> tuple[str, RunConfig, str | None]:
    """Likewise for a check, which has no record."""
    _settle(parent)
    _, config = check.reference
    with _noting(notes, check.title, config.seed) as tell:
        try:
            found = same_function.compare_functions(
                check.reference,
                check.arm,
                data,
                progress=lambda step, steps: tell(Progress(1, 1, step, steps, 0.0, 0.0)),
            )
            same_function.write_same_function(study, found, check.question)
        except InputError as error:
            return check.title, config, str(error)
        except Exception:
            return check.title, config, f"{check.title} failed:\n{traceback.format_exc()}"
    return check.title, config, None


def _settle(parent: int) -> None:
    if os.getpid() != parent:
        # Ctrl-C reaches the whole group; the parent alone decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()


@contextmanager
def _noting(notes: Path, name: str, seed: int) -> Iterator[Callable[[Progress], None]]:
    """Notes for the parent on how far this is, gone at the end."""
    note = notes / f"{name.replace(':', ',')}~{seed}.json"

    def tell(progress: Progress) -> None:
        content = {"arm": name, "seed": seed, "progress": asdict(progress)}
        aside = note.with_suffix(".part")
        with suppress(OSError):  # a note is a courtesy; a full disk is reported by the run itself
            aside.write_text(json.dumps(content), encoding="utf-8")
            aside.replace(note)

    try:
        yield tell
    finally:
        with suppress(OSError):
            note.unlink()


def keep_memory() -> None:
    """Ask glibc to keep freed blocks: without this every large tensor is given back to the
    system and faults its pages in again on every step. Does nothing elsewhere."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        mmap_threshold, trim_threshold = -3, -1
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 1 << 30)


@contextmanager
def _watching(
    notes: Path, sizes: dict[str, int], done: dict[str, int], reporter: Reporter | None
) -> Iterator[None]:
    """Read the workers' notes in a thread and hand them to the reporter."""
    if reporter is None:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            active = _read_notes(notes)
            running = {run.name: run.progress.step for run in active}
            total = sum(done.values()) + sum(
                step for name, step in running.items() if name not in done
            )
            reporter.advanced(min(total, sum(sizes.values())), active)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _read_notes(notes: Path) -> list[RunProgress]:
    found = []
    for path in sorted(notes.glob("*.json")):
        with suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            found.append(
                RunProgress(content["arm"], content["seed"], Progress(**content["progress"]))
            )
    return found


def _stop_workers() -> None:
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def estimate_seconds(
    study: Study, data: DataSet, workers: int, timed: dict[str, float] | None = None
) -> float:
    """Time for the runs that are missing, from a few timed steps of every arm.

    Training steps are timed one arm after the other in this process; evaluation is counted as a
    third of a training step an image, a step of the check ``same-function`` as ``CHECKED`` training
    steps of each arm. Start and report take ``AROUND`` seconds, and processes side by side on CPU
    slow each other by ``CROWDING``; a machine busy with other work takes longer. ``timed`` keeps
    what was timed, for studies of the same networks.
    """
    pending = study.pending()
    timed = {} if timed is None else timed
    step_seconds = {}
    for arm in dict.fromkeys(arm for arm, _, _ in pending):
        config = study.plan.arms[arm]
        kind = str([getattr(config, name) for name in _TIMED_BY])
        if kind not in timed:
            timed[kind] = _time_step(config, data)
        step_seconds[arm] = timed[kind]
    checked = sum(
        same_function.STEPS * CHECKED * step_seconds.get(arm, 0.0)
        for pair in study.plan.twins
        for arm in pair
    )
    sizes = {name: len(split) for name, split in data.splits.items()}
    total = 0.0
    for arm, config, _ in pending:
        per_image = step_seconds[arm] / min(config.batch_size, sizes["train"])
        trained = config.epochs * sizes["train"]
        if config.budget == "updates":
            trained = _steps(config, data) * config.images_per_update
        evaluated = config.epochs * sizes["val"] + sum(sizes.values())
        total += per_image * (trained + evaluated / 3)
    if not pending:
        return 0.0
    side_by_side = max(1, min(workers, len(pending)))
    crowded = CROWDING if side_by_side > 1 and pending[0][1].device == "cpu" else 1.0
    return AROUND + crowded * (total + checked) / side_by_side


def _time_step(config: RunConfig, data: DataSet) -> float:
    import torch

    from ..data import DeviceSplit
    from ..training import build, train_step
    from ..training.optimizer import LayerAwareOptimizer

    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    state = torch.get_rng_state()
    try:
        _, model, _ = build(config, data)
        optimizer = LayerAwareOptimizer(model, config)
        split = DeviceSplit(data, "train", config.device)
        rows = range(min(config.batch_size, len(data.splits["train"])))
        batch = split.batch(rows)
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 6 and (len(times) < 2 or time.perf_counter() - began < 1.0):
            started = time.perf_counter()
            loss, _ = train_step(model, optimizer, [batch], config)
            float(loss)  # wait for a GPU
            times.append(time.perf_counter() - started)
        return min(times[1:])
    except ValueError as error:
        raise InputError(f"arm {config.norm}: {error}") from error
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
