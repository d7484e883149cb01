"""Carrying out the runs of a study side by side in processes."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import DataSet
from ..errors import InputError
from ..processes import expect_replaced_processes
from ..runs import RunConfig
from ..runs.same_function import answered, write_same_function
from ..training import Keeping, Progress, train
from . import same_function
from .allocator import keep_memory
from .estimate import steps_of
from .progress import Reporter, noting, run_name, watching
from .study import Study


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
    keeping: Keeping = Keeping(),  # noqa: B008 - frozen
) -> int:
    """Make the runs and the checks that are missing; return how many runs there were.

    Runs side by side are processes, each with its run's number of threads; with one worker the
    runs follow each other in this process. Results are the same. A run that diverges ends and is
    recorded; the others go on. With ``trials`` the runs are judged by validation alone: the test
    split is not read, and no model is kept. ``keeping`` is for :func:`normlab.training.train`.

    Raises:
        InputError: a run's own layer failed, or a folder cannot be written.
    """
    study.set_superseded_aside()
    pending, checks = study.pending(), _missing_checks(study, data)
    if not pending and not checks:
        return 0
    workers = max(1, min(workers, len(pending) + len(checks)))
    sizes = {run_name(arm, config.seed): steps_of(config, data) for arm, config, _ in pending}
    sizes |= {check.name: same_function.steps_for(check.reference[1], data) for check in checks}
    if reporter:
        reporter.started(len(pending), sum(sizes.values()))
    # Imported here: joblib's start costs time that a study with nothing to do should not pay.
    import joblib

    with tempfile.TemporaryDirectory(prefix="normlab-") as notes_folder:
        notes = Path(notes_folder)
        done: dict[str, int] = {}
        with watching(notes, sizes, done, reporter):
            expect_replaced_processes()
            parallel = joblib.Parallel(
                n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1
            )
            here = Path.cwd()
            # Checks first: one takes longer than a short run, and would be waited for at the end.
            tasks = itertools.chain(
                (
                    joblib.delayed(_check_one)(
                        check, data, here / study.folder, notes, os.getpid(), here
                    )
                    for check in checks
                ),
                (
                    joblib.delayed(_carry_out_one)(
                        arm,
                        config,
                        data,
                        here / folder,
                        notes,
                        os.getpid(),
                        here,
                        workers,
                        trials,
                        keeping,
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
    return [check for check in asked if not answered(study.folder, check.arm[0], check.question)]


def _carry_out_one(
    arm: str,
    config: RunConfig,
    data: DataSet,
    folder: Path,
    notes: Path,
    parent: int,
    here: Path,
    workers: int,
    trial: bool,
    keeping: Keeping,
) -> tuple[str, RunConfig, dict[str, Any] | str]:
    """In the worker (or here, with one). What a person can put right comes back as text."""
    _settle(parent, here)
    with noting(notes, arm, config.seed) as tell:
        try:
            record = train(
                config, data, folder, tell, side_by_side=workers, trial=trial, keeping=keeping
            )
            return arm, config, record
        except InputError as error:
            return arm, config, str(error)
        except Exception:
            return arm, config, f"{run_name(arm, config.seed)} failed:\n{traceback.format_exc()}"


def _check_one(
    check: _Check, data: DataSet, study: Path, notes: Path, parent: int, here: Path
) -> tuple[str, RunConfig, str | None]:
    """Likewise for a check, which has no record."""
    _settle(parent, here)
    _, config = check.reference
    with noting(notes, check.title, config.seed) as tell:
        try:
            found = same_function.compare_functions(
                check.reference,
                check.arm,
                data,
                progress=lambda step, steps: tell(Progress(1, 1, step, steps, 0.0, 0.0)),
            )
            write_same_function(study, found, check.question)
        except InputError as error:
            return check.title, config, str(error)
        except Exception:
            return check.title, config, f"{check.title} failed:\n{traceback.format_exc()}"
    return check.title, config, None


def _settle(parent: int, here: Path) -> None:
    if os.getpid() != parent:
        # Ctrl-C reaches the whole group; the parent alone decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Processes live on and may have started in another folder; layers are found from this one.
        os.chdir(here)
    keep_memory()


def _stop_workers() -> None:
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)
