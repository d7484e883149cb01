"""Jobs on the machines of a cluster: what all kinds of clusters have in common."""

from __future__ import annotations

import pickle
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from .. import stopping
from ..errors import InputError
from .causes import Death
from .engine import LAST, Engine, Events, Message, Worker
from .hosting import Batch, ended
from .pool import Outcome, outcome_of

_POLL = 0.1
_MODULES = {"ray": "ray", "dask": "distributed"}
"""Kind of a cluster to the package that speaks to it."""


@dataclass(frozen=True)
class Needs:
    """What a job asks of a cluster.

    Attributes:
        threads: processor cores.
        gpu: whether it needs a GPU, which it then has alone.
        at_once: the most jobs side by side; None for as many as the cluster takes.
    """

    threads: int = 1
    gpu: bool = False
    at_once: int | None = None


class Cluster(Engine, Protocol):
    """Machines that do jobs.

    Attributes:
        name: such as "the Dask cluster at tcp://10.0.0.5:8786".
    """

    name: str

    def machines(self) -> list[str]:
        """One name for each machine that is there now, as :meth:`worker_on` takes it."""

    def slots(self) -> int:
        """How many jobs the machines that are there now do side by side."""

    def worker_on(self, machine: str, events: Events) -> Worker:
        """One on this machine, whether or not it is busy otherwise."""

    def close(self) -> None:
        """Leave the cluster. Jobs under way are ended."""


class Remote:
    """What all workers on other machines share: messages come in batches.

    ``lost`` says what it means that nothing more will come.
    """

    def __init__(self, events: Events, lost: Death) -> None:
        self.events, self.lost = events, lost
        self.job: int | None = None
        self.began = False
        self._death: Death | None = lost

    def hear(self, batch: Batch) -> None:
        """Take in what was said of the job."""
        for message in batch:
            if message[0] == "ended":
                self._death = pickle.loads(message[2])
            self.events.put((self, message))  # type: ignore[arg-type]

    def hear_no_more(self) -> None:
        """The machine is gone, or what did jobs on it."""
        assert self.job is not None
        self.hear([ended(self.job, self.lost)])

    def hear_stopped(self, number: int) -> None:
        """The job had not begun, so there is nothing to save."""
        assert self.job is not None
        self.hear([("stopped", self.job, pickle.dumps((number,)))])

    def hear_error(self, error: BaseException) -> None:
        """The job was not done, for a reason that has nothing to do with it."""
        assert self.job is not None
        while error.__cause__ is not None:
            error = error.__cause__
        try:
            content = pickle.dumps((error, ""))
            pickle.loads(content)
        except Exception:
            content = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), ""))
        self.hear([("raised", self.job, content)])

    def death(self) -> Death | None:
        return self._death


def at_once(cluster: Cluster, needs: Needs) -> int:
    """How many jobs are given out: more than are done side by side, so that a cluster that grows
    sees why it should."""
    return needs.at_once if needs.at_once is not None else 2 * cluster.slots() + 2


@contextmanager
def joined(kind: str, address: str, needs: Needs) -> Iterator[Cluster]:
    """A cluster, within this block.

    Args:
        kind: ``ray`` or ``dask``.
        address: of the cluster, as its own tools write it.
        needs: of every job.

    Raises:
        InputError: the package is missing, the address leads nowhere, or no machine there has what
            a job needs.
    """
    check_installed(kind)
    cluster: Cluster = import_module(f".on_{kind}", __package__).join(address, needs)
    try:
        yield cluster
    finally:
        cluster.close()


def check_installed(kind: str) -> None:
    """Whether the package of a kind of cluster is there.

    Raises:
        InputError: it is not.
    """
    if find_spec(_MODULES[kind]) is None:
        raise InputError(
            f"--engine {kind} needs the package {_MODULES[kind]}, which is not installed. Run: "
            f"pip install 'normlab[{kind}]'"
        )


def on_every_machine(
    cluster: Cluster, function: Callable[..., Any], arguments: Sequence[Any]
) -> dict[str, Outcome]:
    """What a function returns or raises on each machine that is there.

    Raises:
        Stopped: a signal came.
    """
    events: Events = queue.SimpleQueue()
    asked: dict[Worker, str] = {}
    found: dict[str, Outcome] = {}
    call, given = pickle.dumps(function), pickle.dumps(tuple(arguments))
    try:
        for number, machine in enumerate(cluster.machines()):
            worker = cluster.worker_on(machine, events)
            asked[worker] = machine
            worker.give(number, call, given)
        while asked:
            stopped = stopping.requested()
            if stopped is not None:
                raise stopping.Stopped(stopped)
            try:
                worker, message = events.get(timeout=_POLL)
            except queue.Empty:
                continue
            if message[0] in LAST and worker in asked:
                found[asked.pop(worker)] = _answer(worker, message)
    finally:
        for worker in asked:
            worker.close()
    return found


def _answer(worker: Worker, message: Message) -> Outcome:
    if message[0] in ("done", "raised"):
        worker.release()
        return outcome_of(message)
    worker.close()
    return Outcome(message[1], error=RuntimeError(f"its process was {worker.death()}"))
