"""Weights on disk (safetensors), read only once their sizes are known to be those of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ..bounded import open_regular, parse_json
from ..errors import InputError
from ..seals import DamagedError, digest
from .resnet import WIDTHS

_HEADER_BYTES = 16 << 20
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
          "BOOL": 1}  # fmt: skip
_AGAIN = "Copy it again, or repeat the run."


@dataclass(frozen=True)
class Stored:
    """A file of weights, not read any further than its header.

    Attributes:
        path: the file.
        content: its bytes.
        shapes: name to shape of every tensor.
    """

    path: Path
    content: bytes
    shapes: Mapping[str, tuple[int, ...]]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors.

        Raises:
            InputError: the file is not what safetensors writes.
        """
        try:
            found: dict[str, Tensor] = safetensors.torch.load(self.content)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path} is damaged or not a safetensors file ({error}). {_AGAIN}"
            ) from error
        return found


def open_weights(path: Path, expected: str | None) -> Stored:
    """Read a file of weights and check its header: no tensor is larger than what the file has.

    Args:
        path: the file. It is read into memory, not mapped: a file that is truncated while it is
            mapped ends the process.
        expected: its SHA-256, if it is known.

    Raises:
        DamagedError: the file is not what was written.
        InputError: it is missing, or not a safetensors file.
    """
    with open_regular(path) as opened:
        try:
            content = opened.read()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if expected is not None and digest(content) != expected:
        raise DamagedError(path, advice=_AGAIN)
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(_HEADER_BYTES, len(content) - 8):
        raise InputError(
            f"{path} is damaged or not a safetensors file (its header is cut short). {_AGAIN}"
        )
    try:
        header = parse_json(content[8 : 8 + length], f"The header of {path}")
        shapes = {
            name: _shape(name, stated, len(content) - 8 - length)
            for name, stated in header.items()
            if name != "__metadata__"
        }
    except (InputError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or not a safetensors file ({error}). {_AGAIN}"
        ) from error
    return Stored(path, content, shapes)


def _shape(name: str, stated: Any, room: int) -> tuple[int, ...]:
    shape, (start, end) = stated["shape"], stated["data_offsets"]
    numbers = [*shape, start, end]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise ValueError(f"{name!r:.60} has impossible numbers")
    if end > room or end - start != math.prod(shape) * _BYTES[stated["dtype"]]:
        raise ValueError(f"{name!r:.60} does not have the size that it states")
    return tuple(shape)


def values_of(n: int, classes: int, in_channels: int) -> int:
    """How many values the 3x3 convolutions and the classifier of a network have, computed without
    building it: nearly all that it has.

    >>> values_of(1, 10, 3)
    74800
    """
    first, *_, last = WIDTHS
    count = 9 * in_channels * first + last * classes
    for before, width in zip((first, *WIDTHS), WIDTHS, strict=False):
        count += 9 * width * (before + (2 * n - 1) * width)
    return count
