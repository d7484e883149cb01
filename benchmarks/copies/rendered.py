"""Pictures rendered so that different ones look alike: products, textures, land from above.

Every picture has a *subject* and a *shot*. Two shots of one subject are different photographs: the
same product on another ground, the same scene on another day. None of them are copies.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 128
_OVER = 2  # drawn larger, for smooth edges

_SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    # Half outlines from the top to the bottom: (half width, height), both from 0 to 1.
    "trousers": ((0.20, 0.0), (0.22, 0.12), (0.27, 0.3), (0.25, 0.6), (0.21, 1.0)),
    "shirt": ((0.16, 0.0), (0.45, 0.12), (0.52, 0.42), (0.36, 0.46), (0.34, 1.0)),
    "dress": ((0.12, 0.0), (0.24, 0.1), (0.20, 0.4), (0.32, 0.7), (0.44, 1.0)),
    "bottle": ((0.08, 0.0), (0.08, 0.2), (0.22, 0.38), (0.23, 0.8), (0.22, 1.0)),
    "bag": ((0.30, 0.0), (0.38, 0.3), (0.42, 0.6), (0.42, 0.95), (0.40, 1.0)),
    "shoe": ((0.12, 0.0), (0.14, 0.45), (0.30, 0.6), (0.47, 0.8), (0.48, 1.0)),
}  # fmt: skip
PRODUCTS = tuple(_SHAPES)
TEXTURES = ("weave", "bricks", "bark", "pebbles", "stripes")
GROUNDS = ("fields", "runway", "houses", "water")


def _noise(rng: np.random.Generator, side: int, power: float) -> np.ndarray:
    """Noise with a spectrum of 1 / f^power, mean 0 and spread 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / frequency**power
    spectrum[0, 0] = 0
    plane = np.fft.irfft2(spectrum, (side, side))
    return np.asarray(plane / plane.std())


def _coloured(values: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.asarray(colour[None, None] + values[..., None])


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def product(kind: str, subject: int, shot: int, *, studio: bool) -> Image.Image:
    """A product before a wall or, in the studio, before plain grey.

    Subjects of one kind differ a little in colour, cut and print; shots of one subject in the
    ground, the light, the place and the folds.
    """
    of, side = np.random.default_rng([1, PRODUCTS.index(kind), subject]), SIDE * _OVER
    at = np.random.default_rng([2, PRODUCTS.index(kind), subject, shot])
    if studio:
        ground = np.full((side, side, 3), at.uniform(225, 245)) + at.normal(0, 1, (side, side, 1))
    else:
        ground = _coloured(at.uniform(8, 30) * _noise(at, side, 1.2), at.uniform(70, 200, 3))
    outline = np.array(_SHAPES[kind])
    outline = outline * (1 + of.normal(0, 0.04, outline.shape))
    width, height = at.uniform(0.7, 0.85), at.uniform(0.75, 0.9)
    left, top = 0.5 + at.normal(0, 0.02), (1 - height) / 2 + at.normal(0, 0.015)
    right = [(left + w * width * 0.8, top + y * height) for w, y in outline]
    mirrored = [(2 * left - x, y) for x, y in reversed(right)]
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    draw.polygon([(x * side, y * side) for x, y in right + mirrored], fill=255)
    if kind == "trousers":
        gap = 0.04 + 0.02 * of.random()
        draw.polygon(
            [(left * side, (top + 0.35 * height) * side),
             ((left - gap) * side, (top + height) * side + 2),
             ((left + gap) * side, (top + height) * side + 2)], fill=0)  # fmt: skip
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(1.2)), float)[..., None] / 255
    dark = of.random() < 0.5
    colour = of.uniform(25, 60, 3) if dark else of.uniform(60, 210, 3)
    cloth = _coloured(at.uniform(4, 9) * _noise(at, side, 1.6), colour)
    y, x = np.mgrid[:side, :side] / side
    if of.random() < 0.5:  # a print that belongs to the subject
        period, angle = of.uniform(0.04, 0.12), of.uniform(0, math.pi)
        wave = np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period)
        cloth += _coloured(of.uniform(6, 30) * np.sign(wave), np.zeros(3))
    light = 1 + at.normal(0, 0.06) + at.normal(0, 0.12) * (x - 0.5) + at.normal(0, 0.12) * (y - 0.5)
    made = (ground * (1 - soft) + cloth * soft) * light[..., None]
    return _picture(made).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def texture(kind: str, subject: int, shot: int) -> Image.Image:
    """A material; shots of one subject show another part of it."""
    of = np.random.default_rng([3, TEXTURES.index(kind), subject])
    at = np.random.default_rng([4, TEXTURES.index(kind), subject, shot])
    side = SIDE
    y, x = np.mgrid[:side, :side] / side
    x, y = x + at.uniform(0, 10), y + at.uniform(0, 10)
    colour, depth = of.uniform(60, 190, 3), of.uniform(15, 45)
    if kind == "weave":
        period = of.uniform(0.04, 0.09)
        plane = np.sin(2 * math.pi * x / period) * np.sin(2 * math.pi * y / period)
        plane = plane + 0.25 * _noise(at, side, 0.8)
    elif kind == "bricks":
        tall, wide = of.uniform(0.08, 0.14), of.uniform(0.2, 0.3)
        row = np.floor(y / tall)
        column = np.floor(x / wide + 0.5 * (row % 2))
        tint = np.random.default_rng(at.integers(1 << 30)).normal(0, 0.5, (400, 400))
        plane = tint[row.astype(int) % 400, column.astype(int) % 400]
        gap = ((y / tall) % 1 < 0.12) | ((x / wide + 0.5 * (row % 2)) % 1 < 0.06)
        plane = np.where(gap, 2.0, plane) + 0.2 * _noise(at, side, 1.0)
    elif kind == "bark":
        warp = 0.08 * _noise(at, side, 1.8)
        plane = np.abs(np.sin(2 * math.pi * (x + warp) / of.uniform(0.1, 0.2)))
        plane = 1.5 * plane + 0.5 * _noise(at, side, 1.0)
    elif kind == "pebbles":
        points = at.uniform(0, 1, (of.integers(60, 120), 2))
        tones = at.normal(0, 1, len(points))
        own = np.stack([x - x.min(), y - y.min()], -1)
        apart = np.linalg.norm(own[:, :, None] - points, axis=-1)
        order = np.sort(apart, -1)
        plane = tones[apart.argmin(-1)] - 1.5 * (order[..., 1] - order[..., 0] < 0.012)
    else:
        angle, period = of.uniform(0, math.pi), of.uniform(0.05, 0.12)
        along = x * math.cos(angle) + y * math.sin(angle)
        plane = np.sign(np.sin(2 * math.pi * along / period)) + 0.2 * _noise(at, side, 1.0)
    light = 1 + at.normal(0, 0.08) + at.normal(0, 0.15) * (y - y.mean())
    return _picture(_coloured(depth * plane, colour) * light[..., None])


