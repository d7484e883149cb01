"""What the header of every image file says; no pixels are decoded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ...pages.words import visible
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
_TAGS = (0x0131, 0x010F, 0x0110)
_TAG_WORDS = ("program", "maker", "camera")
_SHOWN = 40
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
        saved: code of how the picture was saved: format, mode, quantization tables, subsampling of
            colours, order of the scans.
        stated: code of what the file states besides the picture: resolution, colour profile,
            comment, and the EXIF tags of the program and the camera.
        ways: how pictures were saved, by code, in words; ``statements`` likewise.
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
    saved: Ints
    stated: Ints
    ways: tuple[str, ...]
    statements: tuple[str, ...]


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
    qualities = _qualities(np.array(columns[5], dtype=np.int64))
    saved, ways = _coded(
        [(*way, int(quality)) for way, quality in zip(columns[10], qualities, strict=True)]
    )
    stated, statements = _coded(columns[11])
    return Headers(
        read=np.array(columns[0], dtype=np.bool_),
        width=np.array(columns[1], dtype=np.int64),
        height=np.array(columns[2], dtype=np.int64),
        size=np.array(columns[3], dtype=np.int64),
        format=np.array([code[name] for name in columns[4]], dtype=np.int64),
        quality=qualities,
        subsampling=np.array(columns[6], dtype=np.int64),
        progressive=np.array(columns[7], dtype=np.bool_),
        channels=np.array(columns[8], dtype=np.int64),
        metadata=np.array(columns[9], dtype=np.bool_).reshape(-1, len(METADATA)),
        formats=formats,
        saved=saved,
        stated=stated,
        ways=tuple(map(_way_in_words, ways)),
        statements=tuple(map(_statement_in_words, statements)),
    )


def _coded(values: Sequence[tuple[Any, ...]]) -> tuple[Ints, list[tuple[Any, ...]]]:
    """A code for each value, and the values by code."""
    code: dict[tuple[Any, ...], int] = {}
    codes = [code.setdefault(value, len(code)) for value in values]
    return np.array(codes, dtype=np.int64), list(code)


def _way_in_words(way: tuple[Any, ...]) -> str:
    kind, mode, _, shared, progressive, quality = way
    if kind != "JPEG":
        return f"{kind}, {mode}"
    parts = [f"JPEG of quality {quality}"]
    if shared:
        parts.append({1: "full colour", 2: "4:2:2 colour", 4: "4:2:0 colour"}.get(shared, mode))
    if progressive:
        parts.append("progressive")
    return ", ".join(parts)


def _statement_in_words(statement: tuple[Any, ...]) -> str:
    resolution, profile, comment, *tags = statement
    parts = [f"{name} {value}" for name, value in zip(_TAG_WORDS, tags, strict=True) if value]
    if comment:
        parts.append(f"comment {comment}")
    if resolution:
        parts.append(f"resolution {resolution}")
    if profile:
        parts.append("a colour profile")
    return ", ".join(parts) or "nothing"


def _qualities(sums: Ints) -> Ints:
    """Qualities by the sums of the tables; 0 for a sum of 0."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = np.clip((np.ravel(_TABLE) * scale[:, None] + 50) // 100, 1, 255)
    nearest = np.abs(tables.sum(1) - sums[:, None]).argmin(1) + 1
    return np.where(sums > 0, nearest, 0)


_UNREAD = (
    False, 0, 0, 0, "unknown", 0, 0, False, 0, (False,) * len(METADATA),
    ("unknown", "", "", 0, False), ("",) * (3 + len(_TAGS)),
)  # fmt: skip


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
                (kind, image.mode, _digest(tables), shared, bool(info.get("progressive"))),
                _stated(image),
            )
    except Exception:
        return _UNREAD


def _digest(tables: dict[int, Any]) -> str:
    """Names the quantization tables of a JPEG."""
    if not tables:
        return ""
    text = repr([(number, list(tables[number])) for number in sorted(tables)])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _stated(image: Any) -> tuple[str, ...]:
    """Resolution, a digest of the colour profile, comment, and ``_TAGS`` of EXIF."""
    info = image.info
    profile = info.get("icc_profile") or b""
    # What cannot be read says nothing, and the rest of the header still counts.
    try:
        resolution = "x".join(f"{float(value):.0f}" for value in info.get("dpi", ()))
        exif = dict(image.getexif()) if "exif" in info else {}
    except Exception:
        resolution, exif = "", {}
    return (
        resolution,
        hashlib.blake2b(profile, digest_size=8).hexdigest() if profile else "",
        _text(info.get("comment", "")),
        *(_text(exif.get(tag, "")) for tag in _TAGS),
    )


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return visible(text.strip("\0 ")[:_SHOWN])
