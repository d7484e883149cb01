"""What jobs are given to: processes of this machine, or of the machines of a cluster."""

from __future__ import annotations

import queue
from typing import Any, Protocol, TypeAlias

from .causes import Death

Message: TypeAlias = tuple[Any, ...]
"""What is said of a job: a kind, the job's number, and the rest as a pickle. ``began`` comes first,
``note`` in between, and one of ``LAST`` at the end."""
Events: TypeAlias = "queue.SimpleQueue[tuple[Worker, Message]]"
LAST = ("done", "raised", "stopped", "ended")
"""The job returned, raised, stopped because it was asked to, or its process died."""


class Worker(Protocol):
    """Does one job at a time, somewhere, and puts what is said of it into a queue.

    Attributes:
        job: the number of the one that it was given.
        began: whether it has said that it began.
    """

    job: int | None
    began: bool

    def give(self, number: int, function: bytes, arguments: bytes) -> None:
        """Do this job: the pickles of a function and its arguments."""

    def ask_to_stop(self, number: int) -> None:
        """Ask the job to save what it has, as if this signal had come."""

    def death(self) -> Death | None:
        """How it ended; None if that was in order, and the job had not begun."""

    def release(self) -> None:
        """The job is done. The worker may be kept for another."""

    def kill(self) -> None:
        """End at once, without waiting for it."""

    def close(self) -> None:
        """End, with whatever is under way."""


class Engine(Protocol):
    """Where jobs are done. What becomes of them is decided in :mod:`.pool` alone."""

    def at_once(self) -> int:
        """How many jobs may be given out now, in all."""

    def worker(self, events: Events) -> Worker:
        """One that can be given a job.

        Raises:
            InputError: there is none any more.
        """

    def trouble(self) -> str | None:
        """A sentence about what keeps jobs from being done, if anything does; asked now and then.

        Raises:
            InputError: no job will ever be done.
        """
