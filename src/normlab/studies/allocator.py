"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def keep_memory() -> None:
    """Ask glibc to keep freed blocks: without this every large tensor is given back to the
    system and faults its pages in again on every step. Does nothing elsewhere."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        mmap_threshold, trim_threshold = -3, -1
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, 1 << 30)
