"""What is checked: every image of a source, whichever split it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data import sources
from ..data.cache import Progress
from ..data.config import DataConfig
from ..data.dataset import DataSet, Split
from ..data.grouping import group_names
from ..data.hashes import state_and_hashes
from ..data.loading import load
from ..once import Once
from ..splits import SPLITS


@dataclass(frozen=True, eq=False)
class ImageSet(Once):
    """All images of a data set under one numbering, in the order train, val, test.

    Attributes:
        data: the data set, without any limit of images per class.
        root: the folder below which the names are paths of files; None where images come from
            arrays (digits, IDX, CIFAR).
        names: path of each image inside the source.
        labels: index of the class, int64.
        split: index into ``SPLITS``, int8.
        digests: 64-bit hash of the pixels the network sees.
        contents: 64-bit hash of the file's bytes, or of the source array's pixels.
        listing_hash: identifies the state of the source's files, whatever the splits.
        sample: at most this many training images per class were read, of the other splits in
            proportion; None for all images.
        in_source: files that the source has, whether they were read or not.
    """

    data: DataSet
    root: Path | None
    names: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int64]
    split: npt.NDArray[np.int8]
    digests: npt.NDArray[np.uint64]
    contents: npt.NDArray[np.uint64]
    listing_hash: str
    _starts: tuple[int, ...] = field(repr=False)
    sample: int | None = None
    in_source: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, by index."""
        return self.data.classes

    @property
    def skipped(self) -> Mapping[str, str]:
        """Unreadable file to the reason; these are not among the images."""
        return self.data.skipped

    @cached_property
    def drawn(self) -> tuple[str, ...]:
        """Splits that the source does not have and that were drawn from its images."""
        if self.data.config.split is not None and self.data.folds is None:
            return ()
        return tuple(name for name in SPLITS if self.data.split_policy[name] != "as found")

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """The name of each image's group by the pattern that was given; empty without one."""
        if self.data.config.group_by is None:
            return ()
        names = self.names.tolist()
        return tuple(group_names(names, self.data.config.group_by, self.data.source))

    def images(self, rows: npt.ArrayLike | slice = slice(None)) -> npt.NDArray[np.uint8]:
        """A fresh (k, S, S, C) uint8 array: the pixels the network sees, after resizing."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        size, channels = self.data.image_size, self.data.channels
        made = np.empty((len(wanted), size, size, channels), np.uint8)
        for index, name in enumerate(SPLITS):
            here = self.split[wanted] == index
            if here.any():
                split: Split = self.data.splits[name]
                made[here] = split.images(wanted[here] - self._starts[index])
        return made


def read_image_set(
    config: DataConfig,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    data: DataSet | None = None,
    listing: sources.Listing | None = None,
    sample: int | None = None,
) -> ImageSet:
    """Every image that ``config`` names; unreadable files are left out and listed.

    Args:
        config: what is asked; its ``limit_per_class`` is ignored.
        progress: called with a stage, and how many of how many images are done.
        workers: processes that decode.
        data: the data set, if it is already loaded.
        listing: of the source, where it has been listed already.
        sample: read at most this many training images per class, and of the other splits in
            proportion.

    Raises:
        InputError: when the source cannot be used at all.
    """
    whole = replace(
        config, limit_per_class=sample, limit_all_splits=sample is not None, skip_bad=True
    )
    listing = listing or sources.find(whole.source)
    data = data or load(whole, progress=progress, workers=workers, listing=listing)
    state, hashes = state_and_hashes(listing, progress)
    content = dict(zip(listing.names, hashes, strict=True))
    parts = [data.splits[name] for name in SPLITS]
    names = np.concatenate([part.names for part in parts])
    return ImageSet(
        data=data,
        root=listing.root,
        names=names,
        labels=np.concatenate([part.labels for part in parts]),
        split=np.repeat(np.arange(len(parts), dtype=np.int8), [len(part) for part in parts]),
        digests=np.concatenate([part.digests for part in parts]),
        contents=np.array([content[name] for name in names.tolist()], dtype=np.uint64),
        listing_hash=state,
        _starts=tuple(np.cumsum([0, *map(len, parts)])[:-1].tolist()),
        sample=sample,
        in_source=len(listing.names),
    )
