"""Giving jobs to processes, and outliving their deaths."""

from __future__ import annotations

import atexit
import itertools
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from .. import stopping
from ..errors import InputError
from .causes import Death, death, kills_for_memory
from .messages import packed, receive
from .worker import telling

TRIES = 3
"""How often a job is tried whose process dies."""
SAVE_SECONDS = 30.0
"""How long processes that were asked to save what they have may take."""
_POLL = 0.1
_LAST = ("done", "raised", "stopped", "ended")
"""What a process says last of a job."""
_BOTH_STOPPED = 1.0
"""A signal to the whole group reaches this process within this time."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_AT_START = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "GOMP_", "MALLOC_", "LD_", "DYLD_",
             "CUDA_", "CUBLAS_", "NVIDIA_", "PYTORCH_", "PYTHON", "LC_", "LANG")  # fmt: skip
"""How variables begin that are read when a process starts. It takes over all others with a job."""
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from normlab.processes.worker import serve; serve(int(sys.argv[2]), sys.argv[3] == 'tied')"
)


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


def in_processes(
    function: Callable[..., Any],
    jobs: Iterable[tuple[Any, ...]],
    workers: int,
    *,
    saves: bool = False,
    noted: Callable[[int, Any], None] | None = None,
    died: Callable[[int, Death, bool], None] | None = None,
) -> Iterator[Outcome]:
    """Call a function with each of these arguments in processes of their own, side by side.

    With one worker the jobs follow each other in this process. The function must be importable by
    its module and name. Outcomes come as jobs end, in no order; none is lost by another's error.

    Args:
        function: what does a job.
        jobs: its arguments, for each job; taken as processes become free.
        workers: processes side by side.
        saves: whether a job that is asked to stop (see :mod:`normlab.stopping`) saves what it has,
            and is worth waiting for. Others are ended at once.
        noted: is given a job's number and what it said with :func:`.tell`.
        died: is told of a job whose process died, and whether the job is tried again.

    Raises:
        Stopped: a signal came, and all processes have ended.
    """
    if workers <= 1:
        yield from _here(function, jobs, noted)
        return
    work = _Work(function, jobs, workers, saves, noted, died)
    with stopping.at_once(work.kill):
        try:
            yield from work.outcomes()
        except KeyboardInterrupt as interrupt:
            # Where signals are not handled by us, this is the first that we hear of one.
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


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


class _Process:
    """A process of :mod:`.worker`, as seen from here."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.kills = kills_for_memory()
        self.events: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()
        self.job: int | None = None
        self.began = self.ended = False
        tied = threading.current_thread() is threading.main_thread()
        arguments = [json.dumps(_path()), str(os.getpid()), "tied" if tied else "free"]
        # -P: neither the working folder nor anything in it is looked at before the path is set.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.results = cast(BinaryIO, self.process.stdout)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(Exception):
            while True:
                message = receive(self.results)
                self.events.put((self, message))
        with suppress(Exception):
            self.process.kill()  # it may have closed its output only
        self.process.wait()
        with suppress(OSError):
            self.results.close()
        self.ended = True
        self.events.put((self, ("ended",)))

    def give(
        self, number: int, environment: dict[str, str], function: bytes, arguments: bytes
    ) -> None:
        self.job, self.began = number, False
        try:
            self._send("job", number, _path(), str(Path.cwd()), environment, function, arguments)
        except BaseException:
            self.kill()  # half a message may be in the pipe
            raise

    def ask_to_stop(self, number: int) -> None:
        self._send("stop", number)

    def _send(self, *message: Any) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it has died, and its end says so
            self.process.stdin.write(packed(message))
            self.process.stdin.flush()

    def kill(self) -> None:
        with suppress(OSError):
            self.process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        self.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):
            self.process.stdin.close()


_idle: list[_Process] = []
_lock = threading.Lock()


def _path() -> list[str]:
    return [entry for entry in sys.path if isinstance(entry, str)]


