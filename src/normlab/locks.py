"""One command at a time in a folder that it writes to.

The system keeps the lock and gives it up with the process that holds it, however that ends. What
the folder has meanwhile, beside its own, is named by :data:`LOCK` and :data:`HOLDER`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from .bounded import read_file
from .destinations import explained_disk_errors
from .errors import InputError
from .leftovers import sweep, sweep_temporary

LOCK, HOLDER = ".normlab.lock", ".normlab.holder.lock"
"""The file that is locked, and one that says who has locked it. Both go when the work ends."""
_POLL = 0.2
_MOST = 1 << 16
_SAY_AGAIN = 600.0
"""Seconds after which it is said again what is waited for."""


@contextmanager
def alone_in(
    folder: Path,
    say: Callable[[str], object] | None = None,
    option: str = "--out",
    *,
    beside: bool = False,
) -> Iterator[None]:
    """Within this block no other command that asks for it writes to the folder.

    The folder is made if it is not there, and removed again if it is empty at the end. Another
    command waits, and says for what. What killed processes wrote aside in the folder is removed.

    Args:
        folder: of a study, a run or a check.
        say: is told a sentence if this has to wait; by default it goes to standard error.
        option: chooses another folder.
        beside: whether the lock lies next to the folder, which is replaced as a whole; nothing is
            removed then.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = folder.absolute()
    place = folder.parent if beside else folder
    made = _made(place, option)
    try:
        begins = f".{folder.name}" if beside else ""
        with _locked(folder, place, begins, say or _on_standard_error, option):
            if not beside:
                sweep(folder)
            sweep_temporary()
            yield
    finally:
        for empty in made:
            with suppress(OSError):  # it has something now
                empty.rmdir()


def _made(folder: Path, option: str) -> list[Path]:
    """Make a folder; returns those that were not there, the innermost first."""
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    with explained_disk_errors(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def _locked(
    folder: Path, place: Path, begins: str, say: Callable[[str], object], option: str
) -> Iterator[None]:
    import filelock

    path, holder = place / (begins + LOCK), place / (begins + HOLDER)
    lock = filelock.FileLock(path, mode=0o666)
    told = -_SAY_AGAIN
    was_there = os.path.lexists(path)
    while True:
        try:
            with warnings.catch_warnings():
                # Where the system cannot lock files, the library keeps to their being there.
                warnings.simplefilter("ignore")
                lock.acquire(blocking=False)
            break
        except filelock.Timeout:
            if time.monotonic() - told >= _SAY_AGAIN:
                told = time.monotonic()
                say(f"{folder} is in use by {_holder(holder)}. Waiting until that has ended.")
        except (OSError, NotImplementedError) as error:
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)  # its last user has removed it
                continue
            if not was_there:
                with suppress(OSError):
                    path.unlink()
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{folder} cannot be locked ({reason}), which keeps two commands from writing to "
                f"it at once. Choose another folder with {option}."
            ) from error
        time.sleep(_POLL)
    try:
        _say_who(holder)
        yield
    finally:
        # Before the lock is given up: whoever waits for it finds the file gone, and makes another.
        with suppress(OSError):
            holder.unlink()
        if not isinstance(lock, filelock.SoftFileLock):
            with suppress(OSError):
                path.unlink()
        lock.release()


def _on_standard_error(text: str) -> None:
    if sys.stderr is not None:
        print(f"normlab: {text}", file=sys.stderr, flush=True)


def _say_who(holder: Path) -> None:
    known = {"process": os.getpid(), "host": socket.gethostname()}
    known["since"] = datetime.now().astimezone().isoformat(timespec="seconds")
    with suppress(OSError):  # a courtesy
        holder.unlink(missing_ok=True)  # never through a link that someone has put there
        with holder.open("x", encoding="utf-8") as opened:
            json.dump(known, opened)


def _holder(holder: Path) -> str:
    """Who has the lock, in words."""
    try:
        known = json.loads(read_file(holder, _MOST))
        since = datetime.fromisoformat(known["since"])
        here = "" if known["host"] == socket.gethostname() else f" on {known['host']!r}"
        return f"process {int(known['process'])}{here} since {since:%H:%M on %Y-%m-%d}"
    except (InputError, ValueError, TypeError, KeyError):
        return "another process"
