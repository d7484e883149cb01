"""Files in the cache, kept because they cost time to make again. Any of them may be deleted."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import write_with


def cache_folder(kind: str) -> Path:
    """Where the cache keeps things of this kind.

    It is under NORMLAB_CACHE, or in the user's cache. A user without a home has it in the folder
    for temporary files.

    Raises:
        InputError: there is no place that is this user's alone.
    """
    import platformdirs

    chosen = os.environ.get("NORMLAB_CACHE")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute() / kind
        return Path(platformdirs.user_cache_dir("normlab")) / kind
    except RuntimeError as error:  # no home, as for a user whom the system does not know
        if chosen:
            raise InputError(
                f"NORMLAB_CACHE is {chosen}, but there is no home folder. Set it to a full path."
            ) from error
    return _own_temporary_folder() / kind


def _own_temporary_folder() -> Path:
    """A folder that no one else can have put files into."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    made = Path(tempfile.gettempdir()) / f"normlab-{user}"
    with suppress(OSError):
        made.mkdir(mode=0o700)
    try:
        status = made.lstat()
        safe = stat.S_ISDIR(status.st_mode) and (status.st_uid, status.st_mode & 0o022) == (user, 0)
    except OSError:
        safe = False
    if not safe:
        raise InputError(
            f"There is no home folder for the cache, and {made} cannot be used. Set the variable "
            "NORMLAB_CACHE to a folder of your own."
        )
    return made


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
