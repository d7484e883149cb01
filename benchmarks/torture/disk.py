"""A file system that is really full, and a limit on the size of files."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import disks

from .rows import Row
from .scene import cached_in


def disk() -> list[Row]:
    """Each once (see ``benchmarks/disks.py``)."""
    rows = []
    for name, tried in (
        ("a real file system fills while a run is saved", disks.full_disk),
        ("no file may be as large as a checkpoint", disks.file_limit),
    ):
        row = Row(name, ("the same bits",))
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="torture-") as cache,
            cached_in(Path(cache)),
        ):
            said = tried()
        row.add(said, said)
        row.seconds = time.monotonic() - began
        rows.append(row)
    return rows
