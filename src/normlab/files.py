"""Files that are whole or not there: written aside, synced, renamed into place."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .destinations import Destination, check_permitted, destination, explained_disk_errors
from .errors import InputError

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


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people and programs: indented, keys in the given order, no NaN."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def csv_writer(opened: IO[str], columns: Sequence[str]) -> csv.DictWriter[str]:
    """A writer of CSV rows whose header is written: the one dialect of all our files."""
    writer = csv.DictWriter(opened, columns, lineterminator="\n")
    writer.writeheader()
    return writer


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the text of a CSV file; a column that a row lacks is empty."""
    buffer = io.StringIO()
    csv_writer(buffer, columns).writerows(rows)
    return buffer.getvalue()


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
            with tempfile.TemporaryDirectory(prefix="normlab-") as folder:
                aside = Path(folder) / path.name
                write(aside)
                with aside.open("rb") as written, place.opened() as stream:
                    shutil.copyfileobj(written, stream)
            return
        place.path.parent.mkdir(parents=True, exist_ok=True)
        # The longest name that a file can have leaves no room for more.
        handle, name = tempfile.mkstemp(
            prefix=f".{place.path.name[:_PREFIX]}.", suffix=".part", dir=place.path.parent
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
