"""Images of the test split that a study keeps to show in its report: ``hardest.npz``."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import write_bytes
from .layout import PICTURES


def write_pictures(study: Path, names: Sequence[str], pixels: npt.NDArray[np.uint8]) -> Path:
    """Write ``hardest.npz`` of a study: ``name`` (k,) and ``pixels`` (k, S, S, C) uint8.

    A file that is there is replaced. The same images give the same bytes.

    Raises:
        InputError: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, name=np.array(list(names), dtype=np.str_), pixels=pixels)
    path = study / PICTURES
    write_bytes(path, buffer.getvalue())
    return path


def read_pictures(study: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Name to pixels (S, S, C) of the images that a study keeps; empty where it keeps none.

    Raises:
        InputError: the file is damaged.
    """
    path = study / PICTURES
    if not path.is_file():
        return {}
    try:
        # Opened here, since NumPy leaves a damaged archive open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            names, pixels = held["name"], held["pixels"]
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    square = pixels.ndim == 4 and pixels.shape[1] == pixels.shape[2] and pixels.shape[3] in (1, 3)
    if not square or pixels.dtype != np.uint8 or names.shape != pixels.shape[:1]:
        raise InputError(
            f"{path} cannot be read: it contains {pixels.dtype} pixels {pixels.shape} for names "
            f"{names.shape}, not one uint8 image (S, S, 1 or 3) per name."
        )
    return dict(zip(names.tolist(), pixels, strict=True))
