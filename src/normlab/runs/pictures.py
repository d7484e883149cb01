"""Images of the test split that a study keeps to show in its report: ``hardest.npz``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bounded import parse_arrays, read_file
from ..errors import InputError
from ..files import write_arrays
from ..seals import SEAL, check_arrays
from .answers import is_text
from .layout import PICTURES

_BYTES = 128 << 20
"""24 images of 1024 px are 72 MiB."""
MOST, SIDE = 24, 1024
"""Images that a study keeps, and their largest side."""


def write_pictures(study: Path, names: Sequence[str], pixels: npt.NDArray[np.uint8]) -> Path:
    """Write ``hardest.npz`` of a study: ``name`` (k,) and ``pixels`` (k, S, S, C) uint8.

    A file that is there is replaced. The same images give the same bytes.

    Raises:
        InputError: the file cannot be written.
    """
    path = study / PICTURES
    write_arrays(path, {"name": np.array(list(names), dtype=np.str_), "pixels": pixels})
    return path


def read_pictures(study: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Name to pixels (S, S, C) of the images that a study keeps; empty where it keeps none.

    Raises:
        DamagedError: the file is not what was written.
        InputError: the file cannot be read, or cannot be checked.
    """
    path = study / PICTURES
    if not path.is_file():
        return {}
    held = parse_arrays(read_file(path, _BYTES), path, _BYTES)
    if SEAL not in held:
        raise InputError(
            f"{path} has no checksum: an earlier version of normlab wrote it, or it is damaged."
        )
    check_arrays(held, path)
    if not {"name", "pixels"} <= held.keys():
        raise InputError(f"{path} cannot be read: it has {', '.join(held)}, not name and pixels.")
    names, pixels = held["name"], held["pixels"]
    square = pixels.ndim == 4 and pixels.shape[1] == pixels.shape[2] and pixels.shape[3] in (1, 3)
    named = names.dtype.kind == "U" and names.shape == pixels.shape[:1]
    if not square or pixels.dtype != np.uint8 or not named:
        raise InputError(
            f"{path} cannot be read: it contains {pixels.dtype} pixels {pixels.shape} for names "
            f"{names.shape}, not one uint8 image (S, S, 1 or 3) per name."
        )
    if len(names) > MOST or not 1 <= pixels.shape[1] <= SIDE:
        raise InputError(
            f"{path} cannot be read: it contains {len(names):,} images of {pixels.shape[1]:,} px. "
            f"There are at most {MOST}, of 1 to {SIDE:,} px."
        )
    if not is_text(names):
        raise InputError(f"{path} cannot be read: a name is not text.")
    return dict(zip(names.tolist(), pixels, strict=True))
