"""What killed processes leave behind: files written aside and temporary folders.

Their names bear a mark of the process that made them, so that it can be told whether that process
is still there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_MARK = re.compile(r"([0-9a-f]{6})-(\d+)")
_ASIDE = re.compile(rf"\..*\.{_MARK.pattern}\.\w{{8}}\.part|\.copy-{_MARK.pattern}\.\w{{8}}")
_TEMPORARY = re.compile(rf"normlab-{_MARK.pattern}\.\w{{8}}")
_OLD = 24 * 3600.0
"""Seconds after which a file that another computer wrote aside belongs to nobody."""


def mark() -> str:
    """Names this process: where numbers of processes are counted, and its number."""
    return f"{_counted_here()}-{os.getpid()}"


def temporary_prefix() -> str:
    """How the name of a temporary folder of this process begins."""
    return f"normlab-{mark()}."


def _counted_here() -> str:
    """Stands for this computer, or the container on it, that counts processes by itself."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - it leads to no file
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:6]


def abandoned(path: Path) -> bool:
    """Whether this was written aside by a process that is no longer there."""
    found = _ASIDE.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
    if not found:
        return False
    where, number = [group for group in found.groups() if group is not None][:2]
    if where == _counted_here():
        return not _is_there(int(number))
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > _OLD
    return False


def holds_nothing(folder: Path, besides: Collection[str] = ()) -> bool:
    """Whether a folder has nothing but locks, what was written aside, and certain other names."""
    names = [path.name for path in folder.iterdir()]
    return all(
        name in besides or (name.startswith(".") and name.endswith((".part", ".lock")))
        for name in names
    )


def sweep(folder: Path) -> None:
    """Remove what processes that are no longer there wrote aside in a folder of ours and below."""
    for below, folders, files in os.walk(folder):
        for name in [*files, *folders]:
            if name.startswith("."):
                _remove_abandoned(Path(below) / name)


def sweep_beside(folder: Path, begins: str) -> None:
    """Remove what they wrote aside in a folder under names that begin so."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(begins):
                _remove_abandoned(Path(entry.path))


def sweep_temporary() -> None:
    """Remove temporary folders of this user's processes that are no longer there."""
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob("normlab-*"):
            own = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
            if own:
                _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    if not abandoned(path):
        return
    with suppress(OSError):  # someone else may sweep too
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _is_there(number: int) -> bool:
    if os.name == "nt":
        return _is_there_on_windows(number)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _is_there_on_windows(number: int) -> bool:
    import ctypes

    query, still_active = 0x1000, 259
    system = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = system.OpenProcess(query, False, number)
    if not handle:
        return bool(system.GetLastError() == 5)  # it may not be asked, so it is there
    try:
        status = ctypes.c_ulong()
        asked = system.GetExitCodeProcess(handle, ctypes.byref(status))
        return not asked or status.value == still_active
    finally:
        system.CloseHandle(handle)
