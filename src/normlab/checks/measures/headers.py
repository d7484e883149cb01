"""What the header of every image file says; no pixels are decoded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ...processes import cores, in_turn
from ..image_set import ImageSet

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

METADATA = ("EXIF", "colour profile", "comment", "rotation flag", "resolution", "XMP")
"""Kinds of metadata, in the order of ``Headers.metadata``."""

_STAGE = "Reading file headers"
_CHUNK = 500
_FEW_FILES = 2000
_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)

# The luminance table in Annex K of ITU-T T.81 (1992), which most encoders scale.
_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class Headers:
    """One row per image.

    Attributes:
        read: whether the header could be read; what follows is 0 if it could not.
        width: in pixels, upright; ``height`` likewise.
        size: bytes of the file.
        format: index into ``formats``.
        quality: of a JPEG, estimated; 0 for other formats.
        subsampling: of a JPEG's colours: how many luma pixels share one chroma value; 0 for others.
        progressive: whether a JPEG is.
        channels: how many the file has.
        metadata: (n, 6), by ``METADATA``: whether the file has them.
        formats: names of formats.
    """

    read: npt.NDArray[np.bool_]
    width: Ints
    height: Ints
    size: Ints
    format: Ints
    quality: Ints
    subsampling: Ints
    progressive: npt.NDArray[np.bool_]
    channels: Ints
    metadata: npt.NDArray[np.bool_]
    formats: tuple[str, ...]


def headers(image_set: ImageSet, *, progress: Progress | None = None) -> Headers | None:
    """The headers of every image; None if images are not files. Read once per image set.

    The quality of a JPEG is the setting of the Independent JPEG Group's encoder, 1 to 100, whose
    luminance table has the sum closest to the file's.
    """
    root = image_set.root
    if root is None:
        return None
    return image_set.once("headers", lambda: _headers(root, image_set.names.tolist(), progress))


def _headers(root: Path, names: Sequence[str], progress: Progress | None) -> Headers:
    jobs = [(root, names[start : start + _CHUNK]) for start in range(0, len(names), _CHUNK)]
    parts: Any
    if len(names) < _FEW_FILES:
        parts = (_chunk(*job) for job in jobs)
    else:
        parts = in_turn(_chunk, jobs, cores())
    rows: list[tuple[Any, ...]] = []
    for part in parts:
        rows += part
        if progress:
            progress(_STAGE, len(rows), len(names))
    formats = tuple(sorted({row[4] for row in rows}))
    code = {name: index for index, name in enumerate(formats)}
    columns = list(zip(*rows, strict=True))
    return Headers(
        read=np.array(columns[0], dtype=np.bool_),
        width=np.array(columns[1], dtype=np.int64),
        height=np.array(columns[2], dtype=np.int64),
        size=np.array(columns[3], dtype=np.int64),
        format=np.array([code[name] for name in columns[4]], dtype=np.int64),
        quality=_qualities(np.array(columns[5], dtype=np.int64)),
        subsampling=np.array(columns[6], dtype=np.int64),
        progressive=np.array(columns[7], dtype=np.bool_),
        channels=np.array(columns[8], dtype=np.int64),
        metadata=np.array(columns[9], dtype=np.bool_).reshape(-1, len(METADATA)),
        formats=formats,
    )


def _qualities(sums: Ints) -> Ints:
    """Qualities by the sums of the tables; 0 for a sum of 0."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = np.clip((np.ravel(_TABLE) * scale[:, None] + 50) // 100, 1, 255)
    nearest = np.abs(tables.sum(1) - sums[:, None]).argmin(1) + 1
    return np.where(sums > 0, nearest, 0)


_UNREAD = (False, 0, 0, 0, "unknown", 0, 0, False, 0, (False,) * len(METADATA))


def _chunk(root: Path, names: Sequence[str]) -> list[tuple[Any, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_header(root / name) for name in names]


def _header(path: Path) -> tuple[Any, ...]:
    from ...data.decode import opened_image
    from ...data.limits import orientation as how_it_lies

    # A file may have been removed or damaged since it was decoded, and plugins raise anything.
    try:
        with opened_image(path) as (image, size):
            width, height = image.size
            kind = "JPEG" if image.format == "MPO" else image.format or "unknown"
            info = image.info
            # Asking a PNG for EXIF that it does not carry would decode it.
            orientation = how_it_lies(image) if "exif" in info else 1
            if orientation in _ON_ITS_SIDE:
                width, height = height, width
            tables = getattr(image, "quantization", None) or {}
            layers = getattr(image, "layer", None) or []
            shared = layers[0][1] * layers[0][2] if kind == "JPEG" and len(layers) > 1 else 0
            return (
                True,
                width,
                height,
                size,
                kind,
                sum(tables[0]) if kind == "JPEG" and 0 in tables else 0,
                shared,
                bool(info.get("progressive")),
                len(image.getbands()),
                (
                    "exif" in info,
                    "icc_profile" in info,
                    "comment" in info,
                    orientation != 1,
                    "dpi" in info,
                    "xmp" in info,
                ),
            )
    except Exception:
        return _UNREAD
