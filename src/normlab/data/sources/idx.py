"""IDX files, the format of MNIST, Fashion-MNIST and similar sets; gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ...bounded import open_regular
from ...errors import InputError
from ..decode import MAX_PIXELS
from .base import Images, Listing

_PREFIX = {"train": "train", "test": "t10k"}
_BLOCK = 1 << 22
_MOST = 16 << 30
"""Bytes of a file, unpacked."""
_SMALL, _PACKED = 64 << 20, 100
"""A packed file of more unpacked bytes than the one has at most that many times its own."""


@dataclass(frozen=True)
class _Header:
    path: Path
    shape: tuple[int, ...]

    @property
    def offset(self) -> int:
        return 4 + 4 * len(self.shape)


def holds(root: Path) -> bool:
    """Whether this folder contains any of the files."""
    return any(
        _called(root, prefix, what, dims)
        for prefix in _PREFIX.values()
        for what, dims in (("images", 3), ("labels", 1))
    )


def find(root: Path) -> Listing:
    """Headers and labels; the pixels are read when they are first needed."""
    headers: dict[str, _Header] = {}
    labels: dict[str, npt.NDArray[np.uint8]] = {}
    for split, prefix in _PREFIX.items():
        images_path = _called(root, prefix, "images", 3)
        labels_path = _called(root, prefix, "labels", 1)
        if images_path is None and labels_path is None and split != "train":
            continue
        if images_path is None or labels_path is None:
            what, dims = ("images", 3) if images_path is None else ("labels", 1)
            raise InputError(
                f"{root} lacks {prefix}-{what}-idx{dims}-ubyte (or the same with .gz). Add it."
            )
        headers[split], of_labels = _header(images_path, 3), _header(labels_path, 1)
        if of_labels.shape[0] != headers[split].shape[0]:
            raise InputError(
                f"{images_path} has {headers[split].shape[0]:,} images and {labels_path} has "
                f"{of_labels.shape[0]:,} labels. They do not belong together. Download both again."
            )
        labels[split] = _values(of_labels).copy()
        if headers[split].shape[1:] != headers["train"].shape[1:]:
            raise InputError(
                f"{images_path} has images of {_by(headers[split])}, {headers['train'].path} of "
                f"{_by(headers['train'])}. Every split needs the same size."
            )
    values = np.unique(labels["train"])
    if len(values) < 2:
        raise InputError(f"{root} contains only one class, {values[0]}. At least two are needed.")
    for split in labels:
        strange = np.setdiff1d(labels[split], values)
        if len(strange):
            raise InputError(
                f"The {split} labels in {root} have classes that train lacks: "
                f"{', '.join(map(str, strange[:5]))}."
            )
    names: list[str] = []
    found: dict[str, npt.NDArray[np.int64]] = {}
    for split, header in headers.items():
        found[split] = np.arange(len(names), len(names) + header.shape[0])
        names += [f"{split}/{row:05d}" for row in range(header.shape[0])]

    def arrays() -> Images:
        return np.concatenate([_values(header)[..., None] for header in headers.values()])

    status = [header.path.stat() for header in headers.values()]
    return Listing(
        kind="idx",
        source=str(root),
        name=root.name or "idx",
        classes=tuple(str(value) for value in values),
        channels=1,
        names=names,
        labels=np.searchsorted(values, np.concatenate(list(labels.values()))).astype(np.int64),
        found=found,
        stamp=np.array([(s.st_size, s.st_mtime_ns) for s in status], dtype=np.int64),
        arrays=arrays,
        side=min(headers["train"].shape[1:]),
        longer_side=max(headers["train"].shape[1:]),
    )


def _called(root: Path, prefix: str, what: str, dims: int) -> Path | None:
    for joint in ("-", "."):
        for packed in ("", ".gz"):
            path = root / f"{prefix}-{what}{joint}idx{dims}-ubyte{packed}"
            if path.is_file():
                return path
    return None


def _by(header: _Header) -> str:
    return f"{header.shape[1]} x {header.shape[2]} pixels"


def _open(path: Path) -> BinaryIO:
    opened = open_regular(path)
    if path.suffix == ".gz":
        unpacked = gzip.GzipFile(fileobj=opened)
        unpacked.myfileobj = opened  # type: ignore[assignment]  # closed along with it
        return cast(BinaryIO, unpacked)
    return opened


def _header(path: Path, dims: int) -> _Header:
    magic = bytes([0, 0, 8, dims])
    start = _read(path, 0, 4 + 4 * dims)
    if start[:4] != magic:
        raise InputError(
            f"{path} is not an IDX file of {'images' if dims == 3 else 'labels'}: it starts with "
            f"{start[:4].hex() or 'nothing'} instead of {magic.hex()}."
        )
    if len(start) < 4 + 4 * dims:
        raise InputError(f"{path} is cut short within its header. Download it again.")
    shape = tuple(int.from_bytes(start[at : at + 4], "big") for at in range(4, len(start), 4))
    if min(shape) == 0:
        raise InputError(
            f"{path} contains no {'images' if dims == 3 else 'labels'}: its shape is {shape}."
        )
    header = _Header(path, shape)
    size, expected = path.stat().st_size, math.prod(shape)
    if path.suffix != ".gz":
        _check_length(header, size - header.offset)
    elif expected > max(_SMALL, _PACKED * size):
        raise InputError(
            f"{path} announces {expected:,} values in {size:,} bytes, more than {_PACKED} times as "
            "many. It is damaged or made to fill the memory."
        )
    if expected > _MOST or math.prod(shape[1:]) > MAX_PIXELS:
        raise InputError(
            f"{path} announces {' x '.join(f'{side:,}' for side in shape)} values, more than can "
            "be read."
        )
    return header


def _check_length(header: _Header, length: int, at_least: str = "") -> None:
    expected = math.prod(header.shape)
    if length != expected:
        verb = "is cut short" if length < expected else "is too long"
        raise InputError(
            f"{header.path} {verb}: its header announces {expected:,} values, but it contains "
            f"{at_least}{length:,}. Download it again."
        )


def _values(header: _Header) -> Images:
    expected = math.prod(header.shape)
    # One byte more than expected shows whether the file is too long.
    data = _read(header.path, header.offset, expected + 1)
    _check_length(header, len(data), "at least " if len(data) > expected else "")
    return np.frombuffer(data, dtype=np.uint8).reshape(header.shape)


def _read(path: Path, offset: int, most: int) -> bytes:
    """At most this many bytes; a wrong header costs no more memory than the file has."""
    data = bytearray()
    try:
        with closing(_open(path)) as file:
            file.seek(offset)
            while len(data) < most:
                block = file.read(min(_BLOCK, most - len(data)))
                if not block:
                    break
                data += block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is damaged or cut short ({error}). Download it again.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return bytes(data)
