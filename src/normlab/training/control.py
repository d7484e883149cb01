"""Threads, determinism, kernels and random state of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from ..foreign import is_custom
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


WARN, ERROR = 1, 2


@contextmanager
def controlled(config: RunConfig, *others: RunConfig) -> Iterator[None]:
    """Threads, determinism and kernels of this run, put back afterwards. ``others`` are
    configurations whose layers are called meanwhile.

    Raises:
        InputError: the kernels that it asks for cannot be used here.
    """
    asked = computed_as_asked(config)
    if config.device == "cuda":
        # cuBLAS is deterministic with this alone, and reads it when it first starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    before = torch.get_deterministic_debug_mode()
    # A layer or a network that is not ours may be compiled. Otherwise the compiler is neither told
    # nor imported.
    compiled = any(is_custom(name) for one in (config, *others) for name in one.named)
    torch.set_num_threads(config.threads)
    _set_determinism(ERROR, compiled=compiled)
    try:
        with generators_kept(), asked:
            yield
    finally:
        torch.set_num_threads(threads)
        _set_determinism(before, compiled=compiled)


def _set_determinism(mode: int, *, compiled: bool) -> None:
    """What becomes of an operation without a deterministic form: with 0 it runs, with 1 it warns
    as well, with 2 it raises. With ``compiled`` PyTorch's compiler is told too, which takes as long
    to import as PyTorch itself."""
    if compiled:
        torch.use_deterministic_algorithms(mode > 0, warn_only=mode == WARN)
    else:
        torch.set_deterministic_debug_mode(mode)
