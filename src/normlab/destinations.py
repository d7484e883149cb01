"""Where an output really goes: through links, into pipes and devices; and whether it can go there.

=====================  =========================================================================
what the path names    what writing does
=====================  =========================================================================
nothing, or a file     a file is written aside and renamed into place; an existing one keeps its
                       permissions. Another name of it (a hard link) keeps the earlier content.
a symbolic link        the link stays, and the file that it leads to is written in the same way
a pipe or a terminal   the content is written into it once it is complete
an open descriptor     likewise (``/dev/stdout``, ``/dev/fd/3``, ``/proc/self/fd/3``), also where
                       that is a file, after what is in it already
=====================  =========================================================================
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import InputError
from .leftovers import mark, sweep_beside

_LINKS = 40
"""As many links in a row as Linux follows."""
_OPEN_FILES = r"/proc/{process}(/task/\d+)?/fd|/dev/fd"
_FEW = 1 << 20
"""Bytes that a disk must have left for anything to be written."""


@dataclass(frozen=True)
class Destination:
    """Where a file's content goes.

    Attributes:
        path: the file, with all links followed.
        before: what is there already, or None.
        through: a stream (a pipe, a terminal) and not a file that could be replaced.
        descriptor: of an output of this process that the path names, or None.
    """

    path: Path
    before: os.stat_result | None
    through: bool = False
    descriptor: int | None = None

    def opened(self) -> BinaryIO:
        """The stream, for writing. A pipe waits here until something reads it."""
        if self.descriptor is None:
            return self.path.open("wb")
        if self.descriptor == 1 and sys.stdout is not None:
            sys.stdout.flush()
        return os.fdopen(os.dup(self.descriptor), "wb")


def destination(path: Path) -> Destination:
    """Follow a path to where its content goes.

    Raises:
        InputError: it names a folder, a disk or a socket, or links that lead nowhere.
    """
    with explained_disk_errors(path):
        descriptor = _descriptor(path)
        if descriptor is not None:
            return Destination(path, os.fstat(descriptor), True, descriptor)
        try:
            found = path.stat()
        except FileNotFoundError:
            return Destination(_beyond(path), None)
    if stat.S_ISREG(found.st_mode):
        return Destination(Path(os.path.realpath(path)), found)
    if stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode):
        return Destination(path, found, through=True)
    kind = "a folder" if stat.S_ISDIR(found.st_mode) else "neither a file nor a pipe"
    raise InputError(f"{path} is {kind}. Name a file to write.")


def check_file(path: str | Path, option: str = "") -> None:
    """Fail before any work if a file cannot be written; ``option`` chooses another.

    Nothing is left behind: permissions are tried with a temporary file, which finds more than a
    look at the mode does. A pipe is not opened, since that would take its reader away.

    Raises:
        InputError: naming the path and what is wrong.
    """
    place = destination(Path(path))
    with explained_disk_errors(Path(path), option):
        if place.descriptor is None and place.before is not None:
            check_permitted(place.path)
        if not place.through:
            _try_to_write(place.path.parent)


def check_folder(path: str | Path, option: str = "") -> None:
    """Fail before any work if a folder, or one to be made, cannot be written into.

    Raises:
        InputError: naming the path and what is wrong.
    """
    if not isinstance(path, (str, os.PathLike)):
        name = option.removeprefix("--") or "The folder"
        raise InputError(f"{name} must be text or a path, got {path!r}.")
    path = Path(path)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        # It would be written into records and commands, which are text.
        raise InputError(
            f"The name of {str(path)!a} is not valid Unicode. {_elsewhere(option)}"
        ) from None
    with explained_disk_errors(path, option):
        if os.path.lexists(path) and not path.is_dir():
            path.stat()  # a link that leads nowhere or in a circle says so
            raise InputError(f"{path} is a file. {_elsewhere(option)}")
        _try_to_write(path)


def is_standard_output(path: str | Path) -> bool:
    """Whether writing to the path is writing to where this process prints."""
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(1))
    except (OSError, ValueError):
        return False


_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.EFBIG: "the file would be larger than allowed here",
    errno.ENOENT: "a part of the path does not exist, or is a link that leads nowhere",
    errno.ELOOP: "symbolic links in the path lead in a circle",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EPIPE: "nothing reads from the pipe any more",
    errno.EBADF: "that output is closed",
    errno.EIO: "the disk reports an input/output error",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained_disk_errors(path: Path, option: str = "") -> Iterator[None]:
    """Turn a disk that is full or not writable into one clear message."""
    try:
        yield
    except OSError as error:
        room = "Free some space, or choose" if is_full(error) else "Choose"
        place = f"another place with {option}" if option else "another place"
        raise InputError(f"{path} cannot be written: {why(error)}. {room} {place}.") from error


def why(error: OSError) -> str:
    """What the system says of a file that cannot be written, in plain words."""
    said = _REASONS.get(error.errno or 0)
    return said or str(error.strerror or error).rstrip(".")


def is_full(error: OSError) -> bool:
    """Whether there is no room: what may be over once somebody makes some."""
    return error.errno in _FULL


def _elsewhere(option: str) -> str:
    return f"Choose a folder with {option}." if option else "Choose a folder."


def _descriptor(path: Path) -> int | None:
    """The number of this process's open file that a path names, such as 1 for /dev/stdout."""
    for _ in range(_LINKS):
        above = os.path.realpath(path.parent)
        if path.name.isdigit() and re.fullmatch(_OPEN_FILES.format(process=os.getpid()), above):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _beyond(path: Path) -> Path:
    """The file that would be made: the path, or where its link leads."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise InputError(
            f"{path} is a symbolic link to {target}, whose folder does not exist. Create the "
            "folder, or remove the link."
        )
    return target


def check_permitted(path: Path) -> None:
    """A file that is protected against writing is not replaced by another."""
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _try_to_write(folder: Path) -> None:
    """Make a file where the folder is, or would be, and remove it."""
    existing = next(
        parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent)
    )
    begins = ".normlab."
    sweep_beside(existing, begins)
    handle, name = tempfile.mkstemp(prefix=f"{begins}{mark()}.", suffix=".part", dir=existing)
    os.close(handle)
    Path(name).unlink()
    disk = shutil.disk_usage(existing)
    if disk.total and disk.free < _FEW:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(existing))
