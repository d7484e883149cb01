"""The identity of an image: a hash of its file's bytes, whatever the file is called."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..bounded import open_regular
from ..cache_files import keep_arrays, kept_arrays, one_at_a_time
from ..errors import InputError
from .sources import Listing

if TYPE_CHECKING:
    from .cache import Progress

Hashes = npt.NDArray[np.uint64]

_FORMAT = 3
_STAGE = "Hashing files"
_EVERY = 500
_BLOCK = 1 << 20


def content_hashes(
    listing: Listing,
    progress: Progress | None = None,
    rows: npt.NDArray[np.int64] | None = None,
) -> Hashes:
    """A 64-bit hash (BLAKE2b) for every image of a source, or for some rows, in their order.

    All bytes of a file are hashed; of an array source, the pixels before any resizing. Equal
    contents have equal hashes; among n different ones two agree with probability n^2 / 2^65, which
    is 1e-10 for 50,000 images. A file that cannot be read is hashed by its name, so it equals no
    other.

    The hashes are kept in the cache and made again when a file's size, time of modification or
    time of change differs. The last is set by the system at every change, also where the other two
    are put back, so that a file cannot be replaced unnoticed. Copied files are hashed again.
    """
    return state_and_hashes(listing, progress, rows)[1]


def state_and_hashes(
    listing: Listing,
    progress: Progress | None = None,
    rows: npt.NDArray[np.int64] | None = None,
) -> tuple[str, Hashes]:
    """What :func:`listing_hash` said before the files were hashed, and their hashes."""
    rows = np.arange(len(listing.names)) if rows is None else rows
    name = listing_hash(listing, rows)
    tell = progress or (lambda stage, done, total: None)
    known = _kept(name, len(rows))
    if known is not None:
        return name, known

    def waiting() -> None:
        tell("Waiting for another process that hashes these files", 0, len(rows))

    with one_at_a_time("contents", name, waiting):
        known = _kept(name, len(rows))
        if known is None:
            known = _hashed(listing, rows, tell)
            keep_arrays("contents", name, {"hashes": known})
    return name, known


def _kept(name: str, count: int) -> Hashes | None:
    kept = kept_arrays("contents", name)
    if kept is None or "hashes" not in kept or kept["hashes"].shape != (count,):
        return None
    return np.asarray(kept["hashes"], dtype=np.uint64)


def _hashed(listing: Listing, rows: npt.NDArray[np.int64], tell: Progress) -> Hashes:
    total = len(rows)
    hashes = np.empty(total, np.uint64)
    pixels = listing.arrays() if listing.arrays else None
    for place, row in enumerate(rows.tolist()):
        if pixels is not None:
            hashes[place] = _hash([np.ascontiguousarray(pixels[row]).tobytes()])
        else:
            assert listing.root is not None
            hashes[place] = _hash_of_file(listing.root / listing.names[row])
        if place % _EVERY == 0:
            tell(_STAGE, place, total)
    tell(_STAGE, total, total)
    return hashes


def _hash(content: Iterable[bytes]) -> int:
    hashed = hashlib.blake2b(digest_size=8)
    for block in content:
        hashed.update(block)
    return int.from_bytes(hashed.digest(), "little")


def _hash_of_file(path: Path) -> int:
    try:
        with open_regular(path) as opened:  # anything else may never end
            return _hash(iter(lambda: opened.read(_BLOCK), b""))
    except (OSError, InputError):
        return _hash([f"\0unreadable\0{path}".encode()])


def listing_hash(listing: Listing, rows: npt.NDArray[np.int64] | None = None) -> str:
    """Identifies the state of a source's files, or of some rows: their names, sizes and times."""
    rows = np.arange(len(listing.names)) if rows is None else rows
    head = [_FORMAT, listing.kind, listing.source, len(rows)]
    hashed = hashlib.blake2b(json.dumps(head).encode(), digest_size=16)
    hashed.update("\0".join([listing.names[row] for row in rows.tolist()]).encode())
    stamp = listing.stamp if listing.root is None else listing.stamp[rows]
    hashed.update(np.ascontiguousarray(stamp).tobytes())
    hashed.update(_changes(listing, rows).tobytes())
    return hashed.hexdigest()


def _changes(listing: Listing, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """When the system last saw each file change (st_ctime_ns); 0 for a file that is not there.

    Of an array source these are the files in its folder.
    """
    if listing.root is not None:
        # Joined as text: building as many paths costs more than asking for their times.
        above = f"{listing.root}{os.sep}"
        files = [above + listing.names[row] for row in rows.tolist()]
    else:
        folder, files = Path(listing.source), []
        with suppress(OSError):  # not a folder, or gone
            files = sorted(map(str, folder.iterdir()))
    return np.array([_changed(file) for file in files], dtype=np.int64)


def _changed(file: str) -> int:
    try:
        return os.stat(file).st_ctime_ns  # noqa: PTH116 - see above
    except OSError:
        return 0
