"""An image file as Pillow gets it: reading it is bounded, whatever it says of itself.

Pillow reads headers piece by piece, and some files make it read the same piece ever again. So the
pieces are counted, and their bytes. The bounds depend on the file alone, never on the time that
something takes: a file is good or bad on every machine alike.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..bounded import open_regular
from ..errors import InputError

MAX_BYTES = 256 << 20
"""Of a file."""
MAX_PIXELS = 50_000_000
"""Of an image. Reading takes up to 8 bytes for each."""
MAX_PROGRESSIVE = 40_000_000
"""Of a progressive JPEG, whose coefficients are kept until its last scan."""
MAX_BY_FORMAT = {"JPEG2000": 25_000_000, "WEBP": 32_000_000, "AVIF": 40_000_000}
"""Of formats whose decoders take more memory."""
MAX_SIDE = 65_535
MAX_PLAIN = 8 << 20
"""Bytes of a PPM file whose values are written as text."""
MAX_FRAMES = 2000
_READS = 300_000
"""How often a file may be read from: enough for a GIF of 38 MB."""
_PIECE = 16 << 20
"""Bytes of one piece of a header."""
_HEADER = 64 << 20
"""Bytes of all pieces of a header."""
_MORE = 8 << 20
_SCANS = 2_000_000_000
"""Pixels in all scans of a progressive JPEG together. Cameras and editors make ten scans."""
_SCAN = b"\xff\xda"


class LimitError(Exception):
    """A file asks for more than is given to any; the message follows the file's name."""


class ImageFile:
    """A regular file, opened for Pillow.

    Attributes:
        size: bytes.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            LimitError: it is empty, too large, or no regular file.
            OSError: it cannot be opened.
        """
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise LimitError("is not a regular file")
        if found.st_size == 0:
            raise LimitError("is empty (0 bytes)")
        if found.st_size > MAX_BYTES:
            raise LimitError(
                f"has {found.st_size:,} bytes, above the limit of {MAX_BYTES >> 20} MiB"
            )
        try:
            self._file: BinaryIO = open_regular(path)
        except InputError as error:
            why = error.__cause__ or error.__context__
            raise why if isinstance(why, OSError) else LimitError("is not a regular file") from None
        self.size = found.st_size
        self._pixels = 0
        self._reads = self._bytes = self._scans = 0

    def decoding(self, pixels: int, *, scans: bool) -> None:
        """The header was read; what follows are the pixels.

        Args:
            pixels: how many.
            scans: whether they may come in several scans, as those of a JPEG.
        """
        self._pixels = pixels
        self._scans = 0 if scans else -1

    def read(self, count: int | None = -1) -> bytes:
        """Like that of a file.

        Raises:
            LimitError: there were too many calls, or too much was read.
        """
        asked = -1 if count is None else count
        self._reads += 1
        if self._reads > _READS:
            raise LimitError(f"has more than {_READS:,} pieces, far more than any usual image")
        header = not self._pixels
        if header and min(asked, self.size) > _PIECE:
            raise LimitError(
                f"has {asked:,} bytes of one kind of metadata, above the limit of "
                f"{_PIECE >> 20} MiB"
            )
        content = self._file.read(min(asked, self.size + 1) if asked >= 0 else -1)
        self._bytes += len(content)
        # Some formats are read whole at once.
        most = _HEADER if header and asked >= 0 else 2 * self.size + _MORE
        if self._bytes > max(most, self.size + _MORE if asked < 0 else 0):
            raise LimitError("has metadata that is read again and again, like that of no image")
        if self._pixels and self._scans >= 0:
            self._scans += content.count(_SCAN)
            if self._scans * self._pixels > _SCANS:
                raise LimitError(
                    f"is a JPEG of more than {self._scans - 1:,} scans of {self._pixels:,} pixels, "
                    "far more than any usual one"
                )
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Like that of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Like that of a file."""
        return self._file.tell()

    def close(self) -> None:
        """Like that of a file."""
        self._file.close()

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
