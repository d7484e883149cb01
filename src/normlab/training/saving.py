"""Saving a run: a checkpoint when one is due, results even where the disk is full for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..destinations import is_full, why
from ..errors import InputError
from ..stopping import Stopped, requested
from . import checkpoint
from .checkpoint import Checkpoint

WAIT_SECONDS = 600.0
"""How long results wait for room."""
POLL_SECONDS = 1.0
T = TypeVar("T")


class Saver:
    """Saves one run.

    A checkpoint that cannot be saved is said once, and tried again when the next is due: training
    needs none. Results are what a run is for, so they wait for room.

    Args:
        folder: the run's.
        identity: the run's.
        minutes: between checkpoints.
        tell: is told what a person should know, in a sentence.
    """

    def __init__(
        self, folder: Path, identity: str, minutes: float, tell: Callable[[str], None]
    ) -> None:
        self._folder, self._identity, self._tell = folder, identity, tell
        self._every = 60 * minutes
        self._saved_at = time.monotonic()
        self._failed = False
        self.last: tuple[int, Path] | None = None
        """Step and file of the last checkpoint that is whole."""

    def due(self) -> bool:
        """Whether the time between checkpoints is over."""
        return time.monotonic() - self._saved_at >= self._every

    def save(self, made: Callable[[], Checkpoint]) -> None:
        """Save a checkpoint, if that can be done."""
        found = made()
        content = checkpoint.encoded(self._identity, found)
        before = None if self.last is None else self.last[1]
        try:
            path = checkpoint.write(self._folder, found.step, content, before)
        except (InputError, OSError) as error:
            if not self._failed:
                self._tell(
                    f"The checkpoint at step {found.step} could not be saved: {_reason(error)}. "
                    "Training goes on, and saving is tried again."
                )
            self._failed = True
        else:
            if self._failed:
                self._tell(f"A checkpoint was saved again, at step {found.step}.")
            self._failed = False
            self.last = (found.step, path)
        self._saved_at = time.monotonic()

    def written(self, write: Callable[[], T]) -> T:
        """Write what has to be written. A full disk is waited for, ``WAIT_SECONDS`` at most.

        Raises:
            InputError: it cannot be written.
            Stopped: an end was asked for meanwhile.
        """
        until = time.monotonic() + WAIT_SECONDS
        said = False
        while True:
            try:
                return write()
            except (InputError, OSError) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                if not isinstance(cause, OSError):
                    raise
                if not is_full(cause) or time.monotonic() >= until:
                    raise InputError(
                        f"{self._folder} cannot be written: {_reason(error)}. {self._kept()}"
                    ) from error
            if not said:
                self._tell(
                    f"The disk is full. What the run has to write waits for room in {self._folder},"
                    f" {WAIT_SECONDS / 60:g} minutes at most."
                )
                said = True
            if (number := requested()) is not None:
                raise Stopped(number)
            time.sleep(POLL_SECONDS)

    def _kept(self) -> str:
        if self.last is None:
            return "The run has no checkpoint: the same command starts it over."
        return (
            f"The checkpoint at step {self.last[0]} is kept: the same command resumes from there."
        )


def _reason(error: InputError | OSError) -> str:
    cause = error if isinstance(error, OSError) else error.__cause__
    return why(cause) if isinstance(cause, OSError) else str(error).rstrip(".")
