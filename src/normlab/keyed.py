"""Randomness that is keyed, never streamed.

Every draw comes from a key: the seed, the purpose, and whatever else it belongs to (epoch, image,
parameter). One draw more in one place therefore changes nothing in another, and arms that differ
in normalization start from the same weights and see the same batches.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Key = int


def key(*parts: int | str) -> Key:
    """A 64-bit key for these parts, the same on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def rng(*parts: int | str) -> np.random.Generator:
    """A NumPy generator that belongs to these parts alone."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def hash_each(base: Key, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One 64-bit hash for each id under the key ``base``, without a loop (splitmix64).

    This is how every image of a batch gets draws of its own that do not depend on the batch.
    """
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(base)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
