"""A few numbers per image, measured from the pixels the network sees in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ..image_set import ImageSet
from . import frames
from .frames import Frames

Floats = npt.NDArray[np.float32]

_STAGE = "Measuring pixels"
_NEAR = 16
_GREY_MEAN = 3.0
_GREY_LEVELS = 16
_GREY_SHARE = 0.005


@dataclass(frozen=True)
class PixelMeasures:
    """One row per image; levels are from 0 to 255.

    Attributes:
        frames: what surrounds the picture.
        black: (n, 4), by ``frames.CORNERS``: share of the pixels within 16 levels of black in the
            triangle whose legs are a quarter of the side; ``white`` likewise.
        borders: (n, 8): mean of the outermost line, by ``frames.SIDES``, then the standard
            deviation likewise.
        colour: (n, C): mean of each channel.
        brightness: (n, 1): mean of the channels' mean.
        contrast: (n, 1): standard deviation of the channels' mean.
        sharpness: (n, 2): logarithms of the variance of the Laplacian, and of that variance over
            the variance of the image.
        colourfulness: (n, 1): mean over the pixels of the largest minus the smallest channel.
        grey: no pixel has a colour, apart from compression noise: that mean is at most 3, and at
            most 0.5 % of the pixels exceed 16. Never true for images with one channel.
    """

    frames: Frames
    black: Floats
    white: Floats
    borders: Floats
    colour: Floats
    brightness: Floats
    contrast: Floats
    sharpness: Floats
    colourfulness: Floats
    grey: npt.NDArray[np.bool_]


def pixel_measures(image_set: ImageSet, *, progress: Progress | None = None) -> PixelMeasures:
    """The measures of every image; taken once per image set."""
    return image_set.once("pixels", lambda: _pixel_measures(image_set, progress))


def _pixel_measures(image_set: ImageSet, progress: Progress | None) -> PixelMeasures:
    parts = []
    step = frames.chunk(image_set.data.image_size)
    for start in range(0, len(image_set), step):
        if progress:
            progress(_STAGE, start, len(image_set))
        parts.append(_measured(image_set.images(slice(start, start + step))))
    if progress:
        progress(_STAGE, len(image_set), len(image_set))
    numbers = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
    return PixelMeasures(frames.joined(frame for frame, _ in parts), **numbers)


def _measured(images: npt.NDArray[np.uint8]) -> tuple[Frames, dict[str, npt.NDArray[np.generic]]]:
    channels = images.shape[3]
    planes = [np.ascontiguousarray(images[..., channel]) for channel in range(channels)]
    low, high = planes[0], planes[0]
    total = planes[0].astype(np.float32)
    for plane in planes[1:]:
        low, high = np.minimum(low, plane), np.maximum(high, plane)
        total += plane
    luma = total / channels
    spread = high - low
    colourfulness = spread.mean((1, 2), dtype=np.float32)
    coloured = (spread > _GREY_LEVELS).mean((1, 2))
    grey = (colourfulness <= _GREY_MEAN) & (coloured <= _GREY_SHARE) & (channels > 1)
    inner = luma[:, 1:-1, 1:-1]
    laplacian = (
        luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * inner
    )
    fine = laplacian.var((1, 2))
    contrast = luma.std((1, 2))
    lines = (luma[:, 0], luma[:, -1], luma[:, :, 0], luma[:, :, -1])
    numbers: dict[str, npt.NDArray[np.generic]] = {
        "black": _triangles(high <= _NEAR),
        "white": _triangles(low >= 255 - _NEAR),
        "borders": np.stack([line.mean(1) for line in lines] + [line.std(1) for line in lines], 1),
        "colour": np.stack([plane.mean((1, 2), dtype=np.float32) for plane in planes], 1),
        "brightness": luma.mean((1, 2))[:, None],
        "contrast": contrast[:, None],
        "sharpness": np.stack([np.log(fine + 1), np.log((fine + 1) / (contrast**2 + 1))], 1),
        "colourfulness": colourfulness[:, None],
        "grey": grey,
    }
    return frames.look(images), numbers


def _triangles(near: npt.NDArray[np.bool_]) -> Floats:
    """(n, 4): the share of each corner's triangle that is near, by ``frames.CORNERS``."""
    legs = max(near.shape[1] // 4, 2)
    rows, columns = np.indices((legs, legs))
    inside = rows + columns < legs
    cut = (near, near[:, :, ::-1], near[:, ::-1], near[:, ::-1, ::-1])
    return np.stack([view[:, :legs, :legs][:, inside].mean(1) for view in cut], 1).astype(
        np.float32
    )
