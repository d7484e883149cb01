"""Jobs on a Dask cluster: a task for each, on whichever worker Dask chooses.

Dask starts a task again by itself where its worker is lost. The second start finds that there was a
first one and ends at once, so that deaths are counted and told in one place, by :mod:`.pool`.
"""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import distributed

from ..errors import InputError
from .causes import Death
from .cluster import Needs, Remote, at_once
from .engine import LAST, Events
from .hosting import Batch, Host, Job, ended

_CONNECT_SECONDS = 10
_LOST = Death("lost with its Dask worker", blameless=True)
_POLL = 0.1

_hosts: dict[str, Host] = {}
"""In a worker: the jobs under way."""
_free = threading.Condition()
_taken = 0
"""In a worker: the cores that jobs under way have asked for."""


def join(address: str, needs: Needs) -> DaskCluster:
    """The cluster of this scheduler.

    Args:
        address: such as ``tcp://10.0.0.5:8786``, or the scheduler's file.
        needs: of every job.

    Raises:
        InputError: no scheduler answers, or no worker has what a job needs.
    """
    try:
        there = {"scheduler_file" if Path(address).is_file() else "address": address}
        with warnings.catch_warnings():
            # Versions are compared by whoever gives jobs, and they are refused.
            warnings.simplefilter("ignore")
            client = distributed.Client(
                **there, timeout=_CONNECT_SECONDS, set_as_default=False, name="normlab"
            )
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address} ({error}). Start one with: dask scheduler. "
            "Then give its address, such as tcp://10.0.0.5:8786, or its --scheduler-file."
        ) from error
    found = DaskCluster(client, needs)
    try:
        found.check()
    except BaseException:
        found.close()
        raise
    return found


