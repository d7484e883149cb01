"""Threads, determinism, kernels and random state of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from ..models import generators_kept
from ..norms.kernels import computed_by
from ..runs import RunConfig
from .environment import kernels_of


def computed_as_asked(config: RunConfig) -> AbstractContextManager[None]:
    """Within this block layers are computed as the run says.

    Raises:
        InputError: the kernels that it asks for cannot be used here.
    """
    return computed_by(kernels_of(config))


@contextmanager
def controlled(config: RunConfig) -> Iterator[None]:
    """Threads, determinism and kernels of this run, put back afterwards.

    Raises:
        InputError: the kernels that it asks for cannot be used here.
    """
    asked = computed_as_asked(config)
    if config.device == "cuda":
        # cuBLAS is deterministic with this alone, and reads it when it first starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    try:
        with generators_kept(), asked:
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
