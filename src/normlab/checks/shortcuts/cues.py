"""Cues: numbers about an image that say little or nothing about the object in it.

Some are outside the object altogether: how the picture was turned or padded, how large the file was
and how it was compressed, what it is called. Others may come from the object as well: a crow is
dark. File size is one of these: at a given size and quality it follows the texture of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ..image_set import ImageSet
from ..measures.filenames import FileNames, file_names
from ..measures.frames import Frames, plain_ground
from ..measures.headers import Headers, headers
from ..measures.pixels import PixelMeasures, pixel_measures

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cue:
    """One kind of numbers, one row per image.

    Attributes:
        name: in kebab case.
        title: plain words that fit after "from" in a sentence.
        values: (n, k) float32; codes of categories are whole numbers.
        outside: whether it is outside the object.
        seen: whether it can reach a network through the pixels.
    """

    name: str
    title: str
    values: Values
    outside: bool
    seen: bool


def cues(image_set: ImageSet, *, progress: Progress | None = None) -> tuple[Cue, ...]:
    """All cues of a source; those of files only if images are files.

    Corners and padding in the colour of a plain background (:func:`~.frames.plain_ground`) are left
    out: the edges there belong to the objects.
    """
    measures = pixel_measures(image_set, progress=progress)
    ground = plain_ground(measures.frames, image_set.labels, len(image_set.classes))
    found = _of_pixels(measures, measures.frames.without(ground))
    about = headers(image_set, progress=progress)
    if about is not None:
        named = file_names(image_set.names.tolist(), image_set.labels, image_set.classes)
        found += [*_of_files(about), *_of_names(named)]
    return tuple(found)


def _of_pixels(measures: PixelMeasures, frames: Frames) -> list[Cue]:
    turned, padded = frames.turned, frames.padded
    found = [
        _cue(
            "filled-corners",
            "filled corners",
            np.where(turned, frames.colour, -1),
            frames.corners & turned[:, None],
            outside=True,
        ),
        _cue(
            "padding",
            "bars along the sides",
            np.where(padded, frames.colour, -1),
            np.where(padded[:, None], frames.bars, 0),
            outside=True,
        ),
        _cue("brightness", "mean brightness", measures.brightness),
        _cue("contrast", "contrast", measures.contrast),
        _cue("sharpness", "sharpness", measures.sharpness),
        _cue(
            "borders",
            "border pixels and corners",
            measures.borders,
            measures.black,
            measures.white,
        ),
    ]
    if measures.colour.shape[1] > 1:
        found += [
            _cue("colour", "mean colour", measures.colour),
            _cue("colourfulness", "colourfulness", measures.colourfulness),
        ]
    return found


def _of_files(about: Headers) -> list[Cue]:
    area = np.maximum(about.width * about.height, 1)
    return [
        _cue(
            "image-size",
            "image width and height",
            about.width,
            about.height,
            about.width / np.maximum(about.height, 1),
            outside=True,
        ),
        _cue(
            "compression",
            "file format and compression",
            about.format,
            about.quality,
            about.subsampling,
            about.progressive,
            about.channels,
            outside=True,
        ),
        _cue("bytes", "file size", about.size, about.size / area),
        _cue(
            "metadata",
            "file metadata",
            about.metadata,
            outside=True,
            seen=False,
        ),
    ]


def _of_names(named: FileNames) -> list[Cue]:
    """A name that only repeats the class says nothing more than the folder. It counts as the most
    common of the other names, so that it neither stands out itself nor makes others stand out."""
    word, style = (_without_own(codes[:, None], named.own) for codes in (named.word, named.style))
    return [
        _cue("name-words", "the first word of the file name", word, outside=True, seen=False),
        _cue(
            "name-style",
            "the style of the file name",
            style,
            _without_own(named.shape, named.own),
            named.extension,
            outside=True,
            seen=False,
        ),
    ]


def _without_own(rows: npt.NDArray[Any], own: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Rows (n, k) in which those of own names are the most common of the rest."""
    if own.all():
        return np.zeros_like(rows)
    known, counts = np.unique(rows[~own], axis=0, return_counts=True)
    return np.where(own[:, None], known[counts.argmax()], rows)


def _cue(
    name: str,
    title: str,
    *columns: npt.NDArray[np.generic],
    outside: bool = False,
    seen: bool = True,
) -> Cue:
    values = np.column_stack(columns).astype(np.float32)
    return Cue(name, title, values, outside, seen)