class DaskCluster:
    """A client of a scheduler."""

    def __init__(self, client: Any, needs: Needs) -> None:
        self.client, self.needs = client, needs
        self.name = f"the Dask cluster at {client.scheduler.address}"
        self.topic = f"normlab-{uuid.uuid4().hex}"
        self.under_way: dict[str, DaskWorker] = {}
        client.subscribe_topic(self.topic, self._heard)

    def check(self) -> None:
        """Whether any worker has what a job needs.

        Raises:
            InputError: none has.
        """
        workers = self._workers()
        if not workers:
            raise InputError(
                f"{self._title()} has no workers. Start some on every machine: dask worker "
                f"{self.client.scheduler.address}"
            )
        if self.needs.gpu and not any(one["resources"].get("GPU") for one in workers.values()):
            raise InputError(
                f"No worker of {self.name} offers a GPU, which --device cuda needs. Start a worker "
                "for each GPU, with it in CUDA_VISIBLE_DEVICES and with: --nthreads 1 --resources "
                "GPU=1"
            )
        most = max(one["nthreads"] for one in workers.values())
        if most < self.needs.threads:
            raise InputError(
                f"A run has --threads {self.needs.threads}, and the workers of {self.name} have "
                f"{most} at most. Start them with a larger --nthreads."
            )

    def machines(self) -> list[str]:
        of_host: dict[str, str] = {}
        for address, known in self._workers().items():
            of_host.setdefault(known["host"], address)
        return sorted(of_host.values())

    def slots(self) -> int:
        if self.needs.gpu:
            return sum(int(one["resources"].get("GPU", 0)) for one in self._workers().values())
        return sum(one["nthreads"] // self.needs.threads for one in self._workers().values())

    def at_once(self) -> int:
        return at_once(self, self.needs)

    def trouble(self) -> str | None:
        if self.slots():
            return None
        return f"{self._title()} has no workers at the moment. Runs wait until it has."

    def worker(self, events: Events) -> DaskWorker:
        return DaskWorker(self, events)

    def worker_on(self, machine: str, events: Events) -> DaskWorker:
        return DaskWorker(self, events, machine)

    def close(self) -> None:
        with suppress(Exception):
            self.client.close(timeout=_CONNECT_SECONDS)

    def _workers(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{self._title()} does not answer any more. What was saved is kept: the same "
                "command goes on from there."
            ) from error
        return found

    def _title(self) -> str:
        return self.name[0].upper() + self.name[1:]

    def _heard(self, event: tuple[float, Any]) -> None:
        """In Dask's thread: what a job has said."""
        said = event[1]
        worker = self.under_way.get(said["token"])
        if worker is not None:
            worker.place = said["place"]
            worker.hear([tuple(message) for message in said["batch"]])


class DaskWorker(Remote):
    """A task. It is a :class:`~.engine.Worker`."""

    def __init__(self, cluster: DaskCluster, events: Events, machine: str | None = None) -> None:
        super().__init__(events, _LOST)
        self.cluster, self.machine = cluster, machine
        self.token = f"normlab-{uuid.uuid4().hex}"
        self.future: Any = None
        self.place: str | None = None

    def give(self, number: int, function: bytes, arguments: bytes) -> None:
        needs, self.job = self.cluster.needs, number
        where = {} if self.machine is None else {"workers": [self.machine]}
        gpu = needs.gpu and self.machine is None
        self.cluster.under_way[self.token] = self
        job = Job.of_this_process(number, function, arguments, needs.threads)
        with warnings.catch_warnings():
            # A data set of many files makes a large job, and that is how it is meant.
            warnings.filterwarnings("ignore", message="Sending large graph")
            self.future = self.cluster.client.submit(
                do_job,
                self.token,
                self.cluster.topic,
                job,
                key=self.token,
                pure=False,
                resources={"GPU": 1} if gpu else None,
                **where,
            )
        self.future.add_done_callback(self._done)

    def _done(self, future: Any) -> None:
        """In a thread of Dask: the task has ended, in whatever way."""
        try:
            batch = future.result()
        except CancelledError:
            self.hear_no_more()  # by us, or with the scheduler
        except distributed.scheduler.KilledWorker:
            self.hear_no_more()
        except Exception as error:
            self.hear_error(error)
        else:
            self.hear(batch)

    def ask_to_stop(self, number: int) -> None:
        if self.place is None:  # it waits for a worker
            self.hear_stopped(number)
            self.kill()
            return
        with suppress(Exception):
            self.cluster.client.run(
                stop_job, self.token, number, workers=[self.place], wait=False, on_error="ignore"
            )

    def release(self) -> None:
        self.cluster.under_way.pop(self.token, None)
        with suppress(Exception):
            self.future.release()

    def kill(self) -> None:
        if self.future is not None:
            with suppress(Exception):
                self.future.cancel()

    def close(self) -> None:
        self.cluster.under_way.pop(self.token, None)
        self.kill()


def do_job(token: str, topic: str, job: Job) -> Batch:
    """In a worker: do a job; returns what is said of it last."""
    worker = distributed.get_worker()
    key = worker.get_current_task()
    started = distributed.Event(token)
    if started.is_set():
        return [ended(job.number, _LOST)]
    started.set()

    def wanted() -> bool:
        """Until whoever gave the job cancels it, or is gone, or the worker ends."""
        task = worker.state.tasks.get(key)
        ends = worker.status.name in ("closing", "closed", "stopping", "failed")
        return not ends and task is not None and task.state in ("executing", "long-running")

    host = _hosts[token] = Host()
    try:
        with _cores(job.threads, worker.state.nthreads, wanted):
            for batch in host.batches(job, wanted):
                if batch and batch[-1][0] in LAST:
                    started.clear()  # the scheduler need not know it any more
                    return batch
                worker.log_event(topic, {"token": token, "place": worker.address, "batch": batch})
    finally:
        del _hosts[token]
    return []


async def stop_job(token: str, number: int) -> None:
    """In a worker: ask a job to save what it has. Dask waits for no answer of a coroutine."""
    if token in _hosts:
        _hosts[token].ask_to_stop(number)


@contextmanager
def _cores(threads: int, there: int, wanted: Any) -> Iterator[None]:
    """Some of the worker's cores, of which Dask counts one for each task."""
    global _taken
    with _free:
        while _taken and _taken + threads > there and wanted():
            _free.wait(_POLL)
        _taken += threads
    try:
        yield
    finally:
        with _free:
            _taken -= threads
            _free.notify_all()
