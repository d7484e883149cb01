"""JPEG files whose sizes are those of photographs: noise with a 1/f spectrum, and shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIDE = 256
"""Pixels of a side."""
SPLITS = {"train": 100, "val": 25, "test": 25}
"""Files of each class in :func:`drawn`."""
CLASSES = 25


def _fields(rng: np.random.Generator, count: int, side: int) -> npt.NDArray[np.float32]:
    """Noise whose amplitude falls with the frequency, as that of photos does."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = 1 / side
    shape = (count, *frequency.shape)
    spectrum = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    fields = np.fft.irfft2(spectrum / frequency**1.4, s=(side, side))
    fields -= fields.mean((1, 2), keepdims=True)
    return (fields / fields.std((1, 2), keepdims=True)).astype(np.float32)


def _photo(rng: np.random.Generator, fields: npt.NDArray[np.float32]) -> Image.Image:
    def cut() -> npt.NDArray[np.float32]:
        y, x = rng.integers(0, fields.shape[1] - SIDE, 2)
        return fields[rng.integers(len(fields)), y : y + SIDE, x : x + SIDE]

    planes = np.stack([118 + 46 * cut(), 128 + 16 * cut(), 128 + 16 * cut()], axis=-1)
    image = Image.fromarray(planes.clip(0, 255).astype(np.uint8), "YCbCr").convert("RGB")
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 6)):
        x, y, width, height = rng.integers([0, 0, 20, 20], [220, 220, 110, 110]).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + width, y + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def write(root: Path, classes: int, count: int, seed: int = 0) -> list[Path]:
    """So many files, dealt to the folders of the classes."""
    rng = np.random.default_rng(seed)
    fields = _fields(rng, 16, 2 * SIDE)
    paths = []
    for index in range(count):
        path = root / f"class-{index % classes}" / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _photo(rng, fields).save(path, quality=int(rng.integers(85, 91)))
        paths.append(path)
    return paths


def drawn(root: Path) -> Path:
    """A folder with train, val and test, made unless it is there."""
    for seed, (split, each) in enumerate(SPLITS.items()):
        if not (root / split).exists():
            write(root / split, CLASSES, CLASSES * each, seed)
    return root
