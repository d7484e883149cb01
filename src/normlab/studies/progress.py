"""What a study tells while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ..training import Progress

EVERY = 0.5
"""Seconds between two reports."""


@dataclass(frozen=True)
class RunProgress:
    """Where one run of the study is."""

    arm: str
    seed: int
    progress: Progress

    @property
    def name(self) -> str:
        """The run's name within its study."""
        return run_name(self.arm, self.seed)


class Reporter(Protocol):
    """What a study tells while it runs."""

    def started(self, runs: int, steps: int) -> None:
        """How many runs are to be made, with how many training steps in all."""

    def advanced(self, steps: int, active: list[RunProgress]) -> None:
        """Steps done in all, and the runs under way; called about twice a second."""

    def finished(self, arm: str, seed: int, record: dict[str, Any]) -> None:
        """A run ended; ``record`` is its run.json."""

    def warned(self, text: str) -> None:
        """Something went wrong with a run, and the others go on: a sentence."""


def run_name(arm: str, seed: int) -> str:
    """A run's name within its study."""
    return f"{arm} seed {seed}"


class Standings:
    """Where the runs under way are, for a reporter.

    Args:
        sizes: the steps of every run, by its name.
        reporter: is told about twice a second.
    """

    def __init__(self, sizes: Mapping[str, int], reporter: Reporter | None) -> None:
        self.sizes, self.reporter = sizes, reporter
        self._done: dict[str, int] = {}
        self._active: dict[str, RunProgress] = {}
        self._lock = threading.Lock()

    def at(self, arm: str, seed: int, progress: Progress) -> None:
        """A run is here."""
        with self._lock:
            self._active[run_name(arm, seed)] = RunProgress(arm, seed, progress)

    def ended(self, name: str) -> None:
        """A run will not go on."""
        with self._lock:
            self._active.pop(name, None)
            self._done[name] = self.sizes[name]

    def interrupted(self, name: str) -> None:
        """A run goes on later, from where it was saved."""
        with self._lock:
            self._active.pop(name, None)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Within this block the reporter is told, in a thread."""
        reporter = self.reporter
        if reporter is None:
            yield
            return
        stop = threading.Event()

        def tell() -> None:
            while not stop.wait(EVERY):
                with self._lock:
                    active = sorted(self._active.values(), key=lambda run: run.name)
                    steps = sum(self._done.values()) + sum(run.progress.step for run in active)
                reporter.advanced(min(steps, sum(self.sizes.values())), active)

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
