"""What every source provides: names, labels and splits at once, pixels on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]

FRACTIONS: Mapping[str, float] = MappingProxyType({"val": 0.15, "test": 0.15})
"""The shares of train that become val and test, for most sources."""


@dataclass(frozen=True)
class Listing:
    """A source, listed.

    Attributes:
        kind: ``digits``, ``folder``, ``idx`` or ``cifar``.
        source: its name in files: a resolved path, or ``digits``.
        name: short, for folder names and titles.
        channels: 1 or 3.
        names: path of each image inside the source, in the order of splits and names.
        labels: index of each image's class.
        found: rows of each split that the source has; all rows are under train if it has none.
        stamp: what distinguishes one version of the files from another, one row per image or file.
        root: the folder below which the names are paths of files; None for arrays.
        arrays: for array sources, all images as (n, H, W, C), read when first needed.
        side: for array sources, the shorter side of the images; ``longer_side`` the other, if it
            differs.
        has_splits: whether the source itself has a train split.
        fractions: shares of train that become val and test where the source lacks them and
            nobody asks for others.
    """

    kind: str
    source: str
    name: str
    classes: tuple[str, ...]
    channels: int
    names: list[str]
    labels: npt.NDArray[np.int64]
    found: Mapping[str, npt.NDArray[np.int64]]
    stamp: npt.NDArray[np.int64]
    root: Path | None = None
    arrays: Callable[[], Images] | None = None
    side: int | None = None
    longer_side: int | None = None
    has_splits: bool = True
    fractions: Mapping[str, float] = field(default_factory=lambda: FRACTIONS)
    notes: list[str] = field(default_factory=list)