def _environment(workers: int) -> dict[str, str]:
    """Of the processes: native libraries share the processors, unless told otherwise."""
    share = str(max(1, cores() // workers))
    return {**dict.fromkeys(_THREADS, share), **os.environ}


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k.startswith(_AT_START)}


def _taken(environment: dict[str, str]) -> _Process:
    """A process that waits for work, or a new one."""
    with _lock:
        while _idle:
            process = _idle.pop()
            same = _read_at_start(process.environment) == _read_at_start(environment)
            if same and not process.ended:
                process.events = queue.SimpleQueue()
                return process
            process.close()
    return _Process(environment)


def _end_idle() -> None:
    with _lock:
        while _idle:
            _idle.pop().close()


atexit.register(_end_idle)


class _Work:
    """Jobs under way."""

    def __init__(
        self,
        function: Callable[..., Any],
        jobs: Iterable[tuple[Any, ...]],
        workers: int,
        saves: bool,
        noted: Callable[[int, Any], None] | None,
        died: Callable[[int, Death, bool], None] | None,
    ) -> None:
        self.function = pickle.dumps(function)
        self.source = iter(enumerate(jobs))
        self.workers, self.saves, self.noted, self.died = workers, saves, noted, died
        self.environment = _environment(workers)
        self.events: queue.SimpleQueue[tuple[_Process, Any]] = queue.SimpleQueue()
        self.busy: list[_Process] = []
        self.again: deque[int] = deque()
        self.arguments: dict[int, bytes] = {}
        self.deaths: dict[int, int] = {}

    def outcomes(self) -> Iterator[Outcome]:
        while True:
            self._heed()
            self._fill()
            if not self.busy:
                return
            process, message = self._event()
            if process not in self.busy:
                continue
            outcome = self._after(process, message)
            if outcome is not None:
                yield outcome

    def _fill(self) -> None:
        while len(self.busy) < self.workers and (number := self._next()) is not None:
            process = _taken(self.environment)
            process.events = self.events
            self.busy.append(process)
            if process.ended:  # in between
                self.events.put((process, ("ended",)))
            process.give(number, self.environment, self.function, self.arguments[number])

    def _next(self) -> int | None:
        if self.again:
            return self.again.popleft()
        following = next(self.source, None)
        if following is None:
            return None
        number, arguments = following
        self.arguments[number] = pickle.dumps(arguments)
        return number

    def _event(self) -> tuple[_Process, Any]:
        while True:
            with suppress(queue.Empty):
                return self.events.get(timeout=_POLL)
            self._heed()

    def _heed(self) -> None:
        number = stopping.requested()
        if number is not None:
            self.end_well(number)
            raise stopping.Stopped(number)

    def _after(self, process: _Process, message: tuple[Any, ...]) -> Outcome | None:
        kind, *rest = message
        if kind == "began":
            process.began = True
            return None
        number = process.job
        assert number is not None
        if kind == "note":
            if self.noted is not None:
                self.noted(number, rest[1])
            return None
        self.busy.remove(process)
        if kind in ("ended", "stopped"):
            return self._lost(process, number, kind)
        self._release(process)
        del self.arguments[number]
        if kind == "raised":
            return Outcome(number, error=rest[1], traceback=rest[2])
        return Outcome(number, rest[1])

    def _lost(self, process: _Process, number: int, kind: str) -> Outcome | None:
        """A process died with its job."""
        if kind == "stopped":
            # Someone asked this process to end. If it was the whole group, we hear of it now.
            until = time.monotonic() + _BOTH_STOPPED
            while stopping.requested() is None and time.monotonic() < until:
                time.sleep(_POLL / 10)
            found = Death("ended by SIGTERM")
        else:
            found = death(process.process.returncode, process.kills)
        process.close()
        if stopping.requested() is not None:
            return None
        if not process.began and process.process.returncode == 0:
            self.again.append(number)  # it had waited for long and ended as it was given the job
            return None
        self.deaths[number] = self.deaths.get(number, 0) + 1
        again = self.deaths[number] < TRIES
        if self.died is not None:
            self.died(number, found, again)
        if again:
            self.again.append(number)
            return None
        del self.arguments[number]
        return Outcome(number, error=DiedError(found, self.deaths[number]))

    def _release(self, process: _Process) -> None:
        process.job = None
        process.events = queue.SimpleQueue()
        with _lock:
            _idle.append(process)

    def end_well(self, number: int) -> None:
        """Let every process save what it has, then end; one that takes too long is ended."""
        if not self.saves:
            return
        for process in self.busy:
            process.ask_to_stop(number)
        until = time.monotonic() + SAVE_SECONDS
        while self.busy and time.monotonic() < until:
            with suppress(queue.Empty):
                process, message = self.events.get(timeout=_POLL)
                if process in self.busy and message[0] in _LAST:
                    self.busy.remove(process)
                    process.close()

    def kill(self) -> None:
        """End all processes at once."""
        for process in [*self.busy, *_idle]:
            process.kill()

    def close(self) -> None:
        """End what is still busy, after an error or where nobody wants the outcomes."""
        for process in self.busy:
            process.kill()
        for process in self.busy:
            process.close()
        self.busy = []
