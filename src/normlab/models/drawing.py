"""Generators that code which is not ours draws from, seeded by a key."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..keyed import key


def seed_generators(*parts: int | str) -> None:
    """Seed the global generators of torch (on every device), NumPy and Python with a key.

    Draws of ours never come from them. A layer of a person's own may draw there, and this makes
    its draws those of the key.
    """
    seed = key(*parts)
    if _device_is_there():
        torch.manual_seed(seed)
    else:
        # The same for the CPU alone. The above would also keep the seed for devices to come, with
        # the call stack as text: most of what a small network takes to make.
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@functools.cache
def _device_is_there() -> bool:
    return torch.accelerator.is_available()


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


def generator_states(device: str) -> dict[str, torch.Tensor]:
    """Where the global generators are: torch's on the CPU and on ``device``, NumPy's, Python's.

    >>> states = generator_states("cpu")
    >>> first = torch.rand(1)
    >>> set_generator_states(states)
    >>> bool(first == torch.rand(1))
    True
    """
    kind, keys, *rest = np.random.get_state()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": _as_bytes([kind, np.asarray(keys).tolist(), *rest]),
        "python": _as_bytes(random.getstate()),
    }
    if device == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_generator_states(states: Mapping[str, torch.Tensor]) -> None:
    """The reverse of :func:`generator_states`.

    Raises:
        ValueError: these are no such states.
    """
    try:
        version, internal, gauss = _from_bytes(states["python"])
        random.setstate((version, tuple(internal), gauss))
        np.random.set_state(tuple(_from_bytes(states["numpy"])))
        torch.set_rng_state(states["torch"].cpu())
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"].cpu())
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"these are no states of generators: {error}") from error


def _as_bytes(state: object) -> torch.Tensor:
    return torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)


def _from_bytes(state: torch.Tensor) -> list[Any]:
    found: list[Any] = json.loads(bytes(state.cpu().numpy()))
    return found


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
