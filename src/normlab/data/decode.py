"""From an image file to a square of uint8 pixels, or the reason why it cannot be decoded.

Needs only Pillow and NumPy: the processes that decode import nothing else.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

RESIZE_RULE = "shorter side to {size} px (Pillow, bicubic, antialiased), then the centre square"

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
EXTENSIONS = frozenset(extension for group in FORMATS.values() for extension in group)
# Pillow reads MPO, several JPEGs in one file, by way of JPEG.
_FORMATS_ASKED = tuple(format for format in FORMATS if format != "MPO")
_READ = "JPEG, PNG, BMP, GIF, WEBP, TIFF and PPM are read"

_ORIENTATION = 0x0112
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


def decode(path: str | os.PathLike[str], size: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """The image as (size, size, channels) uint8.

    Raises:
        BadImageError: with the reason.
    """
    with warnings.catch_warnings():
        _quiet()
        image = _pixels(_open(Path(path)))
    return square(image if channels == 3 else image.convert("L"), size)


def shorter_side(path: str | os.PathLike[str]) -> int:
    """Read from the header alone.

    Raises:
        BadImageError: with the reason.
    """
    with warnings.catch_warnings():
        _quiet()
        with _open(Path(path)) as image:
            return min(image.size)


def square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The resize rule, for an image of mode L or RGB: (size, size, 1 or 3) uint8."""
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


def _quiet() -> None:
    """Within catch_warnings: a decompression bomb is an error, other warnings are hidden."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _open(path: Path) -> Image.Image:
    """The image with its header read and checked: format, name, number of pixels."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadImageError("is not a regular file")
        if found.st_size == 0:
            raise BadImageError("is empty (0 bytes)")
        image = Image.open(path, formats=_FORMATS_ASKED)
    except UnidentifiedImageError:
        raise BadImageError(f"is not an image, or its beginning is damaged ({_READ})") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImageError("has too many pixels to be decoded safely") from None
    except OSError as error:
        if error.errno is None:
            raise BadImageError(f"is damaged or cut short ({_short(error)})") from None
        reason = _PLAIN.get(error.errno, f"cannot be read ({error.strerror})")
        raise BadImageError(reason) from None
    except BadImageError:
        raise
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


def _pixels(image: Image.Image) -> Image.Image:
    """Decoded, upright, RGB; a transparent image is put on white."""
    with image:
        try:
            image.load()
            upright = _UPRIGHT.get(_orientation(image))
            flat = _flat(image)
        except BadImageError:
            raise
        except Exception as error:
            # Decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more.
            raise BadImageError(f"is damaged or cut short ({_short(error)})") from None
    return flat.transpose(upright) if upright is not None else flat


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Damaged metadata says nothing about the pixels, which are good.
        return 1


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 and turns most 16-bit images white.
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImageError(
                "has 32-bit grey values, which have no fixed white; save it with 8 bits"
            )
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise BadImageError(
            "has floating-point values, which have no fixed white; save it with 8 bits"
        )
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
