"""Files in the cache, kept because they cost time to make again. Any of them may be deleted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import read_arrays, write_arrays
from ..places import cache_folder

_log = logging.getLogger("normlab")
_MOST = 1 << 30
"""Bytes of arrays. The groups of ten million images take a sixth."""


def kept_arrays(
    kind: str, name: str, again: Callable[[], object] | None = None
) -> dict[str, npt.NDArray[Any]] | None:
    """Arrays that were kept, or None if they are missing.

    Damaged ones are removed, and the log says so. Where the caller would not make them again by
    itself, ``again`` does, and keeps them.
    """
    path = cache_folder(kind) / f"{name}.npz"
    try:
        if not path.exists():
            return None
        return read_arrays(path, _MOST)
    except (InputError, OSError) as error:
        _log.warning("%s What it held is worked out again.", error)
    with suppress(OSError):
        path.unlink()
    if again is None or path.exists():
        return None
    again()
    return kept_arrays(kind, name)


def keep_arrays(kind: str, name: str, arrays: Mapping[str, Any]) -> None:
    """Keep arrays; a cache that cannot be written costs time but not the answer."""
    if sum(np.asarray(array).nbytes for array in arrays.values()) > _MOST // 2:
        return
    try:
        write_arrays(cache_folder(kind) / f"{name}.npz", arrays)
    except (OSError, InputError) as error:
        _log.debug("not kept: %s", error)
