"""The identity of an image: a hash of its file's bytes, whatever the file is called."""

from __future__ import annotations

import hashlib
import json
import uuid
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .cache import cache_folder
from .sources import Listing

Hashes = npt.NDArray[np.uint64]

_FORMAT = 1
_STAGE = "Hashing files"
_EVERY = 500


def content_hashes(
    listing: Listing, progress: Callable[[str, int, int], None] | None = None
) -> Hashes:
    """A 64-bit hash (BLAKE2b) for every image of a source, in the order of its names.

    Of a file all bytes are hashed, of an array source the pixels before any resizing. Equal
    contents have equal hashes; among n different ones two agree with probability n^2 / 2^65, which
    is 1e-10 for 50,000 images. A file that cannot be read hashes as its name, so it equals nothing.

    The hashes are kept in the cache and made anew when a file's size or time changes.
    """
    place = cache_folder("contents") / f"{listing_hash(listing)}.npy"
    with suppress(OSError, ValueError, EOFError, zipfile.BadZipFile):
        kept = np.load(place)
        if kept.dtype == np.uint64 and kept.shape == (len(listing.names),):
            return np.asarray(kept, dtype=np.uint64)
    tell = progress or (lambda stage, done, total: None)
    total = len(listing.names)
    hashes = np.empty(total, np.uint64)
    pixels = listing.arrays() if listing.arrays else None
    for row, name in enumerate(listing.names):
        if pixels is not None:
            content = np.ascontiguousarray(pixels[row]).tobytes()
        else:
            assert listing.root is not None
            content = _bytes(listing.root / name)
        hashes[row] = _hash(content)
        if row % _EVERY == 0:
            tell(_STAGE, row, total)
    tell(_STAGE, total, total)
    # A cache that cannot be written costs time, not the answer.
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with aside.open("wb") as file:
                np.save(file, hashes)
            aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)
    return hashes


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return f"\0unreadable\0{path}".encode()


def listing_hash(listing: Listing) -> str:
    """Names the state of a source's files: their names, sizes and times."""
    head = [_FORMAT, listing.kind, listing.source, len(listing.names)]
    hashed = hashlib.blake2b(json.dumps(head).encode(), digest_size=16)
    hashed.update("\0".join(listing.names).encode())
    hashed.update(np.ascontiguousarray(listing.stamp).tobytes())
    return hashed.hexdigest()
