"""What a study tells while it runs: notes from its processes to the one that shows them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ..runs.layout import file_name
from ..training import Progress


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


def run_name(arm: str, seed: int) -> str:
    """A run's name within its study."""
    return f"{arm} seed {seed}"


@contextmanager
def noting(notes: Path, name: str, seed: int) -> Iterator[Callable[[Progress], None]]:
    """Notes for the parent on how far this is, gone at the end."""
    note = notes / f"{file_name(name)}~{seed}.json"

    def tell(progress: Progress) -> None:
        content = {"arm": name, "seed": seed, "progress": asdict(progress)}
        aside = note.with_suffix(".part")
        with suppress(OSError):  # a note is a courtesy; a full disk is reported by the run itself
            aside.write_text(json.dumps(content), encoding="utf-8")
            aside.replace(note)

    try:
        yield tell
    finally:
        with suppress(OSError):
            note.unlink()


@contextmanager
def watching(
    notes: Path, sizes: dict[str, int], done: dict[str, int], reporter: Reporter | None
) -> Iterator[None]:
    """Read the workers' notes in a thread and hand them to the reporter."""
    if reporter is None:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            active = _read_notes(notes)
            running = {run.name: run.progress.step for run in active}
            total = sum(done.values()) + sum(
                step for name, step in running.items() if name not in done
            )
            reporter.advanced(min(total, sum(sizes.values())), active)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _read_notes(notes: Path) -> list[RunProgress]:
    found = []
    for path in sorted(notes.glob("*.json")):
        with suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            found.append(
                RunProgress(content["arm"], content["seed"], Progress(**content["progress"]))
            )
    return found
