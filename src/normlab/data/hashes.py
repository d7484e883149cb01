"""The identity of an image: a hash of its file's bytes, whatever the file is called."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .cache import Progress
from .cache_files import keep_arrays, kept_arrays
from .sources import Listing

Hashes = npt.NDArray[np.uint64]

_FORMAT = 2
_STAGE = "Hashing files"
_EVERY = 500


def content_hashes(listing: Listing, progress: Progress | None = None) -> Hashes:
    """A 64-bit hash (BLAKE2b) for every image of a source, in the order of its names.

    All bytes of a file are hashed; of an array source, the pixels before any resizing. Equal
    contents have equal hashes; among n different ones two agree with probability n^2 / 2^65, which
    is 1e-10 for 50,000 images. A file that cannot be read is hashed by its name, so it equals no
    other.

    The hashes are kept in the cache and made again when a file's size or time changes.
    """
    name = listing_hash(listing)
    kept = kept_arrays("contents", name)
    if kept is not None and "hashes" in kept and kept["hashes"].shape == (len(listing.names),):
        return np.asarray(kept["hashes"], dtype=np.uint64)
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
    keep_arrays("contents", name, {"hashes": hashes})
    return hashes


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return f"\0unreadable\0{path}".encode()


def listing_hash(listing: Listing) -> str:
    """Identifies the state of a source's files: their names, sizes and times."""
    head = [_FORMAT, listing.kind, listing.source, len(listing.names)]
    hashed = hashlib.blake2b(json.dumps(head).encode(), digest_size=16)
    hashed.update("\0".join(listing.names).encode())
    hashed.update(np.ascontiguousarray(listing.stamp).tobytes())
    return hashed.hexdigest()
