"""Images at their source's resolution, maps drawn over them, PNG files of both.

Pillow alone draws. Colour always means evidence: the picture under a map is grey.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..data import DataSet
from ..data.decode import BadImageError, decode, square_side
from ..errors import InputError
from ..files import write_with
from ..pages.words import visible

Values = npt.NDArray[np.float32]

STRENGTH = 0.85
"""Opacity of a map where its value reaches the scale."""
FOR = ((255, 170, 44), (222, 56, 8))
AGAINST = ((96, 182, 255), (8, 70, 190))
"""Colour of the weakest and of the strongest evidence for and against a class. Orange and blue
are distinguishable with all common kinds of colour blindness."""

SMALLEST, LARGEST = 224, 1024
"""Side in pixels of a panel of a PNG file."""
SHEET_SIDE = 96
_GAP = 8
_FOR, _AGAINST = np.array(FOR, np.float32), np.array(AGAINST, np.float32)
_GROUND, _INK, _MUTED = (255, 255, 255), (27, 31, 36), (87, 96, 106)
_GREY_WEIGHT, _GREY_LIFT = 0.75, 32
_FONT_SIZE = 13
_COMPRESSION = 4  # a third of the default's time for a few percent more bytes


def source_picture(data: DataSet, split: str, row: int, largest: int = LARGEST) -> Image.Image:
    """The square that the network saw, at the source's resolution: mode RGB.

    A file is decoded again by the data's resize rule and levels, at most ``largest`` pixels wide,
    so that a map of the network's square fits the picture. Sources without files give their cached
    pixels.

    Raises:
        InputError: the file can no longer be read.
    """
    part = data.splits[split]
    if data.kind != "folder":
        return _as_image(part.images([row])[0])
    path = Path(data.source) / str(part.names[row])
    try:
        side = min(square_side(path, data.config.resize), largest)
        return _as_image(
            decode(
                path,
                side,
                data.channels,
                resize=data.config.resize,
                levels=data.levels,
                like=data.image_size,
            )
        )
    except BadImageError as error:
        raise InputError(
            f"{path} {error}. It was readable before. Restore it, or give the data's new place "
            "with --data."
        ) from None


def enlarged(picture: Image.Image, smallest: int = SMALLEST) -> Image.Image:
    """Enlarged by the smallest whole factor that gives ``smallest`` pixels; pixels stay square."""
    side = picture.width
    factor = -(-smallest // side) if side < smallest else 1
    return picture.resize((side * factor, side * factor), Image.Resampling.NEAREST)


def overlay(picture: Image.Image, values: Values, scale: float) -> Image.Image:
    """A signed map over the picture in grey.

    With t = min(1, \\|v\\| / scale) the colour goes from the first to the second of :data:`FOR`
    (v > 0) or :data:`AGAINST` (v < 0) and its opacity is :data:`STRENGTH` * sqrt(t), so that weak
    evidence is still visible. A value of 0 leaves the grey picture.

    Args:
        picture: (side, side), RGB.
        values: (side, side), as placed by :func:`.placing.place`.
        scale: the value of full colour, above 0.
    """
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    grey = grey * _GREY_WEIGHT + _GREY_LIFT
    t = np.minimum(np.abs(values) / scale, 1.0)[..., None]
    ends = np.where(values[..., None, None] > 0, _FOR, _AGAINST)
    weak, strong = ends[..., 0, :], ends[..., 1, :]
    colour = weak + t * (strong - weak)
    mixed = grey + STRENGTH * np.sqrt(t) * (colour - grey)
    return Image.fromarray(mixed.round().astype(np.uint8))


@dataclass(frozen=True)
class Panel:
    """A picture and the lines under it."""

    picture: Image.Image
    lines: tuple[str, ...]


def write_panels(path: Path, rows: Sequence[Sequence[Panel]]) -> None:
    """A PNG file of panels, all of the same size, with captions under them."""
    font = ImageFont.load_default(size=_FONT_SIZE)
    side = rows[0][0].picture.width
    height = side + _caption_height([panel for row in rows for panel in row])
    columns = max(map(len, rows))
    canvas = Image.new(
        "RGB",
        (columns * (side + _GAP) + _GAP, len(rows) * (height + _GAP) + _GAP),
        _GROUND,
    )
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            x, y = _GAP + j * (side + _GAP), _GAP + i * (height + _GAP)
            canvas.paste(panel.picture, (x, y))
            _write_lines(draw, (x, y + side), side, panel.lines, font)
    _write(path, canvas)


@dataclass(frozen=True)
class SheetImage:
    """One image of a contact sheet: pictures of the same size, and a caption."""

    pictures: tuple[Image.Image, ...]
    lines: tuple[str, ...]


def write_contact_sheet(
    path: Path, rows: Sequence[tuple[str, Sequence[SheetImage]]], legend: str, upright: bool
) -> None:
    """All images of a gallery in one PNG file, one row of images per class.

    Args:
        path: the file.
        rows: the class's name and its images.
        legend: a line at the top.
        upright: whether the pictures of an image are below each other, not side by side.
    """
    font = ImageFont.load_default(size=_FONT_SIZE)
    title = ImageFont.load_default(size=_FONT_SIZE + 3)
    most = max((len(image.pictures) for _, images in rows for image in images), default=1)
    across, down = (1, most) if upright else (most, 1)
    widths = [
        sum((1 if upright else len(image.pictures)) * SHEET_SIDE + 2 * _GAP for image in images)
        for _, images in rows
    ]
    lines = max((len(image.lines) for _, images in rows for image in images), default=0)
    block = down * SHEET_SIDE + lines * (_FONT_SIZE + 4) + 14
    top = 2 * (_FONT_SIZE + _GAP)
    head = _FONT_SIZE + 14
    width = max([*widths, across * SHEET_SIDE, 480]) + 2 * _GAP
    canvas = Image.new("RGB", (width, top + sum(head + block for _ in rows) + _GAP), _GROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP), _fitting(draw, legend, width - 2 * _GAP, font), _MUTED, font)
    y = top
    for name, images in rows:
        draw.text((_GAP, y), _fitting(draw, name, width - 2 * _GAP, title), _INK, title)
        x = _GAP
        for image in images:
            for index, picture in enumerate(image.pictures):
                at = (0, index) if upright else (index, 0)
                canvas.paste(
                    _thumbnail(picture),
                    (x + at[0] * SHEET_SIDE, y + head + at[1] * SHEET_SIDE),
                )
            room = (1 if upright else len(image.pictures)) * SHEET_SIDE
            _write_lines(draw, (x, y + head + down * SHEET_SIDE), room, image.lines, font)
            x += room + 2 * _GAP
        y += head + block
    _write(path, canvas)


def embedded_picture(picture: Image.Image, largest: int) -> str:
    """A data URI for the page: PNG up to 96 x 96 pixels, JPEG above."""
    buffer = io.BytesIO()
    if picture.width > largest:
        picture = picture.resize((largest, largest), Image.Resampling.LANCZOS)
    if picture.width <= 96:
        picture.save(buffer, "PNG", optimize=True)
        return _data_uri("png", buffer.getvalue())
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return _data_uri("jpeg", buffer.getvalue())


def embedded_map(values: Values, largest: float) -> str:
    """A signed map as the data URI of an 8-bit grey PNG.

    The byte b stands for the value (b - 128) / 127 * ``largest``, where ``largest`` is at least
    the map's largest absolute value, so 0 stays exactly 0.
    """
    share = values / largest if largest > 0 else np.zeros_like(values)
    buffer = io.BytesIO()
    Image.fromarray((128 + 127 * share).round().astype(np.uint8)).save(buffer, "PNG")
    return _data_uri("png", buffer.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _as_image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")


def _thumbnail(picture: Image.Image) -> Image.Image:
    whole = SHEET_SIDE % picture.width == 0
    how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    return picture.resize((SHEET_SIDE, SHEET_SIDE), how)


def _caption_height(panels: Sequence[Panel]) -> int:
    return max(len(panel.lines) for panel in panels) * (_FONT_SIZE + 4) + 4


def _write_lines(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    width: int,
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    for index, line in enumerate(lines):
        place = (at[0], at[1] + 3 + index * (_FONT_SIZE + 4))
        draw.text(place, _fitting(draw, line, width, font), _MUTED if index else _INK, font)


def _fitting(
    draw: ImageDraw.ImageDraw,
    text: str,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> str:
    """The text in a line, shortened with dots if it is too wide."""
    text = visible(text)
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


def _write(path: Path, canvas: Image.Image) -> None:
    write_with(path, lambda aside: canvas.save(aside, "PNG", compress_level=_COMPRESSION))
