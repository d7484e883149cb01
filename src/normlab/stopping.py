"""Ctrl-C, SIGTERM and the like: the first lets work end well, the second ends it at once.

Within :func:`handled` these signals raise :class:`Stopped`. Within :func:`deferred` the first one
only sets what :func:`requested` returns, so that work which asks at the end of every step can save
what it has. It then raises :class:`Stopped` itself, or leaves that to the end of the block.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
"""Ctrl-C, a polite kill, a terminal that is closed (unless under nohup), Ctrl-Break on Windows."""


class Stopped(KeyboardInterrupt):
    """A person or the system asked for an end.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.signal = int(number)

    @property
    def status(self) -> int:
        """Exit status as shells know it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal


_requested: int | None = None
_handling = 0
_deferring = 0
_at_once: list[Callable[[], object]] = []


def requested() -> int | None:
    """The number of the signal that asked for an end, or None."""
    return _requested


def request(number: int = signal.SIGTERM) -> None:
    """Ask for an end, as a signal would."""
    global _requested
    _requested = _requested or int(number)


@contextmanager
def handled() -> Iterator[None]:
    """Handle signals within this block; nothing changes where they cannot be handled, as in
    another thread, or where a block around this one does it already."""
    global _handling, _requested
    if _handling or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for number in SIGNALS:
        with suppress(ValueError, OSError):
            # What is ignored, as by nohup or a shell's background job, stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _handle)
    _handling, _requested = 1, None
    try:
        yield
    finally:
        _handling, _requested = 0, None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Within this block the first signal waits for work to ask :func:`requested`.

    Raises:
        Stopped: at the end of the block, if a signal came and nothing else was raised.
    """
    global _deferring
    _deferring += 1
    try:
        yield
    finally:
        _deferring -= 1
    if _requested is not None and not _deferring:
        raise Stopped(_requested)


@contextmanager
def at_once(end: Callable[[], object]) -> Iterator[None]:
    """What else has to end when a second signal ends this process, such as other processes."""
    _at_once.append(end)
    try:
        yield
    finally:
        _at_once.remove(end)


def _handle(number: int, _: FrameType | None) -> None:
    global _requested
    if _requested is not None:
        with suppress(OSError):
            os.write(2, b"\nnormlab: Stopped at once. What was saved before is kept.\n")
        for end in reversed(_at_once):
            with suppress(Exception):
                end()
        os._exit(128 + number)
    _requested = number
    if not _deferring:
        raise Stopped(number)
