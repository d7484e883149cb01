"""``weights.safetensors``, read with its sizes checked before anything is allocated.

The file is read and never mapped: one that shrinks while it is mapped ends the whole process.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from ..bounded import open_regular, parse_json, read_file
from ..errors import InputError
from ..seals import DamagedError, digest, digest_of
from .info import is_whole
from .shapes import Kind

HEADER_BYTES = 16 << 20
_LENGTH = 8
"""Bytes in which the header's length is written."""
_DIMENSIONS = 8
_TYPES = {
    "BOOL": ("bool", 1), "U8": ("uint8", 1), "I8": ("int8", 1), "I16": ("int16", 2),
    "I32": ("int32", 4), "I64": ("int64", 8), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "F32": ("float32", 4), "F64": ("float64", 8),
}  # fmt: skip
ADVICE = "Copy the whole folder again, or repeat the run."


class NotWeightsError(InputError):
    """What is in the file is no safetensors, or not as much as its header says."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights whose header has been read, and nothing else.

    Attributes:
        path: of the file.
        kinds: name to type and shape of every tensor in it.
        size: of the file in bytes, which is what the header says.
    """

    path: Path
    kinds: Mapping[str, Kind]
    size: int

    @classmethod
    def opened(cls, path: Path) -> WeightsFile:
        """Read the header.

        Raises:
            NotWeightsError: it is none, or does not fit the size of the file.
            InputError: the file is missing, no regular file, or cannot be read.
        """
        with open_regular(path) as opened:
            try:
                size = opened.seek(0, 2)
                opened.seek(0)
                start = opened.read(_LENGTH)
                length = struct.unpack("<Q", start)[0] if len(start) == _LENGTH else 0
                if not 2 <= length <= min(size - _LENGTH, HEADER_BYTES):
                    raise _not_weights(path, "its header is incomplete or too long")
                header = opened.read(length)
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
        try:
            kinds, end = _checked_header(parse_json(header, "its header"))
        except ValueError as error:
            raise _not_weights(path, str(error).rstrip(".")) from error
        if _LENGTH + length + end != size:
            raise _not_weights(
                path, f"its header describes {end:,} bytes, and {size - _LENGTH - length:,} follow"
            )
        return cls(path, kinds, size)

    def read(self, known: str | None) -> dict[str, torch.Tensor]:
        """The tensors.

        Args:
            known: SHA-256 of the file when it was written, if that is known.

        Raises:
            DamagedError: the file has another SHA-256.
            InputError: it cannot be read, or has changed since its header was read.
        """
        content = read_file(self.path, self.size)
        if known is not None and digest(content) != known:
            raise DamagedError(self.path, advice=ADVICE)
        try:
            tensors: dict[str, torch.Tensor] = safetensors.torch.load(content)
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise _not_weights(self.path, str(error)) from error
        return tensors

    def check_digest(self, known: str | None) -> None:
        """Compare the file with its SHA-256, if that is known.

        Raises:
            DamagedError: it differs.
        """
        if known is not None and digest_of(self.path) != known:
            raise DamagedError(self.path, advice=ADVICE)


def _not_weights(path: Path, reason: str) -> NotWeightsError:
    return NotWeightsError(
        f"{path} is damaged or not a safetensors file ({reason:.200}). Copy it again, or repeat "
        "the run."
    )


def _checked_header(header: Any) -> tuple[dict[str, Kind], int]:
    """Type and shape of every tensor, and where the last one ends.

    Raises:
        ValueError: an entry that says something impossible, or tensors that overlap.
    """
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    kinds: dict[str, Kind] = {}
    spans = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"its header has no description of {name!r:.60}")
        shape, offsets = entry["shape"], entry["data_offsets"]
        for numbers in (shape, offsets):
            if not isinstance(numbers, list) or len(numbers) > _DIMENSIONS or not all(
                is_whole(number) and 0 <= number < 1 << 63 for number in numbers
            ):  # fmt: skip
                raise ValueError(f"the sizes of {name!r:.60} are no sizes")
        if (known := _TYPES.get(str(entry["dtype"]))) is None:
            raise ValueError(f"{name!r:.60} has a type that is not read, {entry['dtype']!r:.20}")
        dtype, width = known
        if len(offsets) != 2 or offsets[1] - offsets[0] != width * math.prod(shape):
            raise ValueError(f"{name!r:.60} has another size than its shape")
        kinds[name] = Kind(dtype, tuple(shape))
        spans.append(tuple(offsets))
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise ValueError("its tensors overlap or leave gaps")
        end = last
    return kinds, end
