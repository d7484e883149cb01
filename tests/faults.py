"""Disks that fail: an error at one step of writing a file, as the system would report it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

STEPS = ("create", "write", "flush", "rename")
"""What `normlab.files.write_with` does in turn."""
ERRORS = {"no space": errno.ENOSPC, "I/O error": errno.EIO, "permission": errno.EACCES}


@contextmanager
def failing(step: str, number: int, where: str, times: int = 1) -> Iterator[list[str]]:
    """Within this block a step of writing fails for files whose path contains ``where``, the first
    ``times`` times; of what is written, half is there before the error.

    Args:
        step: one of :data:`STEPS`.
        number: the error's, such as ``errno.ENOSPC``.
        where: part of the path of the file, such as ``"run.json"`` or ``"checkpoint/"``.
        times: how often; afterwards writing works.

    Yields:
        The paths at which it failed so far.
    """
    failed: list[str] = []
    being_written = [""]
    create, flush = tempfile.mkstemp, os.fsync
    write_bytes, rename = Path.write_bytes, Path.replace

    def fails(at: str, path: str) -> bool:
        return at == step and where in path and len(failed) < times

    def fail(at: str, path: str) -> None:
        if fails(at, path):
            failed.append(path)
            raise OSError(number, os.strerror(number), path)

    def creating(*args: Any, **kwargs: Any) -> tuple[int, str]:
        if kwargs.get("suffix") != ".part":
            return create(*args, **kwargs)
        # A name ends where the limit for names written aside ends.
        being_written[0] = f"{kwargs['dir']}/{kwargs['prefix'][1:-1]}"
        fail("create", being_written[0])
        return create(*args, **kwargs)

    def writing(aside: Path, content: bytes) -> int:
        if aside.suffix == ".part" and fails("write", being_written[0]):
            write_bytes(aside, content[: len(content) // 2])
            fail("write", being_written[0])
        return write_bytes(aside, content)

    def writing_text(aside: Path, text: str, **how: Any) -> int:
        return writing(aside, text.encode(how["encoding"], errors=how.get("errors", "strict")))

    def flushing(descriptor: int) -> None:
        fail("flush", being_written[0])
        flush(descriptor)

    def renaming(aside: Path, target: Path) -> Path:
        fail("rename", str(target) if aside.suffix == ".part" else "")
        return rename(aside, target)

    with (
        mock.patch.object(tempfile, "mkstemp", creating),
        mock.patch.object(os, "fsync", flushing),
        mock.patch.object(Path, "write_bytes", writing),
        mock.patch.object(Path, "write_text", writing_text),
        mock.patch.object(Path, "replace", renaming),
    ):
        yield failed
