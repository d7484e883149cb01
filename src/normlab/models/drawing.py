"""Generators that code which is not ours draws from, seeded by a key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..keyed import key


def seed_generators(*parts: int | str) -> None:
    """Seed the global generators of torch (on every device), NumPy and Python with a key.

    Draws of ours never come from them. A layer of a person's own may draw there, and this makes
    its draws those of the key.
    """
    seed = key(*parts)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the global generators back to where they were when the context ends."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    numpy, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)


@contextmanager
def drawn_by(*parts: int | str) -> Iterator[None]:
    """What is drawn in the context depends on these parts alone, and nothing outside of it does.

    >>> with drawn_by(0, "example"):
    ...     first = torch.rand(1)
    >>> with drawn_by(0, "example"):
    ...     bool(first == torch.rand(1))
    True
    """
    with generators_kept():
        seed_generators(*parts)
        yield
