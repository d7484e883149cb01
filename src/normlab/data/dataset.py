"""A data set: three splits over one file of uint8 pixels."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .array_file import ArrayFile
from .config import DataConfig
from .levels import NO_LEVELS, Levels

if TYPE_CHECKING:
    from .folds import Folds

_SHARE_OF_MEMORY = 0.5


class Pixels:
    """The cached images, (n, S, S, C) uint8; only the path and the shape travel to another process.

    What is read is compared with its digests, once in a process and again after the file has been
    changed by anybody.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        self._file: ArrayFile | None = None
        self._state: object = None
        self._checked = np.zeros(shape[0], np.bool_)

    def read(
        self, rows: npt.NDArray[np.int64], digests: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.uint8]:
        """A copy of these rows, in this order.

        Args:
            rows: which.
            digests: 64-bit hash of each row's pixels.

        Raises:
            InputError: they are gone or damaged, and cannot be made again.
        """
        try:
            return self.checked(rows, digests)
        except (OSError, InputError) as error:
            self.make_again(rows, digests, error)
        try:
            return self.checked(rows, digests)
        except OSError as error:
            raise InputError(
                f"The cached images {self.path} cannot be read ({error.strerror or error})."
            ) from error

    def make_again(
        self, rows: npt.NDArray[np.int64], digests: npt.NDArray[np.uint64], error: Exception
    ) -> None:
        """Called if rows cannot be read or are not what their digests say."""
        raise InputError(f"The cached images {self.path} cannot be read: {error}.") from error

    def checked(
        self, rows: npt.NDArray[np.int64], digests: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.uint8]:
        """The rows.

        Raises:
            OSError: they cannot be read, or are not what their digests say.
            InputError: the file is gone, or is no file.
        """
        if self._file is None:
            self._file = ArrayFile(self.path, self.shape)
        state = self._file.state()
        if state != self._state:
            self._state, self._checked[:] = state, False
        if self._file.nbytes > _SHARE_OF_MEMORY * _memory():
            self._announce(self._file, rows)
        pixels: npt.NDArray[np.uint8] = self._file.read(rows)
        new = ~self._checked[rows]
        if new.any():
            if (pixel_digests(pixels[new]) != digests[new]).any():
                raise OSError(errno.EIO, "its pixels are not what was written")
            self._checked[rows[new]] = True
        return pixels

    def forget(self, path: Path) -> None:
        """Read from this file from now on."""
        self.path, self._file, self._state = path, None, None

    def _announce(self, file: ArrayFile, rows: npt.NDArray[np.int64]) -> None:
        """Tell the system what is read next, so that the disk need not wait for us in between."""
        with suppress(AttributeError, OSError):
            # Not every system takes this advice, and nothing depends on it.
            for row in rows.tolist():
                start = file.offset + row * file.each
                os.posix_fadvise(file.number, start, file.each, os.POSIX_FADV_WILLNEED)

    def __getstate__(self) -> Any:
        return self.path, self.shape

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]


def pixel_digests(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """64-bit hash (BLAKE2b) of each image's pixels."""
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little")
            for image in pixels
        ],
        dtype=np.uint64,
    )


def moments(
    sums: npt.NDArray[np.int64], squares: npt.NDArray[np.int64], pixels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel from whole numbers, exact up to the division.

    Args:
        sums: (n, C) over the pixels of each image.
        squares: likewise, of the squares.
        pixels: how many an image has.
    """
    count = len(sums) * pixels
    mean, std = [], []
    for total, square in zip(sums.sum(0).tolist(), squares.sum(0).tolist(), strict=True):
        mean.append(total / count / 255)
        # Python's integers: no rounding before the root, hence no cancellation.
        spread = count * square - total * total
        std.append((spread**0.5) / count / 255 if spread else 1.0)
    return tuple(mean), tuple(std)


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
        return self._pixels.read(self._rows[rows], self.digests[rows])

    def part(self, rows: npt.NDArray[np.int64]) -> Split:
        """These rows as a split of their own."""
        return Split(
            self.names[rows],
            self.labels[rows],
            self.ids[rows],
            self.digests[rows],
            self._rows[rows],
            self._pixels,
        )

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
        folds: which images are in which split of which run, where every run has its own splits.
            Splits, mean and std here are then those of seed 0 until :meth:`of_seed` is asked.
        fold: of :meth:`of_seed`, in words; empty without folds.
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
    folds: Folds | None = None
    fold: str = ""

    def of_seed(self, seed: int) -> DataSet:
        """What the run with this seed sees; without folds, all runs see the same.

        Raises:
            InputError: with folds, a class cannot be in every split.
        """
        if self.folds is None:
            return self
        mean, std = self.folds.moments(seed)
        splits, fold = self.folds.splits(seed), self.folds.named(seed)
        return replace(self, splits=splits, mean=mean, std=std, fold=fold)

    @property
    def tested(self) -> Split:
        """Every image that some run is tested on."""
        return self.splits["test"] if self.folds is None else self.folds.whole

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
            **({} if self.folds is None else {"folds": self.folds.describe()}),
            "config": asdict(self.config),
        }
