"""Files in the cache, kept because they cost time to make again. Any of them may be deleted."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import write_with
from ..places import cache_folder


def kept_arrays(kind: str, name: str) -> dict[str, npt.NDArray[Any]] | None:
    """Arrays that were kept, or None if they are missing or damaged."""
    with (
        suppress(OSError, ValueError, EOFError, zipfile.BadZipFile),
        (cache_folder(kind) / f"{name}.npz").open("rb") as file,
        np.load(file) as kept,
    ):
        return dict(kept)
    return None


def keep_arrays(kind: str, name: str, arrays: Mapping[str, Any]) -> None:
    """Keep arrays; a cache that cannot be written costs time but not the answer."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    with suppress(OSError, InputError):
        write_with(cache_folder(kind) / f"{name}.npz", write)
