"""Pictures with known truth: scenes made of noise and shapes, and copies of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Copy = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True, eq=False)
class ListedPairs:
    """What a search for near copies lists, with probabilities that a test chose, surest first."""

    pairs: np.ndarray
    probability: np.ndarray

    @classmethod
    def of(cls, pairs: dict[tuple[int, int], float]) -> ListedPairs:
        """Rows of two images to the probability that they are copies."""
        ordered = sorted(pairs, key=lambda pair: -pairs[pair])
        return cls(
            np.array(ordered, np.int64).reshape(-1, 2),
            np.array([pairs[pair] for pair in ordered], np.float32),
        )

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def sure(self) -> np.ndarray:
        return self.probability >= 0.95

    @property
    def maps(self) -> np.ndarray:
        return np.tile(np.eye(2, 3, dtype=np.float32), (len(self), 1, 1))


PLAIN_SHARE = 0.2
"""Share of scenes that are a plain ground with a line and a blob: different ones look alike."""


def scene(seed: int, kind: int = 0, size: int = 96) -> Image.Image:
    """One scene of a kind (0 to 9, which decides its colours)."""
    rng = np.random.default_rng([seed, kind])
    hue = np.random.default_rng(kind).uniform(60, 200, 3)
    if rng.random() < PLAIN_SHARE:
        return _plain(rng, hue, size)
    image = Image.fromarray(_noise(rng, hue, size))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(15, 40)):
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        a, b = np.exp(rng.normal(-2.3, 0.6, 2)) * size
        colour = tuple(np.clip(hue + rng.normal(0, 50, 3), 0, 255).astype(int).tolist())
        if rng.random() < 0.5:
            draw.ellipse([x - a, y - b, x + a, y + b], fill=colour)
        else:
            angle = rng.uniform(0, 2 * np.pi, 3)
            corners = [(x + 2 * a * np.cos(t), y + 2 * b * np.sin(t)) for t in angle]
            draw.polygon(corners, fill=colour)
    return image


def is_plain(seed: int, kind: int) -> bool:
    """Whether :func:`scene` makes a plain one."""
    return bool(np.random.default_rng([seed, kind]).random() < PLAIN_SHARE)


def _noise(rng: np.random.Generator, mean: np.ndarray, size: int) -> np.ndarray:
    """Noise with a spectrum of 1/f, as photographs have, in correlated colours."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / frequency
        spectrum[0, 0] = 0
        plane = np.fft.irfft2(spectrum, (size, size))
        planes.append(plane / plane.std())
    mixed = np.stack(planes, -1) @ np.array([[1, 1, 1], [0.4, -0.4, 0], [0, 0.3, -0.3]])
    return np.clip(mean + 28 * mixed, 0, 255).astype(np.uint8)


def _plain(rng: np.random.Generator, mean: np.ndarray, size: int) -> Image.Image:
    ramp = np.linspace(-1, 1, size)[:, None, None] * rng.normal(0, 8, 3)
    ground = mean + ramp + rng.normal(0, 2, (size, size, 3))
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    y = rng.uniform(0.4, 0.8, 2) * size
    draw.line([(0, y[0]), (size, y[1])], fill=(40, 40, 40), width=2)
    x, height = rng.uniform(0.3, 0.7) * size, rng.uniform(0.12, 0.2) * size
    colour = tuple(rng.integers(0, 255, 3).tolist())
    top = y.mean() - 2 * height
    draw.ellipse([x - height / 2, top, x + height / 2, y.mean()], fill=colour)
    return image


def crop(least: float, most: float) -> Copy:
    """A part whose sides are this share of the picture's, enlarged to its size."""

    def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        share = rng.uniform(least, most)
        width, height = (round(side * share) for side in image.size)
        left = int(rng.integers(image.width - width + 1))
        top = int(rng.integers(image.height - height + 1))
        part = image.crop((left, top, left + width, top + height))
        return part.resize(image.size, Image.Resampling.BICUBIC)

    return cropped


def _recompress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(30, 60)))
    return Image.open(io.BytesIO(buffer.getvalue())).convert(image.mode)


def _rescale(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = rng.uniform(0.5, 0.8)
    small = image.resize((round(image.width * share), round(image.height * share)))
    return small.resize(image.size, Image.Resampling.BILINEAR)


def _brighten(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    brighter = ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3))
    return ImageEnhance.Contrast(brighter).enhance(rng.uniform(0.8, 1.2))


def _turn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    made = ImageOps.mirror(image) if rng.random() < 0.5 else image
    quarters = int(rng.integers(0 if made is not image else 1, 4))
    return made.rotate(90 * quarters)


def _rotate(fill: tuple[int, int, int]) -> Copy:
    def rotate(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        angle = rng.uniform(5, 355)
        colour = fill if image.mode == "RGB" else fill[0]
        return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=colour)

    return rotate


def _rotate_zoom(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Rotated a little and enlarged so that no corner is empty."""
    angle = rng.uniform(-25, 25)
    turned = image.rotate(angle, Image.Resampling.BICUBIC)
    t = np.deg2rad(abs(angle))
    side = image.width / (np.cos(t) + np.sin(t))
    left = (image.width - side) / 2
    box = (left, left, left + side, left + side)
    return turned.resize(image.size, Image.Resampling.BICUBIC, box=box)


def _pad(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = rng.uniform(0.7, 0.9)
    width, height = image.size
    if rng.random() < 0.5:
        inner = image.crop(
            (0, round(height * (1 - share) / 2), width, round(height * (1 + share) / 2))
        )
    else:
        inner = image.crop(
            (round(width * (1 - share) / 2), 0, round(width * (1 + share) / 2), height)
        )
    canvas = Image.new(image.mode, image.size)
    canvas.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return canvas


COPIES: dict[str, Copy] = {
    "recompressed": _recompress,
    "resized": _rescale,
    "brightened": _brighten,
    "cropped": crop(0.75, 0.95),
    "flipped or quarter-turned": _turn,
    "rotated, black corners": _rotate((0, 0, 0)),
    "rotated, grey corners": _rotate((127, 127, 127)),
    "rotated and zoomed": _rotate_zoom,
    "padded": _pad,
}
"""What a copy of a picture may be."""
