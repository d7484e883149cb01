"""From an image file to a square of uint8 pixels, or the reason why it cannot be decoded.

Needs only Pillow and NumPy: the processes that decode import nothing else.
"""

from __future__ import annotations

import errno
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from ..bounded import open_regular
from ..errors import InputError
from .config import Resize
from .levels import SIXTEEN, Kind, Levels, Range, Shown, UnknownRangeError
from .limits import (
    MOST_BYTES,
    TooMuchError,
    check_content,
    check_memory,
    gif_frames,
    orientation,
)
from .limits import frames as tiff_frames

RESIZE_RULES: Mapping[Resize, str] = MappingProxyType(
    {
        "crop": "shorter side to {size} px (Pillow, bicubic, antialiased), then the centre square",
        "letterbox": "longer side to {size} px (Pillow, bicubic, antialiased), centred on a grey "
        "square (128)",
    }
)
_PADDING = 128
_BAND = 256

MAX_PIXELS = 100_000_000

#: Content format to the extensions that may carry it.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
if features.check_codec("jpg_2000"):
    from PIL import Jpeg2KImagePlugin  # noqa: F401 - registers the format

    FORMATS["JPEG2000"] = (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc")
try:
    from PIL import AvifImagePlugin
except ImportError:  # before Pillow 11.3
    pass
else:
    if AvifImagePlugin.SUPPORTED:
        FORMATS["AVIF"] = (".avif",)
EXTENSIONS = frozenset(extension for group in FORMATS.values() for extension in group)
# Pillow reads MPO, several JPEGs in one file, by way of JPEG.
_FORMATS_ASKED = tuple(format for format in FORMATS if format != "MPO")
_READ = f"{', '.join(_FORMATS_ASKED[:-1])} and {_FORMATS_ASKED[-1]} are read"
_NOT_READ = {
    ".heic", ".heif", ".hif", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".jxl",
    ".svg", ".psd", ".tga", ".exr", ".dcm", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf",
    ".rw2",
}  # fmt: skip
CLAIMS = EXTENSIONS | _NOT_READ
"""Extensions of images, whether they are read or not."""
_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF"),
    (re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x6c\x7c]\0{3}", re.DOTALL), "BMP"),
    (re.compile(rb"P[1-6]\s+(#|\d)"), "PPM"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEG XL"),
    (re.compile(rb"8BPS"), "Photoshop"),
)
"""How the contents of images begin, and what they are called."""

_SIXTEEN_EACH = re.compile(r"\b(RGB[AXa]?|LA|CMYK);16")
"""Pillow's name of 16 bits for each of several channels, of which it keeps the upper 8."""
_BITS, _SIGN, _LEAST_AND_MOST = 258, 339, (340, 341)
"""Tags of TIFF: BitsPerSample, SampleFormat, SMinSampleValue and SMaxSampleValue."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_PLAIN = {
    errno.ENOENT: "does not exist, or is a symbolic link that leads nowhere",
    errno.ELOOP: "is part of a loop of symbolic links",
    errno.EACCES: "cannot be read (permission denied)",
    errno.EPERM: "cannot be read (permission denied)",
}


class BadImageError(Exception):
    """Why a file cannot be used as an image; the message continues after the file's name."""


def claims_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it is an image: by its extension, or by how its content begins."""
    return PurePath(path).suffix.lower() in CLAIMS or _signature(Path(path)) is not None


def _signature(path: Path) -> str | None:
    """What the content of a file says it is, if that is an image."""
    try:
        with open_regular(path) as opened:
            head = opened.read(32)
    except (OSError, InputError):
        return None
    return next((kind for begins, kind in _SIGNATURES if begins.match(head)), None)


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image, and what its file says.

    Attributes:
        pixels: (size, size, channels) uint8; None if the levels of its values are still asked for.
        frames: images in the file, of which this is the first.
        shown: the range of its grey values, if these have more than 8 bits.
        upper_half: whether it has 16 bits per colour, of which the upper 8 were read.
    """

    pixels: npt.NDArray[np.uint8] | None
    frames: int = 1
    shown: Shown | None = None
    upper_half: bool = False


def decode(
    path: str | os.PathLike[str],
    size: int,
    channels: int = 3,
    *,
    resize: Resize = "crop",
    levels: Levels = Levels(),  # noqa: B008 - frozen
    like: int | None = None,
) -> npt.NDArray[np.uint8]:
    """The image as (size, size, channels) uint8; of several frames the first.

    Args:
        path: the file.
        size: side of the square in pixels.
        channels: 1 or 3.
        resize: how it becomes a square.
        levels: black and white of grey values of more than 8 bits.
        like: see :func:`square`.

    Raises:
        BadImageError: with the reason.
    """
    pixels = read(path, size, channels, resize=resize, levels=levels, like=like).pixels
    assert pixels is not None
    return pixels


def read(
    path: str | os.PathLike[str],
    size: int,
    channels: int = 3,
    *,
    resize: Resize = "crop",
    levels: Levels | None,
    like: int | None = None,
) -> Decoded:
    """Likewise, with what the file says. Without levels, grey values of more than 8 bits are only
    looked at.

    Raises:
        BadImageError: with the reason.
    """
    with warnings.catch_warnings():
        _quiet()
        content = _content(Path(path))
        image, decoded = _pixels(_image(content, Path(path)), content, levels, channels)
    if image is None:
        return decoded
    flat = image if channels == 3 else image.convert("L")
    pixels = square(flat, size, resize, like)
    return Decoded(pixels, decoded.frames, decoded.shown, decoded.upper_half)


def square_side(path: str | os.PathLike[str], resize: Resize = "crop") -> int:
    """Side of the square at the image's own resolution; read from the header alone.

    Raises:
        BadImageError: with the reason.
    """
    with warnings.catch_warnings():
        _quiet()
        with opened_image(path) as (image, _):
            return side_of(image.size, resize)


def side_of(sides: tuple[int, int], resize: Resize) -> int:
    """The side that becomes the side of the square.

    >>> side_of((640, 480), "crop"), side_of((640, 480), "letterbox")
    (480, 640)
    """
    return min(sides) if resize == "crop" else max(sides)


def square(
    image: Image.Image, size: int, resize: Resize = "crop", like: int | None = None
) -> npt.NDArray[np.uint8]:
    """The resize rule, for an image of mode L or RGB: (size, size, 1 or 3) uint8.

    Args:
        image: any width and height.
        size: side of the square.
        resize: ``crop`` takes the centre square, ``letterbox`` pads the shorter side.
        like: for a letterbox that shows what a square of this side showed: the image is in the
            same place, to half a pixel of ``size``.
    """
    if resize == "letterbox":
        return _letterbox(image, size, like or size)
    width, height = image.size
    short = min(width, height)
    if short == size:
        left, top = (width - size) // 2, (height - size) // 2
        if (width, height) != (size, size):
            image = image.crop((left, top, left + size, top + size))
    else:
        x, y = (width - short) / 2, (height - short) / 2
        image = image.resize(
            (size, size), Image.Resampling.BICUBIC, box=(x, y, x + short, y + short)
        )
    return np.asarray(image).reshape(size, size, -1)


def _letterbox(image: Image.Image, size: int, like: int) -> npt.NDArray[np.uint8]:
    """The whole image in the middle of a grey square."""
    scale = like / max(image.size)
    edges = []
    for side in image.size:
        inner = max(1, round(side * scale))
        before = (like - inner) // 2
        edges.append((round(before * size / like), round((before + inner) * size / like)))
    (left, right), (top, bottom) = edges
    inside = (max(1, right - left), max(1, bottom - top))
    if image.size != inside:
        image = image.resize(inside, Image.Resampling.BICUBIC)
    grey = _PADDING if image.mode == "L" else (_PADDING,) * 3
    whole = Image.new(image.mode, (size, size), grey)
    whole.paste(image, (left, top))
    return np.asarray(whole).reshape(size, size, -1)


def _quiet() -> None:
    """Within catch_warnings: a decompression bomb is an error, other warnings are hidden."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


@contextmanager
def opened_image(path: str | os.PathLike[str]) -> Iterator[tuple[Image.Image, int]]:
    """The image with its header read and checked, and the bytes of its file; nothing is decoded.

    Raises:
        BadImageError: with the reason.
    """
    opened = _opened(Path(path))
    with opened, _image(opened, Path(path)) as image:
        yield image, os.fstat(opened.fileno()).st_size


def _opened(path: Path) -> BinaryIO:
    try:
        opened = open_regular(path)
    except InputError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError) and cause.errno is not None:
            raise BadImageError(_reason(cause)) from None
        raise BadImageError("is not a regular file") from None
    size = os.fstat(opened.fileno()).st_size
    if 0 < size <= MOST_BYTES:
        return opened
    opened.close()
    if size:
        raise BadImageError(f"is larger than {MOST_BYTES >> 20} MiB")
    raise BadImageError("is empty (0 bytes)")


def _content(path: Path) -> BinaryIO:
    """The file in memory: one state of it, whatever happens to it meanwhile."""
    with _opened(path) as opened:
        try:
            return io.BytesIO(opened.read(MOST_BYTES))
        except OSError as error:
            raise BadImageError(_reason(error)) from None


def _reason(error: OSError) -> str:
    return _PLAIN.get(error.errno or 0, f"cannot be read ({error.strerror})")


def _image(opened: BinaryIO, path: Path) -> Image.Image:
    """The image with its header read and checked: format, name, number of pixels."""
    try:
        check_content(opened)
        image = Image.open(opened, formats=_FORMATS_ASKED)
    except TooMuchError as error:
        raise BadImageError(str(error)) from None
    except UnidentifiedImageError:
        raise BadImageError(_unidentified(path)) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImageError("has too many pixels to be decoded safely") from None
    except OSError as error:
        if error.errno is None:
            raise BadImageError(f"is damaged or cut short ({_short(error)})") from None
        raise BadImageError(_reason(error)) from None
    except Exception as error:
        # Format plugins raise all kinds of errors on a damaged header.
        raise BadImageError(f"is damaged ({_short(error)})") from None
    kind = image.format or ""
    if path.suffix.lower() not in FORMATS[kind]:
        image.close()
        ends = f"ends in {path.suffix}" if path.suffix else "has no extension"
        shown = "JPEG" if kind == "MPO" else kind
        raise BadImageError(
            f"is wrongly named: the content is {shown}, but the name {ends} "
            f"(rename it to {FORMATS[kind][0]})"
        )
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise BadImageError(
            f"has {image.width} x {image.height} pixels, above the limit of "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        )
    return image


def _unidentified(path: Path) -> str:
    kind = _signature(path)
    suffix = path.suffix.lower()
    if kind is None and suffix in CLAIMS - EXTENSIONS:
        kind = suffix[1:].upper()
    if kind is None or kind.replace(" ", "") in FORMATS:
        return f"is not an image, or its beginning is damaged ({_READ})"
    return f"is a {kind} file, which is not read: convert it to JPEG or PNG"


def _pixels(
    image: Image.Image, content: BinaryIO, levels: Levels | None, channels: int
) -> tuple[Image.Image | None, Decoded]:
    """Decoded, upright, RGB; a transparent image is put on white."""
    with image:
        try:
            check_memory(image, channels)
            upper_half = bool(_SIXTEEN_EACH.search(str(getattr(image, "tile", ""))))
            image.load()
            upright = _UPRIGHT.get(orientation(image))
            check_memory(image, channels, turned=upright is not None)
            if image.mode.startswith(("I", "F")):
                values, shown = _values(image, content)
                flat = None if levels is None else _grey(values, shown, levels)
                upper_half = False
            else:
                shown, flat = None, _flat(image)
            said = Decoded(None, _frames(image, content), shown, upper_half)
        except BadImageError:
            raise
        except TooMuchError as error:
            raise BadImageError(str(error)) from None
        except Exception as error:
            # Decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more.
            raise BadImageError(f"is damaged or cut short ({_short(error)})") from None
    return (flat.transpose(upright) if flat and upright is not None else flat), said


def _frames(image: Image.Image, content: BinaryIO) -> int:
    # Pillow goes through all of these two, which takes long where there are many.
    if image.format == "GIF":
        return max(gif_frames(content), 1)
    if image.format == "TIFF":
        return max(tiff_frames(content), 1)
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:
        # A damaged frame after the first, which is good.
        return 2


def _values(image: Image.Image, content: BinaryIO) -> tuple[npt.NDArray[Any], Shown]:
    """Grey values of more than 8 bits, and their range."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise BadImageError("has values that are not numbers (NaN or infinity)")
    elif image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_SIGN, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow has no mode for them
    kind: Kind = "real" if image.mode == "F" else "whole"
    low, high = float(values.min()), float(values.max())
    return values, Shown(kind, low, high, _declared(image, tags, content))


def _grey(values: npt.NDArray[Any], shown: Shown, levels: Levels) -> Image.Image:
    try:
        return Image.fromarray(levels.applied(values, shown)).convert("RGB")
    except UnknownRangeError as error:
        raise BadImageError(str(error)) from None


def _declared(image: Image.Image, tags: Mapping[int, Any], content: BinaryIO) -> Range | None:
    """The range that a file says its values have."""
    if image.format in ("PPM", "JPEG2000"):
        return SIXTEEN  # Pillow has scaled them already
    if image.format == "PNG":
        bits = _significant_bits(content)
        return None if bits is None else (0, 2**bits - 1)
    try:
        ends = [float(np.ravel(tags[tag])[0]) for tag in _LEAST_AND_MOST if tag in tags]
        if len(ends) == 2 and ends[0] < ends[1]:
            return ends[0], ends[1]
        bits = int(np.ravel(tags.get(_BITS, 16))[0])
    except (TypeError, ValueError, IndexError):
        return None
    return (0, 2**bits - 1) if 8 < bits < 16 else None


def _significant_bits(opened: BinaryIO) -> int | None:
    """Of a grey PNG file: its chunk sBIT."""
    opened.seek(8)
    while len(head := opened.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"sBIT":
            bits = opened.read(1)
            return bits[0] if bits and 0 < bits[0] <= 16 else None
        if name in (b"IDAT", b"IEND"):
            return None
        opened.seek(length + 4, os.SEEK_CUR)
    return None


def _flat(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    # In bands, which take less memory.
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND):
        box = (0, top, image.width, min(top + _BAND, image.height))
        band = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        flat.paste(Image.alpha_composite(white, band).convert("RGB"), box)
    return flat


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
