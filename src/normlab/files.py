"""Files that are whole or not there: written aside, synced, renamed into place."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import InputError


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    write_with(path, lambda aside: aside.write_text(text, encoding="utf-8"))


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
        raise InputError(f"{path} does not exist") from None
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
    """Let ``write`` fill a file next to ``path``, then rename it into place.

    A killed process leaves the old file or the new one, never half of either.
    """
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        aside = Path(name)
        try:
            write(aside)
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise


_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EFBIG: "the file would be larger than allowed here",
}


@contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn a disk that is full or not writable into one clear message."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise InputError(
            f"{path} cannot be written: {reason}. Free some space, or choose another place."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
