"""What a machine of a cluster does with a job: a process of its own does it, as at home.

So a job there has all that one has here: a process whose death has a cause, notes on the way, and
an end that lets it save. Messages are passed on as they are.
"""

from __future__ import annotations

import pickle
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .causes import Death
from .engine import LAST, Events, Message
from .own import Process, Surroundings, search_path

Batch: TypeAlias = list[Message]
_POLL = 0.1
_BATCH_SECONDS = 0.5
"""Notes are gathered for so long, since each batch is a message over the network."""


@dataclass(frozen=True)
class Job:
    """A job as it travels.

    Attributes:
        number: of the job.
        function, arguments: pickles.
        threads: processor cores that it asks for.
        path, here: where whoever gives it searches for modules, and its working folder.
    """

    number: int
    function: bytes
    arguments: bytes
    threads: int
    path: tuple[str, ...]
    here: str

    @classmethod
    def of_this_process(cls, number: int, function: bytes, arguments: bytes, threads: int) -> Job:
        """A job that is given from here."""
        return cls(number, function, arguments, threads, tuple(search_path()), str(Path.cwd()))

    def surroundings(self) -> Surroundings:
        """Those of this machine, in which modules are also searched for where the giver has them.

        The environment is this machine's: paths, devices and accounts differ."""
        own = Surroundings.of_this_process(self.threads)
        here = self.here if Path(self.here).is_dir() else own.here
        more = [entry for entry in self.path if entry not in own.path]
        return Surroundings([*own.path, *more], here, own.environment)


class Host:
    """Does one job."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._stop: int | None = None
        self._lock = threading.Lock()

    def batches(self, job: Job, wanted: Callable[[], bool] = lambda: True) -> Iterator[Batch]:
        """What is said of the job, until its end. The first batch is empty: the job has a machine.

        Args:
            job: to be done.
            wanted: is asked all the time; the job is ended at once when it is no longer wanted, and
                nothing more is said.
        """
        yield []
        events: Events = queue.SimpleQueue()
        process = Process.taken(job.surroundings(), events)
        done = False
        try:
            with self._lock:
                self._process = process
                process.give(job.number, job.function, job.arguments)
                if self._stop is not None:
                    process.ask_to_stop(self._stop)
            batch: Batch = []
            sent = time.monotonic()
            while wanted():
                try:
                    _, message = events.get(timeout=_POLL)
                    batch.append(message)
                except queue.Empty:
                    message = ("",)
                if message[0] == "began":
                    process.began = True
                if message[0] in LAST:
                    done = message[0] in ("done", "raised")
                    if message[0] == "ended":
                        batch[-1] = ended(job.number, _here(process.death()))
                    break
                if batch and time.monotonic() - sent >= _BATCH_SECONDS:
                    yield batch
                    batch, sent = [], time.monotonic()
            else:
                return
            with self._lock:
                self._process = None
            yield batch
        finally:
            with self._lock:
                self._process = None
            if done:
                process.release()
            else:
                process.close()

    def ask_to_stop(self, number: int) -> None:
        """Ask the job to save what it has; also before it has begun."""
        with self._lock:
            self._stop = number
            if self._process is not None:
                self._process.ask_to_stop(number)


def ended(number: int, death: Death | None) -> Message:
    """The last message of a job whose process died; None if the job had not begun."""
    return "ended", number, pickle.dumps(death)


def _here(death: Death | None) -> Death | None:
    """A death, and on which machine."""
    if death is None:
        return None
    where = f"on {socket.gethostname()!r}"
    return Death(death.how, f"{where}; {death.why}" if death.why else where)
