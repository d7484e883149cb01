"""Files in the cache, kept because they cost time to make again. Any of them may be deleted.

Each carries a checksum. One that is damaged is made again, and a line on standard error says so.
Work that takes long is done by one process at a time; others wait and use what it made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .errors import InputError
from .files import read_arrays, read_json, write_arrays, write_json
from .places import cache_folder
from .seals import NO_SEAL, DamagedError

AGAIN = "It is made again."
_MOST_BYTES = 1 << 30
"""Of a file of kept arrays, unpacked; hashes of a million images are 8 MB."""


_said: set[Path] = set()


def kept_arrays(kind: str, name: str, follows: str = AGAIN) -> dict[str, npt.NDArray[Any]] | None:
    """Arrays that were kept, or None if they are missing or damaged.

    Args:
        kind: of file.
        name: of the file.
        follows: a sentence about what follows if they are damaged.
    """
    with suppress(InputError):
        path = cache_folder(kind) / f"{name}.npz"
        try:
            return read_arrays(path, _MOST_BYTES)
        except InputError as error:
            _say_if_there(path, error, follows)
    return None


def keep_arrays(kind: str, name: str, arrays: Mapping[str, Any]) -> None:
    """Keep arrays; a cache that cannot be written costs time but not the answer."""
    with suppress(OSError, InputError):
        write_arrays(cache_folder(kind) / f"{name}.npz", arrays)


def kept_record(kind: str, name: str) -> dict[str, Any] | None:
    """A record that was kept, or None if it is missing or damaged."""
    with suppress(InputError):
        path = cache_folder(kind) / f"{name}.json"
        try:
            return read_json(path)
        except InputError as error:
            _say_if_there(path, error, AGAIN)
    return None


def keep_record(kind: str, name: str, record: Mapping[str, Any]) -> None:
    """Keep a record; a cache that cannot be written costs time but not the answer."""
    with suppress(OSError, InputError):
        write_json(cache_folder(kind) / f"{name}.json", record)


@contextmanager
def one_at_a_time(kind: str, name: str, waiting: Callable[[], object]) -> Iterator[None]:
    """Within this block is one process at a time for a name. Where the cache cannot be locked, all
    do the work. The lock of a process that ends, however it ends, is free.

    Args:
        kind: of what is made.
        name: of it.
        waiting: called once if another process is within.
    """
    from filelock import FileLock, Timeout

    lock = None
    with suppress(OSError, NotImplementedError, InputError):
        folder = cache_folder("locks")
        folder.mkdir(parents=True, exist_ok=True)
        # A lock that is the mere existence of a file would outlive a killed process.
        lock = FileLock(folder / f"{kind}-{name}.lock", fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def say_damaged(path: Path, found: str, follows: str = AGAIN) -> None:
    """Tell a person, once, that something in the cache is damaged.

    It is news of this moment, not of the images, so it belongs in no record.
    """
    if sys.stderr is not None and path not in _said:
        print(f"In the cache, {path} {found}. {follows}", file=sys.stderr, flush=True)
    _said.add(path)


def _say_if_there(path: Path, error: InputError, follows: str) -> None:
    if os.path.lexists(path):
        if not isinstance(error, DamagedError):
            found = "cannot be read"
        elif error.what == NO_SEAL:
            found = "has no checksum: an earlier version wrote it, or it is damaged"
        else:
            found = "is damaged (it is not what was written)"
        say_damaged(path, found, follows)
