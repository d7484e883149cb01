"""Processes of this machine that do jobs. They are kept for the next job."""

from __future__ import annotations

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from .causes import Death, death, kills_for_memory
from .engine import Events
from .messages import packed, receive

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_AT_START = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "GOMP_", "MALLOC_", "LD_", "DYLD_",
             "CUDA_", "CUBLAS_", "NVIDIA_", "PYTORCH_", "PYTHON", "LC_", "LANG")  # fmt: skip
"""How variables begin that are read when a process starts. It takes over all others with a job."""
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from normlab.processes.worker import serve; serve(int(sys.argv[2]), sys.argv[3] == 'tied')"
)


@dataclass(frozen=True)
class Surroundings:
    """What a process takes over with a job: where modules are searched for, the working folder, and
    the variables of the environment."""

    path: list[str]
    here: str
    environment: dict[str, str]

    @classmethod
    def of_this_process(cls, threads: int) -> Surroundings:
        """As they are here. Native libraries take so many threads, unless told otherwise."""
        share = dict.fromkeys(_THREADS, str(threads))
        return cls(search_path(), str(Path.cwd()), {**share, **os.environ})


class Process:
    """A process of :mod:`.worker`, as seen from here. It is a :class:`~.engine.Worker`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self.kills = kills_for_memory()
        self.events: Events = queue.SimpleQueue()
        self.job: int | None = None
        self.began = self.ended = False
        tied = threading.current_thread() is threading.main_thread()
        arguments = [json.dumps(surroundings.path), str(os.getpid()), "tied" if tied else "free"]
        # -P: neither the working folder nor anything in it is looked at before the path is set.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=surroundings.environment,
        )
        self.results = cast(BinaryIO, self.process.stdout)
        threading.Thread(target=self._listen, daemon=True).start()

    @classmethod
    def taken(cls, surroundings: Surroundings, events: Events) -> Process:
        """One that waits for work, or a new one. What it says goes to ``events``."""
        process = cls._waiting(surroundings) or cls(surroundings)
        process.surroundings, process.events = surroundings, events
        if process.ended:  # in between
            events.put((process, ("ended",)))
        return process

    @classmethod
    def _waiting(cls, surroundings: Surroundings) -> Process | None:
        wanted = _read_at_start(surroundings.environment)
        with _lock:
            while _idle:
                process = _idle.pop()
                same = _read_at_start(process.surroundings.environment) == wanted
                if same and not process.ended:
                    return process
                process.close()
        return None

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

    def give(self, number: int, function: bytes, arguments: bytes) -> None:
        self.job, self.began = number, False
        there = self.surroundings
        try:
            self._send(
                "job", number, there.path, there.here, there.environment, function, arguments
            )
        except BaseException:
            self.kill()  # half a message may be in the pipe
            raise

    def ask_to_stop(self, number: int) -> None:
        self._send("stop", number)

    def death(self) -> Death | None:
        if not self.began and self.process.returncode == 0:
            return None  # it had waited for long and ended as it was given the job
        return death(self.process.returncode, self.kills)

    def release(self) -> None:
        self.job = None
        self.events = queue.SimpleQueue()
        with _lock:
            _idle.append(self)

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


class OwnProcesses:
    """The engine of one machine, this one.

    Args:
        workers: processes side by side.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._surroundings = Surroundings.of_this_process(max(1, cores() // workers))

    def at_once(self) -> int:
        return self._workers

    def worker(self, events: Events) -> Process:
        # A job finds layers of one's own from where the caller is now.
        there = replace(self._surroundings, path=search_path(), here=str(Path.cwd()))
        return Process.taken(there, events)

    def trouble(self) -> None:
        return None


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def search_path() -> list[str]:
    """Where this process searches for modules."""
    return [entry for entry in sys.path if isinstance(entry, str)]


_idle: list[Process] = []
_lock = threading.Lock()


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k.startswith(_AT_START)}


def _end_idle() -> None:
    with _lock:
        while _idle:
            _idle.pop().close()


atexit.register(_end_idle)
