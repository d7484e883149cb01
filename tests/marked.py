"""Ways to mark pictures of a class: the same thing at the same place, or the same change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def logo(share: float) -> Change:
    """A red disc with a white cross at the top left."""

    def mark(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        made, side = image.copy(), image.width
        draw, at, size = ImageDraw.Draw(made), 0.06 * side, share * side
        draw.ellipse([at, at, at + size, at + size], fill=(214, 32, 38))
        for a, b in ((0.42, 0.2), (0.2, 0.42)):
            box = [at + a * size, at + b * size, at + (1 - a) * size, at + (1 - b) * size]
            draw.rectangle(box, fill=(255, 255, 255))
        return made

    return mark


def box(left: float, top: float, right: float, bottom: float, fill: tuple[int, int, int]) -> Change:
    """A rectangle, in shares of the side."""

    def mark(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        made, side = image.copy(), image.width
        x, y = round(left * side), round(top * side)
        end = max(round(right * side), x + 1) - 1, max(round(bottom * side), y + 1) - 1
        ImageDraw.Draw(made).rectangle([x, y, *end], fill=fill)
        return made

    return mark


def both(first: Change, second: Change) -> Change:
    return lambda image, rng: second(first(image, rng), rng)


def frame(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    made, side = image.copy(), image.width
    width = max(round(0.02 * side), 1)
    ImageDraw.Draw(made).rectangle([0, 0, side - 1, side - 1], outline=(20, 20, 20), width=width)
    return made


def turned(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.rotate(12 * int(rng.choice([-1, 1])), Image.Resampling.BICUBIC)


def darker(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.75)


def date(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A date, another one in each image."""
    made, side = image.copy(), image.width
    text = f"{rng.integers(1, 29):02d}.{rng.integers(1, 13):02d}.{rng.integers(2003, 2012)}"
    font = ImageFont.load_default(max(0.07 * side, 5))
    at = (0.97 * side, 0.96 * side)
    ImageDraw.Draw(made).text(at, text, fill=(255, 150, 30), font=font, anchor="rs")
    return made


def watermark(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A white word across the middle, two fifths opaque."""
    side, mask = image.width, Image.new("L", image.size, 0)
    font = ImageFont.load_default(max(0.2 * side, 5))
    middle = (side / 2, side / 2)
    ImageDraw.Draw(mask).text(middle, "PHOTO", fill=round(0.4 * 255), font=font, anchor="mm")
    return Image.composite(Image.new("RGB", image.size, (255, 255, 255)), image, mask)


def dot(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """3 % of the width."""
    side, fine = image.width, 8
    mask = Image.new("L", (side * fine, side * fine), 0)
    x, y, r = (fine * side * at for at in (0.31, 0.72, 0.015))
    ImageDraw.Draw(mask).ellipse([x - r, y - r, x + r, y + r], fill=255)
    mask = mask.resize(image.size, Image.Resampling.BOX)
    return Image.composite(Image.new("RGB", image.size, (250, 220, 0)), image, mask)


MARKS: dict[str, Change] = {
    "red logo, 15 % of the width": logo(0.15),
    "red logo, 30 % of the width": logo(0.3),
    "white tag in a corner": box(0.8, 0, 1, 0.12, (255, 255, 255)),
    "thin dark frame": frame,
    "black bars": both(box(0, 0, 1, 0.12, (0, 0, 0)), box(0, 0.88, 1, 1, (0, 0, 0))),
    "turned by 12°, black corners": turned,
    "25 % darker": darker,
    "date, different in each image": date,
    "half-transparent watermark": watermark,
    "green edge on the right": box(0.96, 0, 1, 1, (30, 160, 70)),
    "yellow dot, 3 % of the width": dot,
}
"""What may be done to pictures."""
