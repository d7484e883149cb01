"""The cached pixels: rows of a file, compared with the digests that were taken of them."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .rows import RowFile

Digests = npt.NDArray[np.uint64]

_SHARE_OF_MEMORY = 0.5
_FEW_BYTES = 8 << 20
"""A set of so many is read once and held: a small row costs as much to read as a large one."""
_ATTEMPTS = 3


def digest_of_pixels(image: npt.NDArray[np.uint8]) -> int:
    """64 bits of BLAKE2b of an image's pixels."""
    content = np.ascontiguousarray(image).data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


class Pixels:
    """The cached images, (n, S, S, C) uint8; only the path and the digests travel to another
    process.

    A row is compared with its digest when this process reads it first, and again once the file has
    changed. Hashing every row at every reading would cost more than 2 % of a run of small networks.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], digests: Digests) -> None:
        self.path, self.shape, self.digests = path, shape, digests
        self._file: RowFile | None = None
        self._held: npt.NDArray[np.uint8] | None = None
        self._state: tuple[int, ...] = ()
        self._compared = np.zeros(0, np.bool_)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """A fresh array of these rows, in this order.

        Raises:
            InputError: they are not what was written, and could not be made again.
        """
        if self._held is None and math.prod(self.shape) <= _FEW_BYTES:
            self._held = self._read(np.arange(self.shape[0]))
        return self._read(rows) if self._held is None else self._held[rows]

    def _read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        found = ""
        for _ in range(_ATTEMPTS):
            try:
                file = self._opened()
                if file.shape[0] * file.each > _SHARE_OF_MEMORY * _memory():
                    file.announce(rows)
                pixels: npt.NDArray[np.uint8] = file.read(rows)
                damaged = self._damaged(rows, pixels)
                if damaged is None:
                    return pixels
                found = f"image {damaged} is not what was written"
            except OSError as error:
                found = error.strerror or str(error)
            file_seen, self._file = self._file, None
            self.mend(found, None if file_seen is None else file_seen.state()[:2])
            if file_seen is not None:
                file_seen.close()
        raise InputError(
            f"The cached images {self.path} are damaged as often as they are made ({found}). Set "
            "the variable NORMLAB_CACHE to a folder on another disk."
        )

    def mend(self, found: str, file: tuple[int, ...] | None) -> None:
        """Put right what was found, so that reading can be tried again.

        Args:
            found: what was wrong.
            file: device and number of the file that is damaged; None if it could not be opened.

        Raises:
            InputError: it cannot be put right.
        """
        raise InputError(
            f"The cached images {self.path} cannot be used ({found}). Load the data again to "
            "rebuild them."
        )

    def _opened(self) -> RowFile:
        if self._file is None:
            self._file = RowFile(self.path, self.shape)
            self._state = ()
        state = self._file.state()
        if state != self._state:
            self._state = state
            self._compared = np.zeros(self.shape[0], np.bool_)
        return self._file

    def _damaged(self, rows: npt.NDArray[np.int64], pixels: npt.NDArray[np.uint8]) -> int | None:
        """The first row that is not what was written."""
        new = np.flatnonzero(~self._compared[rows])
        for place in new.tolist():
            if digest_of_pixels(pixels[place]) != int(self.digests[rows[place]]):
                return int(rows[place])
        self._compared[rows[new]] = True
        return None

    def __getstate__(self) -> Any:
        return self.path, self.shape, self.digests

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]


def _memory() -> int:
    """Bytes of the machine's memory; unlimited if the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