def land(kind: str, subject: int, shot: int) -> Image.Image:
    """Land from above: a subject is a place, a shot a day with its light, shadows and season."""
    of = np.random.default_rng([5, GROUNDS.index(kind), subject])
    at = np.random.default_rng([6, GROUNDS.index(kind), subject, shot])
    side = SIDE * _OVER
    base = np.array([95.0, 105, 75]) if kind != "water" else np.array([50.0, 80, 110])
    # Of the ground itself a part stays; shadows, plants and water change from day to day.
    ground = 7 * _noise(of, side, 1.3) + 10 * _noise(at, side, 1.1)
    pixels = _coloured(ground, base + of.normal(0, 12, 3))
    image = _picture(pixels)
    draw = ImageDraw.Draw(image)
    turn = of.uniform(0, math.pi)
    centre = of.uniform(0.4, 0.6, 2) * side

    def placed(x: float, y: float) -> tuple[float, float]:
        cos, sin = math.cos(turn), math.sin(turn)
        return centre[0] + side * (x * cos - y * sin), centre[1] + side * (x * sin + y * cos)

    def box(x0: float, y0: float, x1: float, y1: float, colour: tuple[int, ...]) -> None:
        draw.polygon([placed(x0, y0), placed(x1, y0), placed(x1, y1), placed(x0, y1)], fill=colour)

    def tone(mean: float, spread: float) -> tuple[int, ...]:
        made = np.clip(mean + of.normal(0, spread) + of.normal(0, 6, 3), 0, 255)
        return tuple(made.astype(int).tolist())

    if kind == "fields":
        edge = -1.0
        while edge < 1:
            wide = of.uniform(0.05, 0.12)
            box(-1, edge, 1, edge + wide, tone(110, 18))
            edge += wide
    elif kind == "runway":
        wide = of.uniform(0.06, 0.1)
        box(-1, -wide, 1, wide, tone(90, 8))
        for step in np.arange(-1, 1, 0.08):
            box(step, -0.006, step + 0.04, 0.006, (225, 225, 225))
        for offset in (-0.8 * wide, 0.8 * wide):
            box(-1, offset - 0.004, 1, offset + 0.004, (215, 215, 215))
    elif kind == "houses":
        step = of.uniform(0.14, 0.2)
        for x in np.arange(-1, 1, step):
            for y in np.arange(-1, 1, step):
                w, h = of.uniform(0.25, 0.36, 2) * step
                box(x - w, y - h, x + w, y + h, tone(150, 30))
        for x in np.arange(-1, 1, 3 * step):
            box(x - 0.52 * step, -1, x - 0.44 * step, 1, tone(120, 5))
    else:
        box(-1, -1, 1, of.uniform(-0.3, 0), tone(170, 20))
    for _ in range(at.integers(2, 9)):  # what moves: cars, boats, clouds
        x, y = at.uniform(0, side, 2)
        r = at.uniform(2, 7)
        shade = int(at.uniform(30, 235))
        draw.ellipse([x - r, y - r, x + r, y + r], fill=(shade, shade, shade))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1.0)), float)
    y, x = np.mgrid[:side, :side] / side
    light = at.uniform(0.8, 1.15) + at.normal(0, 0.1) * (x - 0.5) + at.normal(0, 0.1) * (y - 0.5)
    pixels = pixels * light[..., None] + at.normal(0, 5, 3)
    pixels += _coloured(at.uniform(4, 9) * _noise(at, side, 0.8), np.zeros(3))
    shift = at.uniform(-0.05, 0.05, 2) * side
    made = _picture(pixels).rotate(
        at.normal(0, 2), Image.Resampling.BICUBIC, translate=tuple(shift.astype(int).tolist())
    )
    margin = round(0.12 * side)
    return made.crop((margin, margin, side - margin, side - margin)).resize(
        (SIDE, SIDE), Image.Resampling.LANCZOS
    )
