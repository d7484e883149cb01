"""Carrying out the runs of a study side by side in processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import stopping
from ..data import DataSet
from ..errors import InputError, told
from ..files import write_text
from ..locks import alone_in
from ..processes import Death, DiedError, Outcome, cores, in_processes, tell
from ..runs import RunConfig
from ..runs.layout import ERRORS
from ..runs.same_function import answered, write_same_function
from ..training import Keeping, Progress, train, write_failed
from . import same_function
from .allocator import keep_memory
from .cluster import Asked, StudyCluster
from .estimate import steps_of
from .progress import Reporter, Standings, run_name
from .study import Study


@dataclass(frozen=True)
class _Run:
    """A run to be made. The process that makes it is given this."""

    arm: str
    config: RunConfig
    data: DataSet
    folder: Path
    side_by_side: int
    trial: bool
    keeping: Keeping
    kernels_note: str

    @property
    def title(self) -> str:
        return self.arm

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def steps(self) -> int:
        return steps_of(self.config, self.data)

    def carry_out(self) -> dict[str, Any]:
        record = train(
            self.config,
            self.data,
            self.folder,
            tell,
            side_by_side=self.side_by_side,
            trial=self.trial,
            keeping=self.keeping,
            kernels_note=self.kernels_note,
        )
        with suppress(OSError):
            (self.folder / ERRORS).unlink(missing_ok=True)
        return record

    def carry_out_alone(self) -> dict[str, Any]:
        """On one of many machines. Whoever asked may have lost sight of another one that still
        works on this run, so the run's folder has a lock of its own."""

        def say(text: str) -> None:
            tell(Progress(1, self.config.epochs, 0, self.steps, 0.0, 0.0, (text,)))

        with alone_in(self.folder, say):
            return self.carry_out()

    def fail(self, died: DiedError) -> dict[str, Any] | None:
        return write_failed(self.config, self.data, self.folder, str(died), self.side_by_side)


@dataclass(frozen=True)
class _Check:
    """Is an arm the same function as a reference? Names and configurations."""

    reference: tuple[str, RunConfig]
    arm: tuple[str, RunConfig]
    question: str
    data: DataSet
    study: Path

    @property
    def title(self) -> str:
        return f"check of {self.arm[0]}"

    @property
    def folder(self) -> Path:
        return self.study

    @property
    def seed(self) -> int:
        return self.reference[1].seed

    @property
    def steps(self) -> int:
        return same_function.steps_for(self.reference[1], self.data)

    def carry_out(self) -> None:
        def progress(step: int, steps: int) -> None:
            number = stopping.requested()
            if number is not None:
                raise stopping.Stopped(number)  # nothing of a check is worth saving
            tell(Progress(1, 1, step, steps, 0.0, 0.0))

        found = same_function.compare_functions(
            self.reference, self.arm, self.data, progress=progress
        )
        write_same_function(self.study, found, self.question)

    def carry_out_alone(self) -> None:
        self.carry_out()  # which writes one file, at its end

    def fail(self, died: DiedError) -> dict[str, Any] | None:
        raise InputError(f"The {self.title} has no answer: its process was {died}.")


_Task = _Run | _Check


def default_workers(device: str) -> int:
    """All cores that this process may use; on a GPU one run at a time."""
    return cores() if device == "cpu" else 1


