"""Rows of equal shape in a ``.npy`` file, read and written by their places.

A memory map would end the process (SIGBUS) where a file is cut short, a disk fails or is full. Here
each of these is an ``OSError``.
"""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

_BLOCK = 1 << 20
_NO_SUCH_CALL = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class RowFile:
    """An open file of rows. It stays readable after it was deleted, and is closed with its object.

    Attributes:
        path: of the file.
        shape: (n, ...) of all rows.
        offset: bytes before the first row.
        each: bytes of a row.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = np.uint8,
        *,
        writable: bool = False,
    ) -> None:
        """Open a file that exists.

        Raises:
            OSError: it cannot be opened, or is not a file of these rows.
        """
        self.path, self.shape, self.dtype = path, tuple(shape), np.dtype(dtype)
        self.each = math.prod(shape[1:]) * self.dtype.itemsize
        header = _header(self.shape, self.dtype)
        self.offset = len(header)
        # Without O_CREAT: who outlives the one that made the file must not make it again.
        self._number = os.open(path, _FLAGS | (os.O_RDWR if writable else os.O_RDONLY))
        self._turn = threading.Lock()
        self._closed = weakref.finalize(self, os.close, self._number)
        found = os.fstat(self._number)
        if not stat.S_ISREG(found.st_mode) or found.st_size != self.offset + shape[0] * self.each:
            raise OSError(errno.EIO, "it does not have the size that was written")
        start = np.empty(len(header), np.uint8)
        self._read_into(start.data, 0)
        if start.tobytes() != header:
            raise OSError(errno.EIO, "its header is not what was written")

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> RowFile:
        """A new file of zeros, with its disk space allocated."""
        header = _header(shape, np.dtype(dtype))
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with path.open("wb") as file:
            file.write(header)
            file.flush()
            _allocate(file, len(header), size)
        return cls(path, shape, dtype, writable=True)

    def state(self) -> tuple[int, ...]:
        """What differs once the file was changed, or is another one."""
        found = os.fstat(self._number)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def read(self, places: Places) -> npt.NDArray[Any]:
        """A fresh array of these rows, in this order.

        Raises:
            OSError: the file is cut short or cannot be read.
        """
        made = np.empty((len(places), *self.shape[1:]), self.dtype)
        if made.nbytes:
            into = made.reshape(-1).view(np.uint8).data
            for start, stop, place in _runs(places):
                self._read_into(into[start * self.each : stop * self.each], self._at(place))
        return made

    def write(self, places: Places, rows: npt.NDArray[Any]) -> None:
        """Put rows at these places.

        Raises:
            OSError: the file cannot be written.
        """
        flat = np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8)
        if flat.nbytes != len(places) * self.each:
            raise ValueError(f"{len(places)} rows of {self.each} bytes, but {flat.nbytes} bytes")
        content = flat.data
        for start, stop, place in _runs(places):
            self._write_from(content[start * self.each : stop * self.each], self._at(place))

    def announce(self, places: Places) -> None:
        """Tell the system what is read next, so that it can fetch it all at once."""
        try:
            for place in places.tolist():
                os.posix_fadvise(self._number, self._at(place), self.each, os.POSIX_FADV_WILLNEED)
        except (AttributeError, OSError):
            # Not every system takes this advice, and nothing depends on it.
            return

    def sync(self) -> None:
        """Wait until the rows are on the disk."""
        os.fsync(self._number)

    def close(self) -> None:
        """Close the file; it cannot be used afterwards."""
        self._closed()

    def _at(self, place: int) -> int:
        if not 0 <= place < self.shape[0]:
            raise IndexError(f"row {place} of {self.shape[0]}")
        return self.offset + place * self.each

    def _read_into(self, buffer: memoryview, at: int) -> None:
        done = 0
        while done < len(buffer):
            if hasattr(os, "preadv"):
                count = os.preadv(self._number, [buffer[done:]], at + done)
            else:
                with self._turn:
                    os.lseek(self._number, at + done, os.SEEK_SET)
                    block = os.read(self._number, len(buffer) - done)
                count = len(block)
                buffer[done : done + count] = block
            if count == 0:
                raise OSError(errno.EIO, "it is cut short")
            done += count

    def _write_from(self, content: memoryview, at: int) -> None:
        done = 0
        while done < len(content):
            if hasattr(os, "pwrite"):
                done += os.pwrite(self._number, content[done:], at + done)
            else:
                with self._turn:
                    os.lseek(self._number, at + done, os.SEEK_SET)
                    done += os.write(self._number, content[done:])


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(shape),
    }
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def _runs(places: Places) -> Iterator[tuple[int, int, int]]:
    """Start and stop of places that follow each other, and the first of them."""
    if not len(places):
        return
    edges = np.flatnonzero(np.diff(places) != 1) + 1
    starts = [0, *edges.tolist()]
    stops = [*edges.tolist(), len(places)]
    yield from zip(starts, stops, places[starts].tolist(), strict=True)


def _allocate(file: Any, start: int, size: int) -> None:
    """Give a file its space, so that a full disk is told before any work."""
    try:
        if size:
            os.posix_fallocate(file.fileno(), start, size)
    except (AttributeError, OSError) as error:
        # Some systems and some file systems do not have this call.
        if isinstance(error, OSError) and error.errno not in _NO_SUCH_CALL:
            raise
        zeros = bytes(_BLOCK)
        for at in range(0, size, _BLOCK):
            file.write(zeros[: size - at])
