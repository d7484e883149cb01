"""Tensors in what a network gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors(output: Any) -> Iterator[Tensor]:
    """Tensors of floating-point numbers in an output: itself, or those in it, in order."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.numel():
            yield output
    elif isinstance(output, Mapping):
        for one in output.values():
            yield from tensors(one)
    elif isinstance(output, (list, tuple)):
        for one in output:
            yield from tensors(one)
