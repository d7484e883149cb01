"""Files that are whole or not there: written aside, synced, renamed into place."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .bounded import JSON_BYTES, parse_arrays, parse_json, read_file
from .destinations import Destination, check_permitted, destination, explained_disk_errors
from .errors import InputError
from .leftovers import mark, sweep_beside, sweep_temporary, temporary_prefix
from .seals import (
    SEAL,
    DamagedError,
    check_arrays,
    check_seal,
    is_sealed,
    seal_of_arrays,
    sealed_json,
)

if TYPE_CHECKING:
    import numpy.typing as npt

_FORMULA = re.compile("'*[ \\xa0]*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""What a spreadsheet may take for a formula, the full-width signs included."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_PREFIX = 32
"""Characters of its name that a file written aside bears."""


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    # The only characters that UTF-8 lacks are bytes of a path that are no text.
    write_with(
        path, lambda aside: aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file, whole or not at all."""
    write_with(path, lambda aside: aside.write_bytes(content))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record: JSON for people and programs, keys in the given order, no NaN, sealed (see
    :mod:`.seals`)."""
    write_bytes(path, sealed_json(content))


def read_json(path: Path, advice: str = "") -> dict[str, Any]:
    """Read a record, and compare it with its seal if it has one.

    Raises:
        DamagedError: the record is not what was written; the message ends with ``advice``.
        InputError: the file is missing, too large, or not a JSON object.
    """
    content = read_file(path, JSON_BYTES)
    check_seal(content, path, advice)
    try:
        parsed = parse_json(content, path)
    except InputError as error:
        what = f"it {str(error).removeprefix(f'{path} ').removesuffix('.')}"
        raise DamagedError(path, what, advice) from error
    if not isinstance(parsed, dict):
        raise InputError(f"{path} must be a JSON object, got {type(parsed).__name__}.")
    if SEAL in parsed and not is_sealed(content):
        raise DamagedError(path, "its checksum is damaged", advice)
    parsed.pop(SEAL, None)
    return parsed


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as a compressed, sealed ``.npz``. Equal arrays give equal bytes."""
    import numpy as np

    plain = {name: np.asarray(array) for name, array in arrays.items()}
    buffer = io.BytesIO()
    plain[SEAL] = seal_of_arrays(plain)
    np.savez_compressed(buffer, allow_pickle=False, **plain)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path, most: int, advice: str = "") -> dict[str, npt.NDArray[Any]]:
    """Read what :func:`write_arrays` wrote, at most ``most`` bytes unpacked, and compare it with
    its seal.

    Raises:
        DamagedError: the arrays are not what was written; the message ends with ``advice``.
        InputError: the file is missing, too large, or no such archive.
    """
    arrays = parse_arrays(read_file(path, most), path, most)
    check_arrays(arrays, path, advice)
    return arrays


class CsvWriter:
    """Writes CSV rows below their header: the one dialect of all our files.

    A text that a spreadsheet would run as a formula gets an apostrophe (see :func:`csv_cell`).
    """

    def __init__(self, opened: IO[str], columns: Sequence[str]) -> None:
        self._columns = columns
        self._rows = csv.writer(_Lines(opened))
        self._rows.writerow(map(csv_cell, columns))

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row; a column that it lacks is empty."""
        if not row.keys() <= set(self._columns):
            raise ValueError(f"no such columns: {sorted(row.keys() - set(self._columns))}")
        self._rows.writerow([csv_cell(row.get(column, "")) for column in self._columns])


class _Lines:
    """Ends a row with a line feed. A writer that is told to do so leaves a carriage return within
    a cell without quotes, and readers take that for the end of the row."""

    def __init__(self, opened: IO[str]) -> None:
        self._opened = opened

    def write(self, row: str) -> int:
        return self._opened.write(f"{row.removesuffix(chr(13) + chr(10))}\n")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the text of a CSV file; a column that a row lacks is empty."""
    buffer = io.StringIO()
    writer = CsvWriter(buffer, columns)
    for row in rows:
        writer.write(row)
    return buffer.getvalue()


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs: before text that begins like a formula stands an
    apostrophe, and before text that would be read back as such a cell another one. Numbers stay.

    >>> csv_cell("=cmd()"), csv_cell("'=cmd()"), csv_cell("cat"), csv_cell(-1.5), csv_cell("-1.5")
    ("'=cmd()", "''=cmd()", 'cat', -1.5, '-1.5')
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def csv_plain(cell: str) -> str:
    """The text that :func:`csv_cell` was given.

    >>> csv_plain("'=cmd()"), csv_plain("'cat'")
    ('=cmd()', "'cat'")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file, then put it where ``path`` leads (see :mod:`.destinations`).

    A file is filled next to its place and renamed into it: a killed process leaves the old file or
    the new one, never half of either. What is no file receives the content once it is complete.

    Raises:
        InputError: the path cannot be written.
    """
    place = destination(path)
    with explained_disk_errors(path):
        if place.through:
            sweep_temporary()
            with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
                aside = Path(folder) / path.name
                write(aside)
                with aside.open("rb") as written, place.opened() as stream:
                    shutil.copyfileobj(written, stream)
            return
        place.path.parent.mkdir(parents=True, exist_ok=True)
        # The longest name that a file can have leaves no room for more.
        begins = f".{place.path.name[:_PREFIX]}."
        sweep_beside(place.path.parent, begins)
        handle, name = tempfile.mkstemp(
            prefix=f"{begins}{mark()}.", suffix=".part", dir=place.path.parent
        )
        os.close(handle)
        aside = Path(name)
        try:
            write(aside)
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            _permit(aside, place)
            aside.replace(place.path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise


def _permit(aside: Path, place: Destination) -> None:
    """Give a file the owner and permissions of the one that it replaces, or a new file's."""
    if place.before is None:
        aside.chmod(0o666 & ~_umask())
        return
    check_permitted(place.path)
    with suppress(OSError, AttributeError):
        os.chown(aside, place.before.st_uid, place.before.st_gid)
    aside.chmod(stat.S_IMODE(place.before.st_mode))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
