"""Giving jobs to processes, and outliving their deaths."""

from __future__ import annotations

import itertools
import pickle
import queue
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import stopping
from ..errors import InputError
from .causes import Death
from .engine import LAST, Engine, Events, Message, Worker
from .own import OwnProcesses
from .worker import telling

TRIES = 3
"""How often a job is tried whose process dies."""
LOSSES = 10
"""How often one is tried that is lost with its machine, as at a batch system's time limit."""
SAVE_SECONDS = 30.0
"""How long processes that were asked to save what they have may take."""
_POLL = 0.1
LOOK_SECONDS = 10.0
"""An engine from which nothing was heard for so long is asked for trouble."""
_BOTH_STOPPED = 1.0
"""A signal to the whole group reaches this process within this time."""


class DiedError(Exception):
    """The process that did a job died, as often as the job was tried.

    Attributes:
        death: the last one.
        tries: how many.
    """

    def __init__(self, died: Death, tries: int) -> None:
        super().__init__(died, tries)
        self.death, self.tries = died, tries

    def __str__(self) -> str:
        times = {1: "", 2: " twice", 3: " three times"}.get(self.tries, f" {self.tries} times")
        why = f" ({self.death.why})" if self.death.why else ""
        return f"{self.death.how}{times}{why}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: its number, in the order in which jobs were given.
        value: what the function returned.
        error: what it raised instead; a :class:`DiedError` if its process died each time.
        traceback: of the error, as text.
    """

    job: int
    value: Any = None
    error: Exception | None = None
    traceback: str = ""

    def get(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            if self.traceback and self.error.__traceback__ is None:
                self.error.add_note(self.traceback)
            raise self.error
        return self.value


def outcome_of(message: Message) -> Outcome:
    """From the last message of a job that returned or raised."""
    kind, number, content = message
    found = pickle.loads(content)
    if kind == "raised":
        return Outcome(number, error=found[0], traceback=found[1])
    return Outcome(number, *found)


def in_processes(
    function: Callable[..., Any],
    jobs: Iterable[tuple[Any, ...]],
    workers: int,
    *,
    saves: bool = False,
    noted: Callable[[int, Any], None] | None = None,
    died: Callable[[int, Death, bool], None] | None = None,
    warned: Callable[[str], None] | None = None,
    engine: Engine | None = None,
) -> Iterator[Outcome]:
    """Call a function with each of these arguments in processes of their own, side by side.

    With one worker and no engine the jobs follow each other in this process. The function must be
    importable by its module and name. Outcomes come as jobs end, in no order; none is lost by
    another's error.

    Args:
        function: what does a job.
        jobs: its arguments, for each job; taken as processes become free.
        workers: processes side by side.
        saves: whether a job that is asked to stop (see :mod:`normlab.stopping`) saves what it has,
            and is worth waiting for. Others are ended at once.
        noted: is given a job's number and what it said with :func:`.tell`.
        died: is told of a job whose process died, and whether the job is tried again.
        warned: is told a sentence if something keeps jobs from being done for a while.
        engine: where the processes are; it then says how many, and ``workers`` does not count.

    Raises:
        Stopped: a signal came, and all processes have ended.
        InputError: the engine is gone.
    """
    if engine is None and workers <= 1:
        yield from _here(function, jobs, noted)
        return
    work = _Work(function, jobs, engine or OwnProcesses(workers), saves, noted, died, warned)
    with stopping.at_once(work.kill):
        try:
            yield from work.outcomes()
        except KeyboardInterrupt as interrupt:
            # Stopped; or, where signals are not handled by us, the first that we hear of one.
            work.end_well(getattr(interrupt, "signal", signal.SIGINT))
            raise
        finally:
            work.close()


def as_they_end(
    function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[Any]:
    """What a function returns for each of these arguments, in no order; see :func:`in_processes`.

    Raises:
        InputError: the process of a job died each time.
        Exception: what the function raised.
    """
    return (_value(outcome) for outcome in in_processes(function, jobs, workers))


def in_turn(
    function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[Any]:
    """Likewise, in the order of the arguments."""
    early: dict[int, Any] = {}
    awaited = itertools.count()
    following = next(awaited)
    for outcome in in_processes(function, jobs, workers):
        early[outcome.job] = _value(outcome)
        while following in early:
            yield early.pop(following)
            following = next(awaited)


def _value(outcome: Outcome) -> Any:
    try:
        return outcome.get()
    except DiedError as died:
        raise InputError(
            f"The work could not be done: a process that does a part of it was {died}. Use fewer "
            "--workers if memory is short."
        ) from died


def _here(
    function: Callable[..., Any],
    jobs: Iterable[tuple[Any, ...]],
    noted: Callable[[int, Any], None] | None,
) -> Iterator[Outcome]:
    for number, arguments in enumerate(jobs):
        try:
            with telling(partial(noted, number) if noted else None):
                value = function(*arguments)
        except Exception as error:
            yield Outcome(number, error=error, traceback=traceback.format_exc())
        else:
            yield Outcome(number, value)


class _Work:
    """Jobs under way."""

    def __init__(
        self,
        function: Callable[..., Any],
        jobs: Iterable[tuple[Any, ...]],
        engine: Engine,
        saves: bool,
        noted: Callable[[int, Any], None] | None,
        died: Callable[[int, Death, bool], None] | None,
        warned: Callable[[str], None] | None,
    ) -> None:
        self.function = pickle.dumps(function)
        self.source = iter(enumerate(jobs))
        self.engine, self.saves, self.noted, self.died = engine, saves, noted, died
        self.warned, self.trouble = warned, ""
        self.events: Events = queue.SimpleQueue()
        self.busy: list[Worker] = []
        self.again: deque[int] = deque()
        self.arguments: dict[int, bytes] = {}
        self.deaths: dict[int, list[Death]] = {}

    def outcomes(self) -> Iterator[Outcome]:
        while True:
            self._heed()
            self._fill()
            if not self.busy:
                return
            worker, message = self._event()
            if worker not in self.busy:
                continue
            outcome = self._after(worker, message)
            if outcome is not None:
                yield outcome

    def _fill(self) -> None:
        room = self.engine.at_once() - len(self.busy)
        while room > 0 and (number := self._next()) is not None:
            worker = self.engine.worker(self.events)
            self.busy.append(worker)
            worker.give(number, self.function, self.arguments[number])
            room -= 1

    def _next(self) -> int | None:
        if self.again:
            return self.again.popleft()
        following = next(self.source, None)
        if following is None:
            return None
        number, arguments = following
        self.arguments[number] = pickle.dumps(arguments)
        return number

    def _event(self) -> tuple[Worker, Message]:
        look = time.monotonic() + LOOK_SECONDS
        while True:
            with suppress(queue.Empty):
                return self.events.get(timeout=_POLL)
            self._heed()
            if time.monotonic() >= look:
                self._look()
                look = time.monotonic() + LOOK_SECONDS

    def _look(self) -> None:
        trouble = self.engine.trouble() or ""
        if trouble and trouble != self.trouble and self.warned is not None:
            self.warned(trouble)
        self.trouble = trouble

    def _heed(self) -> None:
        number = stopping.requested()
        if number is not None:
            raise stopping.Stopped(number)

    def _after(self, worker: Worker, message: Message) -> Outcome | None:
        kind, *rest = message
        if kind == "began":
            worker.began = True
            return None
        number = worker.job
        assert number is not None
        if kind == "note":
            if self.noted is not None:
                self.noted(number, *pickle.loads(rest[1]))
            return None
        self.busy.remove(worker)
        if kind in ("ended", "stopped"):
            return self._lost(worker, number, kind)
        worker.release()
        del self.arguments[number]
        return outcome_of(message)

    def _lost(self, worker: Worker, number: int, kind: str) -> Outcome | None:
        """A process died with its job."""
        if kind == "stopped":
            # Someone asked this process to end. If it was the whole group, we hear of it now.
            until = time.monotonic() + _BOTH_STOPPED
            while stopping.requested() is None and time.monotonic() < until:
                time.sleep(_POLL / 10)
            found: Death | None = Death("ended by SIGTERM")
        else:
            found = worker.death()
        worker.close()
        if stopping.requested() is not None:
            return None
        if found is None:
            self.again.append(number)
            return None
        deaths = self.deaths.setdefault(number, [])
        deaths.append(found)
        losses = sum(one.blameless for one in deaths)
        again = len(deaths) - losses < TRIES and losses < LOSSES
        if self.died is not None:
            self.died(number, found, again)
        if again:
            self.again.append(number)
            return None
        del self.arguments[number]
        return Outcome(number, error=DiedError(found, len(deaths)))

    def end_well(self, number: int) -> None:
        """Let every job save what it has, then end; one that takes too long is ended."""
        if not self.saves:
            return
        for worker in self.busy:
            worker.ask_to_stop(number)
        until = time.monotonic() + SAVE_SECONDS
        while self.busy and time.monotonic() < until:
            with suppress(queue.Empty):
                worker, message = self.events.get(timeout=_POLL)
                if worker in self.busy and message[0] in LAST:
                    self.busy.remove(worker)
                    worker.close()

    def kill(self) -> None:
        """End all jobs at once."""
        for worker in self.busy:
            worker.kill()

    def close(self) -> None:
        """End what is still busy, after an error or where nobody wants the outcomes."""
        for worker in self.busy:
            worker.kill()
        for worker in self.busy:
            worker.close()
        self.busy = []
