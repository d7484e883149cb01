"""Reading what may come from a stranger: bounded in size, depth and time, and never a pipe.

A file is opened only if it is a regular one, so that a named pipe or a device can neither block nor
go on for ever. What is parsed is bounded before it is parsed.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import tomllib
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import InputError

if TYPE_CHECKING:  # NumPy takes a tenth of a second, which most commands need not wait for
    import numpy.typing as npt

JSON_BYTES = 16 << 20
TOML_BYTES = 1 << 20
DEPTH = 50
"""Levels of lists and objects within each other."""
_KEY_PARTS = 20
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_KEY_PARTS},}}")
"""A dotted key costs time and memory that grow with the square of its parts."""
_QUOTED = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading if it is a regular one; links are followed.

    Raises:
        InputError: it does not exist, is something else, or cannot be opened.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a device can have effects
            raise InputError(f"{path} is {_kind(path.stat().st_mode)}, not a file.")
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {said}.") from error
    opened = os.fdopen(descriptor, "rb")
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        opened.close()
        raise InputError(f"{path} is {_kind(mode)}, not a file.")
    return opened


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        InputError: it is missing, no regular file, larger, or cannot be read.
    """
    with open_regular(path) as opened:
        try:
            content = opened.read(most + 1)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > most:
        raise InputError(f"{path} is larger than {_size(most)}, which no such file should be.")
    return content


def parse_json(content: bytes, name: str | Path) -> Any:
    """Parse JSON. NaN, infinity, names that occur twice, and text that is not Unicode are refused.

    Raises:
        InputError: ``name`` is not such JSON.
    """
    try:
        text = content.decode("utf-8")
        _check_depth(_QUOTED.sub(b"", content))
        parsed = json.loads(text, parse_constant=_refused, object_pairs_hook=_once_each)
        if re.search(r"\\u[dD][89a-fA-F]", text):
            json.dumps(parsed, ensure_ascii=False).encode()  # half of a surrogate pair fails
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} cannot be read: {_told(error)}.") from error
    return parsed


def parse_toml(content: bytes, name: str | Path) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        InputError: ``name`` is not TOML, or nested deeper than anything of ours.
    """
    try:
        text = content.decode("utf-8")
        if _LONG_KEY.search(text):
            raise ValueError(f"a key has more than {_KEY_PARTS} parts")
        parsed = tomllib.loads(text)
        _check_levels(parsed, DEPTH)
        return parsed
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} cannot be read: {_told(error)}.") from error


def parse_arrays(
    content: bytes, name: str | Path, most: int, members: Collection[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` archive, or those of ``members`` that it has.

    Sizes are checked before anything is unpacked: those that the archive states, those that the
    arrays state, and that the two agree. There is never a pickle.

    Args:
        content: of the file.
        name: for messages.
        most: bytes that all arrays may have together.
        members: names of the arrays that are wanted; all by default.

    Raises:
        InputError: it is not such an archive, or larger.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [
                info
                for info in archive.infolist()
                if members is None or info.filename.removesuffix(".npy") in members
            ]
            if sum(info.file_size for info in infos) > most:
                raise ValueError(f"it would unpack to more than {_size(most)}")
            for info in infos:
                with archive.open(info) as member:
                    key = info.filename.removesuffix(".npy")
                    if key in found:
                        raise ValueError(f"it has two arrays {key}")
                    found[key] = _array(member.read(info.file_size + 1))
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError,
            OverflowError, MemoryError, SyntaxError, TypeError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise InputError(f"{name} cannot be read: {_told(error)}.") from error
    return found


def _array(content: bytes) -> npt.NDArray[Any]:
    import numpy as np

    opened = io.BytesIO(content)
    version = np.lib.format.read_magic(opened)
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}.get(version)  # fmt: skip
    if read is None:
        raise ValueError(f"an array has the format {version}")
    shape, _, kind = read(opened)
    if kind.hasobject:
        raise ValueError("an array holds Python objects")
    stated = math.prod(shape) * kind.itemsize
    if stated != len(content) - opened.tell():
        raise ValueError(f"an array states {stated:,} bytes")
    opened.seek(0)
    array: npt.NDArray[Any] = np.lib.format.read_array(opened, allow_pickle=False)
    return array


def _check_depth(content: bytes) -> None:
    """Deeper content would be refused only once something recurses into it."""
    if content.count(b"[") + content.count(b"{") <= DEPTH:
        return
    import numpy as np

    signs = np.frombuffer(content, dtype=np.uint8)
    opened = ((signs == ord("[")) | (signs == ord("{"))).astype(np.int32)
    closed = (signs == ord("]")) | (signs == ord("}"))
    if int((opened - closed).cumsum().max()) > DEPTH:
        raise ValueError(f"it has more than {DEPTH} levels")


def _check_levels(content: Any, left: int) -> None:
    if not left:
        raise ValueError(f"it has more than {DEPTH} levels")
    if isinstance(content, (dict, list)):
        for one in content.values() if isinstance(content, dict) else content:
            _check_levels(one, left - 1)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.60} occurs twice in one object")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return kind
    return "something else"


def _told(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, UnicodeError):
        return "it is not Unicode text"
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _size(count: int) -> str:
    return f"{count / (1 << 20):g} MiB"
