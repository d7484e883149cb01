"""Standard output and error that never end the work.

Whatever reads the output may go away (``normlab compare | head``), the disk below a log may be
full, and a terminal may not have the characters that we write. None of that is a reason to stop a
study: what cannot be shown is dropped or spelled otherwise, and the results are in files.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOBase
from typing import Any, TextIO

_PLAIN = str.maketrans(
    {
        "±": "+-",
        "×": "x",
        "−": "-",
        "–": "-",
        "—": "-",
        "…": "...",
        "·": "|",
        "≤": "<=",
        "≥": ">=",
        "→": "->",
        "“": '"',
        "”": '"',
        "’": "'",
    }
)
"""Our own signs where only ASCII can be shown."""


class Output(TextIOBase):
    """A stream that drops what it cannot write.

    Attributes:
        stream: what is written to; its attributes are this one's.
        lost: why something was dropped although someone may want it, or None. A reader that has
            gone wants nothing more.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost: OSError | None = None
        self._gone = False

    def write(self, text: str) -> int:
        if not self._gone:
            try:
                self.stream.write(spelled(text, self.encoding or "utf-8"))
            except OSError as error:
                self._leave(error)
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            try:
                self.stream.flush()
            except OSError as error:
                self._leave(error)

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _leave(self, error: OSError) -> None:
        self._gone = True
        if error.errno != errno.EPIPE:
            self.lost = error
        # What is still in the stream's buffer must go somewhere when the interpreter ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def spelled(text: str, encoding: str) -> str:
    r"""Text as an encoding can show it: in other signs, or as escapes.

    >>> spelled("98 ± 1 %, Bäume", "ascii")
    '98 +- 1 %, B\\xe4ume'
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(_PLAIN) if encoding.lower() in ("ascii", "us-ascii") else text
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text


@contextmanager
def lasting_output() -> Iterator[list[OSError]]:
    """Standard output and error as :class:`Output`; afterwards, why something was lost."""
    lost: list[OSError] = []
    _fill_closed()
    before = sys.stdout, sys.stderr
    made = [None if stream is None else Output(stream) for stream in before]
    sys.stdout, sys.stderr = made
    try:
        yield lost
    finally:
        for output in filter(None, made):
            output.flush()
        sys.stdout, sys.stderr = before
        lost += [output.lost for output in filter(None, made) if output.lost is not None]


def _fill_closed() -> None:
    """Open what was closed (``>&-``): the next file opened would take its number, and whatever a
    library prints would go into that file."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
