"""Threads, determinism and random state of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..models import generators_kept
from ..runs import RunConfig


@contextmanager
def controlled(config: RunConfig) -> Iterator[None]:
    """Threads and determinism of this run, put back afterwards."""
    if config.device == "cuda":
        # cuBLAS is deterministic with this alone, and reads it when it first starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    try:
        with generators_kept():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
