"""A process that does jobs for another one, until that one ends."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO

from .. import stopping
from .messages import packed, receive

IDLE_SECONDS = 300.0
"""A process that has had nothing to do for so long ends."""
_PR_SET_PDEATHSIG = 1

_tell: Callable[[Any], None] | None = None


def tell(note: Any) -> None:
    """From within a job: a note to whoever gave it."""
    if _tell is not None:
        _tell(note)


@contextmanager
def telling(listener: Callable[[Any], None] | None) -> Iterator[None]:
    """Where notes go within this block."""
    global _tell
    before, _tell = _tell, listener
    try:
        yield
    finally:
        _tell = before


def serve(parent: int, tied: bool) -> None:
    """Do the jobs that come through standard input; does not return.

    Args:
        parent: number of the process that started this one.
        tied: whether Linux may end this process together with the thread that started it.
    """
    jobs, results = _pipes()
    _end_with(parent, tied)
    # Ctrl-C and the end of a terminal reach the whole group; the parent alone says what they mean.
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    worker = _Worker(jobs, results)
    signal.signal(signal.SIGTERM, worker.stop)
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.work()
    # At once: nothing that a job has started is waited for.
    os._exit(0)


class _Worker:
    def __init__(self, jobs: BinaryIO, results: BinaryIO) -> None:
        self.jobs, self.results = jobs, results
        self.waiting: queue.Queue[Any] = queue.Queue()
        self.busy = False

    def listen(self) -> None:
        """In a thread: take messages. When the parent ends, whatever its end, so does this."""
        with suppress(Exception):
            while True:
                message = receive(self.jobs)
                if message[0] == "stop":
                    stopping.request(message[1])
                else:
                    self.waiting.put(message)
        os._exit(1)

    def stop(self, number: int, _: object) -> None:
        """A first SIGTERM lets a job end well, a second one does not."""
        if not self.busy or stopping.requested() is not None:
            os._exit(128 + number)
        stopping.request(number)

    def work(self) -> None:
        while stopping.requested() is None:
            try:
                _, number, *job = self.waiting.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                return
            self.busy = True
            self.send("began", number)
            with telling(partial(self.send, "note", number)):
                self.answer(number, *job)
            self.busy = False

    def answer(
        self,
        number: int,
        path: list[str],
        here: str,
        environment: dict[str, str],
        function: bytes,
        arguments: bytes,
    ) -> None:
        try:
            # Processes live on; layers of one's own are found from where the caller is now, and
            # the cache is the one that the caller has now.
            sys.path[:] = path
            os.chdir(here)
            if dict(os.environ) != environment:
                os.environ.clear()
                os.environ.update(environment)
            value = pickle.loads(function)(*pickle.loads(arguments))
        except stopping.Stopped as stopped:
            self.send("stopped", number, stopped.signal)
        except Exception as error:
            said = traceback.format_exc()
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:
                error = RuntimeError(f"{type(error).__name__}: {error}")
            self.send("raised", number, error, said)
        else:
            self.send("done", number, value)

    def send(self, kind: str, number: int, *rest: Any) -> None:
        """Say something of a job. ``rest`` is a pickle of its own: where the message is only
        passed on, what is in it need not be known."""
        try:
            content = pickle.dumps(rest, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:
            told = RuntimeError("The result cannot be sent."), traceback.format_exc()
            kind, content = "raised", pickle.dumps(told)
        try:
            self.results.write(packed((kind, number, content)))
            self.results.flush()
        except OSError:  # nobody is there any more
            os._exit(1)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages alone: what a job prints goes to standard error."""
    jobs, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return jobs, results


def _end_with(parent: int, tied: bool) -> None:
    """On Linux the system itself ends this process with its parent, even while native code runs
    that lets no thread of Python run. Everywhere else, and besides, the closed pipe does."""
    if not tied or not sys.platform.startswith("linux"):
        return
    with suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it had ended before
        os._exit(1)
