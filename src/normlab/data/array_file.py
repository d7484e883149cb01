"""An array in a file, read and written by rows without mapping the file into memory.

Where a mapped file is truncated by somebody else, touching it ends the process (SIGBUS). Reading it
gives an error, which can be answered.
"""

from __future__ import annotations

import errno
import io
import math
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bounded import open_regular

_NO_SUCH_CALL = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_BLOCK = 1 << 20


class ChangedError(OSError):
    """Somebody has changed the file."""


class ArrayFile:
    """A .npy file of a known shape and type, open for reading or writing.

    Attributes:
        path: the file.
        shape: of the array; rows are along its first axis.
        each: bytes of a row.
        offset: bytes before the first row.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = np.uint8,
        *,
        write: bool = False,
    ) -> None:
        """Open a file that is there.

        Raises:
            ChangedError: it is another array.
            OSError: it cannot be opened.
            InputError: likewise.
        """
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.each = math.prod(shape[1:]) * self.dtype.itemsize
        head = _header(shape, self.dtype)
        self.offset = len(head)
        if write:
            # The file must exist: a worker that outlives its builder must not create it again.
            number = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        else:
            with open_regular(path) as opened:
                number = os.dup(opened.fileno())
        self._number = number
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, os.close, number)
        if self._get(0, len(head)) != head or self.state()[0] != self.offset + self.nbytes:
            self.close()
            raise ChangedError(errno.EIO, "it is not the array that was written")

    @classmethod
    def create(
        cls, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8
    ) -> ArrayFile:
        """A new file of zeros, with its disk space allocated: a full disk is noticed here, before
        any work.

        Raises:
            OSError: it cannot be made.
        """
        head = _header(shape, np.dtype(dtype))
        total = len(head) + math.prod(shape) * np.dtype(dtype).itemsize
        with path.open("xb", buffering=0) as file:
            file.write(head)
            try:
                os.posix_fallocate(file.fileno(), 0, total)
            except (AttributeError, OSError) as error:
                # Some systems and some file systems do not have this call.
                if isinstance(error, OSError) and error.errno not in _NO_SUCH_CALL:
                    raise
                zeros = bytes(_BLOCK)
                for start in range(len(head), total, _BLOCK):
                    file.write(zeros[: total - start])
        return cls(path, shape, dtype, write=True)

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        return self.shape[0] * self.each

    @property
    def number(self) -> int:
        """The open file's, for the system's calls."""
        return self._number

    def state(self) -> tuple[int, int, int]:
        """Size and times of the open file: they differ once anybody has changed it."""
        found = os.fstat(self._number)
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """A copy of these rows, in this order.

        Raises:
            ChangedError: the file was truncated.
            OSError: the disk fails.
        """
        made = np.empty((len(rows), *self.shape[1:]), self.dtype)
        into = made.reshape(-1).view(np.uint8).data if made.size else memoryview(b"")
        # Rows that follow each other in the file are read at once.
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        start = 0
        for end in [*ends.tolist(), len(rows)] if len(rows) else []:
            part = into[start * self.each : end * self.each]
            self._fill(part, self.offset + int(rows[start]) * self.each)
            start = end
        return made

    def write(self, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        """Put values into these rows.

        Raises:
            OSError: the disk is full, or fails.
        """
        plain = np.ascontiguousarray(values, self.dtype)
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        start = 0
        for end in [*ends.tolist(), len(rows)] if len(rows) else []:
            self._put(plain[start:end].tobytes(), self.offset + int(rows[start]) * self.each)
            start = end

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._number)

    def _fill(self, into: memoryview, at: int) -> None:
        while into:
            if hasattr(os, "preadv"):
                done = os.preadv(self._number, [into], at)
            else:
                block = self._get(at, len(into))
                done = len(block)
                into[:done] = block
            if not done:
                raise ChangedError(errno.EIO, "it is cut short")
            into, at = into[done:], at + done

    def _get(self, at: int, count: int) -> bytes:
        with self._lock:
            os.lseek(self._number, at, os.SEEK_SET)
            return os.read(self._number, count)

    def _put(self, content: bytes, at: int) -> None:
        left = memoryview(content)
        while left:
            with self._lock:
                os.lseek(self._number, at, os.SEEK_SET)
                done = os.write(self._number, left)
            left, at = left[done:], at + done


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    made = io.BytesIO()
    described = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        made, {"descr": described, "fortran_order": False, "shape": shape}
    )
    return made.getvalue()