def carry_out(
    study: Study,
    data: DataSet,
    workers: int,
    reporter: Reporter | None = None,
    *,
    trials: bool = False,
    keeping: Keeping = Keeping(),  # noqa: B008 - frozen
    cluster: StudyCluster | None = None,
) -> int:
    """Make the runs and the checks that are missing; return how many runs there were.

    Runs side by side are processes, each with its run's number of threads; with one worker the
    runs follow each other in this process. Results are the same. A run that diverges ends and is
    recorded. A run whose process dies is tried again from its last checkpoint, and recorded as
    failed when it has died three times. In all cases the others go on. With ``trials`` the runs are
    judged by validation alone: the test split is not read, and no model is kept. ``keeping`` is for
    :func:`normlab.training.train`. With a ``cluster`` the processes are on its machines, and
    ``workers`` is how many runs it makes side by side.

    Raises:
        InputError: a machine of the cluster has not what runs need, and none was made; or runs that
            could not be made, with the reasons, where the others have been made.
        Stopped: a signal came; the runs under way have been saved.
    """
    study.set_superseded_aside()
    sharing = workers if cluster is None else cluster.side_by_side(workers)
    tasks = _missing(study, data, sharing, trials, keeping)
    runs = sum(isinstance(task, _Run) for task in tasks)
    if not tasks:
        return 0
    sizes = {_name(task): task.steps for task in tasks}
    if reporter:
        reporter.started(runs, sum(sizes.values()))
    standings = Standings(sizes, reporter)

    def noted(number: int, progress: Progress) -> None:
        standings.at(tasks[number].title, tasks[number].seed, progress)

    def died(number: int, death: Death, again: bool) -> None:
        name = _name(tasks[number])
        standings.interrupted(name)
        if reporter and again:
            reporter.warned(
                f"The process of {name} was {death}. It is tried again from its last checkpoint."
            )

    problems = []
    with stopping.deferred(), standings.told():
        if cluster is not None:
            cluster.check()
        outcomes = in_processes(
            _carry_out_one,
            [(task, None if cluster is None else cluster.asked) for task in tasks],
            min(workers, len(tasks)),
            saves=True,
            noted=noted,
            died=died,
            warned=reporter.warned if reporter else None,
            engine=None if cluster is None else cluster.engine,
        )
        for outcome in outcomes:
            task = tasks[outcome.job]
            standings.ended(_name(task))
            try:
                record = _record_of(task, outcome)
            except InputError as error:
                problems.append(str(error))
                if reporter:
                    reporter.warned(str(error))
                continue
            if reporter and record is not None:
                reporter.finished(task.title, task.seed, record)
    if problems:
        raise InputError(_said(problems))
    return runs


def _missing(
    study: Study, data: DataSet, sharing: int, trials: bool, keeping: Keeping
) -> list[_Task]:
    """Checks first: one takes longer than a short run, and would be waited for at the end."""
    here, note = Path.cwd(), study.plan.kernels_note
    checks, pending = _missing_checks(study, data, here), study.pending()
    side_by_side = max(1, min(sharing, len(pending) + len(checks)))
    return [
        *checks,
        *(
            _Run(arm, config, data, here / folder, side_by_side, trials, keeping, note)
            for arm, config, folder in pending
        ),
    ]


def _missing_checks(study: Study, data: DataSet, here: Path) -> list[_Check]:
    """What ``same-function`` was asked of and was not answered yet."""
    arms = study.plan.arms
    asked = [
        _Check(
            (reference, arms[reference]),
            (arm, arms[arm]),
            same_function.question(arms[reference], arms[arm], data),
            data,
            here / study.folder,
        )
        for reference, arm in study.plan.twins
    ]
    return [check for check in asked if not answered(study.folder, check.arm[0], check.question)]


def _carry_out_one(task: _Task, asked: Asked | None = None) -> dict[str, Any] | None:
    """In the process of a run (or here, with one worker)."""
    keep_memory()
    if asked is None:
        return task.carry_out()
    asked.check()  # this machine may have come later
    return task.carry_out_alone()


def _name(task: _Task) -> str:
    return run_name(task.title, task.seed)


def _record_of(task: _Task, outcome: Outcome) -> dict[str, Any] | None:
    """What run.json says of a run that has ended, in whatever way.

    Raises:
        InputError: it could not be made.
    """
    error = outcome.error
    if isinstance(error, DiedError):
        return task.fail(error)
    if isinstance(error, InputError):
        raise error
    if error is not None:
        raise InputError(_explained(task, error, outcome.traceback)) from error
    record: dict[str, Any] | None = outcome.value
    return record


def _explained(task: _Task, error: Exception, traceback: str) -> str:
    """An error that nobody foresaw, in a sentence; where it came from goes into a file."""
    name = _name(task)
    if isinstance(error, MemoryError):
        return f"{name} ran out of memory. Use fewer --workers or a smaller --batch-size."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{name} failed: {where}{error.strerror or error}."
    kept = ""
    with suppress(InputError, OSError):
        write_text(task.folder / ERRORS, traceback)
        kept = f" {task.folder / ERRORS} has the details."
    return f"{name} failed: {told(error)}.{kept}"


def _said(problems: Sequence[str]) -> str:
    """What could not be made, in one message."""
    if len(problems) == 1:
        return problems[0]
    listed = "\n".join(f"- {problem}" for problem in problems)
    return f"{len(problems)} runs could not be made, the others are complete:\n{listed}"
