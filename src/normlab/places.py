"""Where commands put what they make, unless told otherwise, and where the cache is."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from datetime import date
from pathlib import Path

from .errors import InputError

STUDIES = Path("studies")
RUNS = Path("runs")
CHECKS = Path("checks")
EXPLANATION = "explain"
"""Folder of a gallery, in the folder of its run or study."""


def dated(folder: Path, *parts: str) -> Path:
    """A folder named by today's date and these parts.

    >>> dated(CHECKS, "photos").name[10:]
    '-photos'
    """
    return folder / "-".join([date.today().isoformat(), *parts])


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
