"""Images of the test split that a study keeps beside its runs, to be shown in its report."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data import DataSet
from ..errors import InputError
from ..files import write_bytes

FILE = "hardest.npz"


def keep_pictures(study_folder: Path, dataset: DataSet, names: Sequence[str]) -> Path:
    """Write ``hardest.npz`` of a study: the pixels of these test images as the network sees them.

    It holds ``name`` (k,) and ``pixels`` (k, S, S, C) uint8. A file that is there is replaced. The
    same images give the same bytes.

    Args:
        study_folder: where.
        dataset: that the study was run on.
        names: of images of the test split.

    Raises:
        InputError: the test split has no image of such a name, or the file cannot be written.
    """
    split = dataset.splits["test"]
    row_of = {name: row for row, name in enumerate(split.names.tolist())}
    unknown = [name for name in names if name not in row_of]
    if unknown:
        raise InputError(
            f"the test split has no image {unknown[0]!r}; the data is not what the study was run on"
        )
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        name=np.array(list(names), dtype=np.str_),
        pixels=split.images([row_of[name] for name in names]),
    )
    path = study_folder / FILE
    write_bytes(path, buffer.getvalue())
    return path


def read_pictures(study_folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Name to pixels (S, S, C) of the images that a study keeps; empty where it keeps none.

    Raises:
        InputError: the file is damaged.
    """
    path = study_folder / FILE
    if not path.is_file():
        return {}
    try:
        # Opened here, since NumPy leaves a damaged archive open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            names, pixels = held["name"], held["pixels"]
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    square = pixels.ndim == 4 and pixels.shape[1] == pixels.shape[2] and pixels.shape[3] in (1, 3)
    if not square or pixels.dtype != np.uint8 or names.shape != pixels.shape[:1]:
        raise InputError(
            f"cannot read {path}: it holds {pixels.dtype} pixels {pixels.shape} of names "
            f"{names.shape}, not one uint8 image (S, S, 1 or 3) a name"
        )
    return dict(zip(names.tolist(), pixels, strict=True))
