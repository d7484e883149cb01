"""A data set: three splits over one memory map of uint8 pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .config import DataConfig
from .levels import NO_LEVELS, Levels

_SHARE_OF_MEMORY = 0.5


class Pixels:
    """The cached images, (n, S, S, C) uint8; only the path travels to another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: npt.NDArray[np.uint8] | None = None

    @property
    def map(self) -> npt.NDArray[np.uint8]:
        if self._map is None:
            try:
                self._map = np.load(self.path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise InputError(
                    f"The cached images {self.path} cannot be opened ({error}). Load the data "
                    "again to rebuild them."
                ) from error
        return self._map

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """A copy of these rows, in this order."""
        pixels = self.map
        if pixels.nbytes > _SHARE_OF_MEMORY * _memory():
            self._announce(rows)
        return pixels[rows]

    def _announce(self, rows: npt.NDArray[np.int64]) -> None:
        """Tell the system what is read next. A page that it has to fetch unprepared brings its
        surroundings along, which are other images, and evicts what is in memory."""
        each = self.map[0].nbytes
        try:
            with self.path.open("rb") as file:
                start = self.path.stat().st_size - self.map.nbytes
                for row in rows.tolist():
                    os.posix_fadvise(
                        file.fileno(), start + row * each, each, os.POSIX_FADV_WILLNEED
                    )
        except (AttributeError, OSError):
            # Not every system takes this advice, and nothing depends on it.
            return

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, state: Path) -> None:
        self.path = state
        self._map = None


def _memory() -> int:
    """Bytes of the machine's memory; unlimited if the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split, in the order of their names.

    Attributes:
        names: path of each image inside the source.
        labels: index of the class, int64.
        ids: 64-bit hash of the name, the image's key for every random draw.
        digests: 64-bit hash of the cached pixels; equal pixels have equal digests.
    """

    names: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[np.uint64]
    digests: npt.NDArray[np.uint64]
    _rows: npt.NDArray[np.int64] = field(repr=False)
    _pixels: Pixels = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: npt.ArrayLike | slice = slice(None)) -> npt.NDArray[np.uint8]:
        """A fresh (k, S, S, C) uint8 array of these rows of the split."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows, dtype=np.int64).reshape(-1)
        return self._pixels.read(self._rows[rows])

    def __getstate__(self) -> dict[str, Any]:
        # NumPy uses four bytes per character and pads to the longest name; a path has no NUL.
        return {**self.__dict__, "names": "\0".join(self.names.tolist()).encode()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        names = np.array(state["names"].decode().split("\0"), dtype=np.str_)
        self.__dict__.update(state, names=names)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Three splits, the classes, and the pixel statistics. It is pickled without the pixels.

    Attributes:
        config: what was asked for, with the source resolved; loading it again gives this data set.
        source: ``digits`` or the resolved folder.
        kind: ``digits``, ``folder``, ``idx`` or ``cifar``.
        name: short, for folder names and titles.
        mean: per channel on the 0..1 scale, over the pixels of the training split alone.
        std: likewise; 1 for a channel that is constant.
        fingerprint: hash of classes, resize rule, and each split's names, labels and pixels.
        notes: plain sentences about what was drawn, limited or skipped.
        skipped: file to the reason why it was left out.
        levels: black and white of grey values of more than 8 bits.
    """

    config: DataConfig
    source: str
    kind: str
    name: str
    classes: tuple[str, ...]
    channels: int
    image_size: int
    splits: Mapping[str, Split]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    notes: tuple[str, ...]
    resize_rule: str
    split_policy: Mapping[str, str]
    split_seed: int
    limit_per_class: int | None
    skipped: Mapping[str, str]
    levels: Levels = NO_LEVELS

    def describe(self) -> dict[str, Any]:
        """Everything but the images, ready for JSON."""
        counts = {
            name: dict(
                zip(
                    self.classes,
                    np.bincount(split.labels, minlength=len(self.classes)).tolist(),
                    strict=True,
                )
            )
            for name, split in self.splits.items()
        }
        return {
            "source": self.source,
            "kind": self.kind,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "classes": list(self.classes),
            "counts": counts,
            "images": {name: len(split) for name, split in self.splits.items()},
            "image_size": self.image_size,
            "channels": self.channels,
            "resize_rule": self.resize_rule,
            "split_policy": dict(self.split_policy),
            "split_seed": self.split_seed,
            "limit_per_class": self.limit_per_class,
            "mean": list(self.mean),
            "std": list(self.std),
            "skipped": dict(self.skipped),
            "levels": asdict(self.levels),
            "notes": list(self.notes),
            "config": asdict(self.config),
        }
