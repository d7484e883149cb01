"""Checksums: whether what is read is what was written.

A record (JSON, TOML, an archive of arrays) carries the SHA-256 of its own content, so that writing
it stays one step: there is no moment at which a record and its checksum are of different times. A
record that belongs to other files lists theirs. :func:`check_files` compares them.

A file without a seal was written by an earlier version or by hand. It is read, and callers can ask
:func:`is_sealed`, so that nobody is told that it was checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bounded import open_regular
from .errors import InputError

if TYPE_CHECKING:  # NumPy takes a tenth of a second, which most commands need not wait for
    import numpy as np
    import numpy.typing as npt

SEAL = "sha256"
MISSING = "it is missing"
NO_SEAL = "it has no checksum"
_JSON = re.compile(rb'(?:,\n|\n)  "sha256": "([0-9a-f]{64})"\n}\n\Z')
_TOML = re.compile(rb"^# sha256: ([0-9a-f]{64})\n\Z", re.MULTILINE)
_AROUND = ((b'\n  "sha256": "', b'"\n}\n'), (b"\n# sha256: ", b"\n"))
"""What stands around the 64 digits."""
_FEW = 2
_TEXTS = frozenset({".csv", ".json", ".toml"})
_BLOCK = 1 << 20


class DamagedError(InputError):
    """A file is not what was written.

    Attributes:
        path: the file.
        what: what was found.
    """

    def __init__(self, path: Path, found: str = "", advice: str = "") -> None:
        self.path = path
        self.what = what = found or "its content is not what normlab wrote (the SHA-256 differs)"
        missing = what.startswith(MISSING)
        self.found = (
            f"{path} is missing{what.removeprefix(MISSING)}."
            if missing
            else f"{path} is damaged or was edited: {what}{_since(path)}."
        )
        super().__init__(f"{self.found} {advice}".rstrip())


def _since(path: Path) -> str:
    try:
        moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return ""
    return f"; the file was last written on {moment:%Y-%m-%d at %H:%M} UTC"


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_for(name: str, content: bytes) -> str:
    """SHA-256 of the content of a file of this name, as :func:`digest_of` has it."""
    return digest(_plain(content) if Path(name).suffix in _TEXTS else content)


def digest_of(path: Path) -> str:
    """SHA-256 of a regular file. Of a text file, line endings do not count: tools that copy text
    between systems change them.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    hashed = hashlib.sha256()
    with open_regular(path) as opened:
        try:
            if path.suffix in _TEXTS:
                return digest_for(path.name, opened.read())
            while block := opened.read(_BLOCK):
                hashed.update(block)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return hashed.hexdigest()


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """JSON for people and programs, its last field the SHA-256 of what stands before it."""
    plain = {name: value for name, value in content.items() if name != SEAL}
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    body = text.removesuffix("}").rstrip("\n").encode("utf-8", errors="backslashreplace")
    comma = b",\n" if plain else b"\n"
    return body + comma + f'  "{SEAL}": "{digest(body)}"\n}}\n'.encode()


def sealed_toml(text: str) -> bytes:
    """TOML whose last line is a comment with the SHA-256 of the lines before."""
    body = text.encode("utf-8", errors="backslashreplace")
    if not body.endswith(b"\n"):
        body += b"\n"
    return body + f"# {SEAL}: {digest(body)}\n".encode()


def is_sealed(content: bytes) -> bool:
    """Whether JSON or TOML carries a seal."""
    plain = _plain(content)
    return bool(_JSON.search(plain) or _TOML.search(plain))


def check_seal(content: bytes, path: Path, advice: str = "") -> None:
    """Compare JSON or TOML with its seal; what has none passes.

    Raises:
        DamagedError: the content is not what was sealed.
    """
    plain = _plain(content)
    found = _JSON.search(plain) or _TOML.search(plain)
    if found is None and any(_almost(plain, *around) for around in _AROUND):
        raise DamagedError(path, "its checksum is damaged", advice)
    if found is not None and digest(plain[: found.start()]) != found[1].decode():
        raise DamagedError(path, advice=advice)


def _almost(content: bytes, before: bytes, after: bytes) -> bool:
    """Whether content ends like a seal but for a few characters: one that was damaged."""
    expected = before + bytes(64) + after
    end = content[-len(expected) :]
    differing = sum(a != b for a, b in zip(end, expected, strict=False))
    return len(end) == len(expected) and differing <= 64 + _FEW


def seal_of_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    """SHA-256 of arrays, their names, types and shapes, as an array to be kept beside them under
    the name :data:`SEAL`."""
    import numpy as np

    hashed = hashlib.sha256()
    for name in sorted(arrays):
        if name == SEAL:
            continue
        array = np.ascontiguousarray(arrays[name])
        hashed.update(json.dumps([name, array.dtype.str, list(np.shape(arrays[name]))]).encode())
        hashed.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return np.frombuffer(hashed.digest(), dtype=np.uint8)


def check_arrays(arrays: dict[str, npt.NDArray[Any]], path: Path, advice: str = "") -> None:
    """Compare arrays with their seal, and take it out.

    Raises:
        DamagedError: they are not what was sealed, or have no seal: a flipped bit in the table of
            contents of an archive can hide any of its members.
    """
    import numpy as np

    known = arrays.pop(SEAL, None)
    if known is None:
        raise DamagedError(path, NO_SEAL, advice)
    if not np.array_equal(known, seal_of_arrays(arrays)):
        raise DamagedError(path, advice=advice)


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name to SHA-256 of the files that a folder has of these."""
    return {name: digest_of(folder / name) for name in names if (folder / name).is_file()}


def check_files(folder: Path, known: Mapping[str, str], advice: str = "") -> None:
    """Compare files with what their record lists.

    Raises:
        DamagedError: one is missing or is not what was written.
    """
    for name, expected in known.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(path, MISSING, advice)
        if digest_of(path) != expected:
            raise DamagedError(path, advice=advice)


def _plain(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n")
