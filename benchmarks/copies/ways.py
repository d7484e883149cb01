"""Ways of copying a picture, each at three strengths."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

Copier = Callable[[Image.Image, float, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Way:
    """One way of copying.

    Attributes:
        name: as the table names it.
        group: ``plain``, ``hard``, ``grey`` or ``watermarked``; each has a goal of its own.
        strengths: mild, middle and strong, in the way's own unit.
        unit: what the strengths are.
        copy: makes a copy of a picture at a strength.
    """

    name: str
    group: str
    strengths: tuple[float, float, float]
    unit: str
    copy: Copier


def _saved(image: Image.Image, quality: float, _: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(quality))
    return Image.open(io.BytesIO(buffer.getvalue())).convert(image.mode)


def _smaller(image: Image.Image, share: float, _: np.random.Generator) -> Image.Image:
    return image.resize([max(round(side * share), 4) for side in image.size])


def _brighter(image: Image.Image, factor: float, rng: np.random.Generator) -> Image.Image:
    factor = factor if rng.random() < 0.5 else 1 / factor
    return ImageEnhance.Brightness(image).enhance(factor)


def _mirrored(image: Image.Image, quarters: float, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image).rotate(90 * round(quarters), expand=True)


def _turned(image: Image.Image, degrees: float, rng: np.random.Generator) -> Image.Image:
    sign = 1 if rng.random() < 0.5 else -1
    return image.rotate(sign * degrees, Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    width, height = (max(round(side * share), 3) for side in image.size)
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _turned_and_zoomed(image: Image.Image, degrees: float, rng: np.random.Generator) -> Image.Image:
    """Turned, and cropped so that no corner is empty."""
    turned = _turned(image, degrees, rng)
    angle = math.radians(degrees)
    share = 1 / (math.cos(angle) + math.sin(angle) * max(image.size) / min(image.size))
    width, height = (max(round(side * share), 3) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return turned.crop((left, top, left + width, top + height))


def _several(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Mirrored or not, cropped, turned a little, brightened and saved again."""
    made = ImageOps.mirror(image) if rng.random() < 0.5 else image
    made = _cropped(made, 1 - 0.05 * (1 + strength), rng)
    made = _turned(made, 2 + 2 * strength, rng)
    made = _brighter(made, 1.1 + 0.1 * strength, rng)
    return _saved(made, 70 - 15 * strength, rng)


def _recoloured(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Another white balance and saturation, by up to a share."""
    gains = [rng.uniform(1 - strength, 1 + strength) for _ in image.getbands()]
    bands = [band.point(lambda value, gain=gain: value * gain)
             for band, gain in zip(image.split(), gains, strict=True)]  # fmt: skip
    made = Image.merge(image.mode, bands)
    return ImageEnhance.Color(made).enhance(rng.uniform(1 - 2 * strength, 1 + 2 * strength))


def _stretched(image: Image.Image, factor: float, rng: np.random.Generator) -> Image.Image:
    """One side longer, and the middle of it cut to the shape of before."""
    width, height = image.size
    if rng.random() < 0.5:
        wide = image.resize((round(width * factor), height), Image.Resampling.BICUBIC)
    else:
        wide = image.resize((width, round(height * factor)), Image.Resampling.BICUBIC)
    left, top = (wide.width - width) // 2, (wide.height - height) // 2
    return wide.crop((left, top, left + width, top + height))


def _grey(image: Image.Image, quality: float, rng: np.random.Generator) -> Image.Image:
    return _saved(ImageOps.grayscale(image).convert(image.mode), quality, rng)


def _watermarked(image: Image.Image, width: float, rng: np.random.Generator) -> Image.Image:
    """White letters with a dark edge across the picture, half transparent, a share of its width."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    text = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVXYZ"), 6))
    wanted = width * image.width
    size = 4.0
    while draw.textlength(text, font=ImageFont.load_default(size)) < wanted:
        size *= 1.05
    font = ImageFont.load_default(size)
    x = rng.uniform(0, max(image.width - wanted, 1))
    y = rng.uniform(0.1, 0.9) * image.height - size / 2
    edge = max(round(size / 16), 1)
    draw.text((x, y), text, (255, 255, 255, 150), font, stroke_width=edge,
              stroke_fill=(0, 0, 0, 110))  # fmt: skip
    return Image.alpha_composite(image.convert("RGBA"), layer).convert(image.mode)


WAYS = (
    Way("saved again", "plain", (60, 45, 30), "JPEG quality", _saved),
    Way("smaller", "plain", (0.75, 0.6, 0.5), "share of a side", _smaller),
    Way("brighter or darker", "plain", (1.1, 1.25, 1.4), "factor", _brighter),
    Way("mirrored, quarter turns", "plain", (0, 1, 2), "quarters", _mirrored),
    Way("turned, black corners", "plain", (3, 5, 7), "degrees", _turned),
    Way("cropped to 90 %", "plain", (0.96, 0.93, 0.9), "share of a side", _cropped),
    Way("cropped to 80 %", "hard", (0.87, 0.83, 0.8), "share of a side", _cropped),
    Way("turned and zoomed", "hard", (5, 10, 15), "degrees", _turned_and_zoomed),
    Way("several at once", "hard", (0, 1, 2), "strength", _several),
    Way("other colours", "hard", (0.05, 0.1, 0.15), "share of a channel", _recoloured),
    Way("stretched", "hard", (1.05, 1.1, 1.15), "factor of a side", _stretched),
    Way("grey", "grey", (90, 70, 50), "JPEG quality", _grey),
    Way("watermarked", "watermarked", (0.4, 0.6, 0.8), "share of the width", _watermarked),
)
