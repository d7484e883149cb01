"""Jobs on a Ray cluster: an actor for each, on whichever machine Ray chooses."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import InputError
from .causes import Death
from .cluster import Needs, Remote, at_once
from .engine import Events
from .hosting import Host, Job

_LOST = Death("lost with its Ray worker", blameless=True)
_CONNECT_SECONDS = 10.0
_TWO = 2
"""Threads of an actor: one does the job, one hears that it should stop."""
_END_SECONDS = 10.0
"""How long threads that listen to actors which were ended may take to notice."""


def join(address: str, needs: Needs) -> RayCluster:
    """The cluster at this address.

    Args:
        address: ``auto`` for the one that this machine is part of, or ``10.0.0.5:6379``.
        needs: of every job.

    Raises:
        InputError: there is none, or no machine has what a job needs.
    """
    if address.startswith("ray://"):
        raise InputError(
            f"{address} is for Ray's client, through which jobs cannot say how far they are. Start "
            "normlab on a machine of the cluster, with --engine-address auto."
        )
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            _knock(address)
            with _signals_kept():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise InputError(
                f"No Ray cluster answers at {address} ({_line(error)}). Start one with: ray start "
                "--head. Then give --engine-address auto on a machine of the cluster."
            ) from error
    found = RayCluster(address, needs, ours)
    try:
        found.check()
    except BaseException:
        found.close()
        raise
    return found


class RayCluster:
    """This process as a driver of a cluster."""

    def __init__(self, address: str, needs: Needs, ours: bool) -> None:
        self.needs, self.ours = needs, ours
        self.name = f"the Ray cluster at {address}"
        self.listening: list[threading.Thread] = []

    def check(self) -> None:
        """Whether any machine has what a job needs.

        Raises:
            InputError: none has.
        """
        if self.slots() == 0:
            what = "a GPU" if self.needs.gpu else f"{self.needs.threads} cores"
            raise InputError(f"No machine of {self.name} has {what} for a run.")

    def machines(self) -> list[str]:
        return sorted(str(node["NodeID"]) for node in self._nodes())

    def slots(self) -> int:
        cores = [
            int(node["Resources"].get("CPU", 0)) // self.needs.threads for node in self._nodes()
        ]
        if not self.needs.gpu:
            return sum(cores)
        gpus = [int(node["Resources"].get("GPU", 0)) for node in self._nodes()]
        return sum(map(min, cores, gpus))

    def at_once(self) -> int:
        return at_once(self, self.needs)

    def trouble(self) -> str | None:
        if self.slots():
            return None
        return f"No machine of {self.name} can make a run at the moment. Runs wait until one can."

    def worker(self, events: Events) -> RayWorker:
        asked = {"num_cpus": self.needs.threads, "num_gpus": int(self.needs.gpu)}
        return RayWorker(self, events, asked)

    def worker_on(self, machine: str, events: Events) -> RayWorker:
        there = NodeAffinitySchedulingStrategy(machine, soft=False)
        return RayWorker(self, events, {"num_cpus": 0, "scheduling_strategy": there})

    def close(self) -> None:
        # A call of Ray's after the end would start it anew.
        for thread in self.listening:
            thread.join(_END_SECONDS)
        if self.ours:
            with _signals_kept(), suppress(Exception):
                ray.shutdown()

    def _nodes(self) -> list[dict[str, Any]]:
        try:
            return [node for node in ray.nodes() if node["Alive"]]
        except Exception as error:
            raise InputError(
                f"{self.name[0].upper()}{self.name[1:]} does not answer any more. What was saved "
                "is kept: the same command goes on from there."
            ) from error


class RayWorker(Remote):
    """An actor. It is a :class:`~.engine.Worker`."""

    def __init__(self, cluster: RayCluster, events: Events, options: dict[str, Any]) -> None:
        super().__init__(events, _LOST)
        self.cluster = cluster
        kind = ray.remote(max_concurrency=_TWO, max_restarts=0, max_task_retries=0)(Host)
        self.actor = kind.options(**options).remote()
        self.heard = False

    def give(self, number: int, function: bytes, arguments: bytes) -> None:
        self.job = number
        job = Job.of_this_process(number, function, arguments, self.cluster.needs.threads)
        said = self.actor.batches.options(num_returns="streaming").remote(job)
        thread = threading.Thread(target=self._listen, args=(said,), daemon=True)
        self.cluster.listening = [one for one in self.cluster.listening if one.is_alive()]
        self.cluster.listening.append(thread)
        thread.start()

    def _listen(self, said: Any) -> None:
        """In a thread: what the job says, until it ends in whatever way."""
        try:
            for one in said:
                self.heard = True
                self.hear(ray.get(one))
        except ray.exceptions.RayTaskError as error:
            self.hear_error(error.cause or error)
        except Exception:  # the actor, its machine or the cluster is gone
            self.hear_no_more()

    def ask_to_stop(self, number: int) -> None:
        if not self.heard:  # it waits for a machine
            self.hear_stopped(number)
            self.kill()
            return
        with suppress(Exception):
            self.actor.ask_to_stop.remote(number)

    def release(self) -> None:
        self.kill()  # its cores are free for another

    def kill(self) -> None:
        with suppress(Exception):
            ray.kill(self.actor)

    def close(self) -> None:
        self.kill()


def _knock(address: str) -> None:
    """Whether anything listens there; Ray itself would wait for minutes.

    Raises:
        OSError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray handles SIGTERM in its own way, which would end a study without saving it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
