"""What an image file states, checked before Pillow believes it: bounds of time and memory.

A small file can ask for much: many scans, frames, blocks or tags. Pillow bounds the pixels
alone. Each format is walked by its own structure here, which costs a few reads.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

MOST_BYTES = 256 << 20
"""Of a file."""
MOST_MEMORY = 500_000_000
"""Bytes that decoding may need, by the number of pixels."""
MOST_FRAMES = 10_000
_MOST_PARTS = 50_000
"""Segments of a JPEG file, chunks of a PNG file, blocks of a GIF file before its first image."""
_MOST_EXIF = 1 << 20
_MOST_BEFORE = 64 << 20
"""Bytes of a JPEG file before its first scan."""
_SCANS, _SCANNED = 16, 1_000_000_000
"""Scans of any image; times its pixels, of an image with more."""
_MOST_VALUES = 200_000
"""Numbers in the tags of a TIFF file."""
_SLOW_BYTES, _SLOW_PIXELS = 4 << 20, 4_000_000
"""Of what Pillow decodes in Python."""
_BYTES_OF = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_MORE_OF = {"WEBP": 12, "AVIF": 12, "JPEG2000": 16}
_TAG_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_BYTE_TYPES = (1, 2, 6, 7)
_MORE_TAGS = 64 << 20
"""Bytes that tags may state beyond what the file has."""
_FOLDERS = (34665, 34853, 40965)
"""Tags that lead to more tags: EXIF, GPS, interoperability."""
_ORIENTATION = 0x0112
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class TooMuchError(ValueError):
    """A file asks for too much; the message continues after its name."""


def check_content(opened: BinaryIO) -> None:
    """Check what a file states besides its size.

    Args:
        opened: the file, at any position; it is at its beginning afterwards.

    Raises:
        TooMuchError: reading it would take too long, or too much memory.
    """
    size = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    head = opened.read(32)
    try:
        if head.startswith(b"\xff\xd8\xff"):
            _check_jpeg(opened)
        elif head.startswith(b"\x89PNG\r\n\x1a\n"):
            _check_png(opened)
        elif head.startswith(b"GIF8"):
            _check_gif(opened)
        elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            frames(opened)
        elif re.match(rb"P[1-7]\s", head):
            _check_ppm(opened, size)
        elif head.startswith(b"BM"):
            _check_bmp(head, size)
        elif head.startswith(b"\0\0\0\x0cjP  "):
            _limited(_boxes(opened, size), _MOST_PARTS, "boxes")
    finally:
        opened.seek(0)


def check_memory(image: Image.Image, channels: int = 3, *, turned: bool = False) -> None:
    """Check what decoding an image into RGB will need.

    Args:
        image: with its header read.
        channels: of the result.
        turned: whether a turned copy is made of what is decoded.

    Raises:
        TooMuchError: it needs more than :data:`MOST_MEMORY`.
    """
    width, height = image.size
    own = _BYTES_OF.get(image.mode, 4)
    each = own + (0 if image.mode == "RGB" else 4)
    if image.mode.startswith(("I", "F")):
        each += own + 1
    each += _MORE_OF.get(image.format or "", 0)
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        each += 6
    each += 4 * turned + (channels == 1)
    # Pillow keeps a pointer per line, and resizing keeps weights for every line and column.
    needed = width * height * each + height * 16 + max(width, height) * 48
    if needed > MOST_MEMORY:
        raise TooMuchError(
            f"has {width} x {height} pixels and needs {needed / 1e6:,.0f} MB to be decoded, above "
            f"the limit of {MOST_MEMORY / 1e6:,.0f} MB"
        )


def orientation(image: Image.Image) -> int:
    """How an image lies (EXIF 1 to 8); 1 where its metadata are damaged or ask for too much."""
    try:
        profile = image.info.get("Raw profile type exif", "")
        block = image.info.get("exif", b"")
        if len(profile) > _MOST_EXIF or len(block) > _MOST_EXIF:
            return 1
        block = block or bytes.fromhex("".join(profile.split("\n")[3:]))
        frames(io.BytesIO(block.removeprefix(b"Exif\0\0")))
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Damaged metadata says nothing about the pixels, which are good.
        return 1


def frames(opened: BinaryIO) -> int:
    """The images in a TIFF file.

    Raises:
        TooMuchError: there are too many, or its tags state much more than the file has. Tags may
            overlap, so that a few KB of them become gigabytes.
    """
    size = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    head = opened.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    number, pointer, each = ("Q", "Q", 20) if big else ("H", "L", 12)
    step, wide = struct.calcsize(f"{order}{number}"), struct.calcsize(f"{order}{pointer}")
    if len(head) < 4 + 4 * big + wide:
        return 0
    waiting = [struct.unpack_from(f"{order}{pointer}", head, 4 + 4 * big)[0]]
    seen: set[int] = set()
    below = 0
    while waiting:
        place = waiting.pop(0)
        if not place or place in seen or place + step > size:
            continue
        seen.add(place)
        if len(seen) > MOST_FRAMES:
            raise TooMuchError(f"has more than {MOST_FRAMES:,} images")
        opened.seek(place)
        count = struct.unpack(f"{order}{number}", opened.read(step))[0]
        entries = opened.read(min(count * each, size))
        after = opened.read(wide) if len(entries) == count * each else b""
        stated = values = 0
        for at in range(0, len(entries) - each + 1, each):
            tag, kind = struct.unpack_from(f"{order}HH", entries, at)
            many, value = struct.unpack_from(f"{order}{pointer}{pointer}", entries, at + 4)
            bytes_each = _TAG_SIZES[kind] if kind < len(_TAG_SIZES) else 0
            if many * bytes_each > wide:
                if value + many * bytes_each > size:
                    continue
                stated += many * bytes_each
            values += many if kind not in _BYTE_TYPES and bytes_each else 0
            if tag in _FOLDERS and value not in seen:
                waiting.append(value)
                below += 1
        if stated > size + _MORE_TAGS:
            raise TooMuchError("has tags that state more than the file contains")
        if values > _MOST_VALUES:
            raise TooMuchError(f"has more than {_MOST_VALUES:,} numbers in its tags")
        if len(after) == wide:
            waiting.append(struct.unpack(f"{order}{pointer}", after)[0])
    return max(len(seen) - below, 0)


def gif_frames(opened: BinaryIO) -> int:
    """The images in a GIF file.

    Raises:
        TooMuchError: there are too many.
    """
    found = sum(1 for block in _gif_blocks(opened) if block == 0x2C)
    opened.seek(0)
    return found


def _check_gif(opened: BinaryIO) -> None:
    blocks = _gif_blocks(opened, count_data=True)
    for number, block in enumerate(blocks):
        if block == 0x2C:
            return
        if number > _MOST_PARTS:
            raise TooMuchError(f"has more than {_MOST_PARTS:,} blocks before its first image")


def _gif_blocks(opened: BinaryIO, *, count_data: bool = False) -> Iterator[int]:
    """The introducers of a GIF file's blocks; -1 for each block of data, if those are asked for."""
    opened.seek(0)
    head = opened.read(13)
    if len(head) < 13:
        return
    _skip_table(opened, head[10])
    images = 0
    while (first := opened.read(1)) in (b"\x21", b"\x2c"):
        if first == b"\x2c":
            images += 1
            if images > MOST_FRAMES:
                raise TooMuchError(f"has more than {MOST_FRAMES:,} frames")
            place = opened.read(9)
            if len(place) < 9:
                return
            _skip_table(opened, place[8])
        yield first[0]
        opened.seek(1, os.SEEK_CUR)
        while (length := opened.read(1)) not in (b"", b"\0"):
            if count_data:
                yield -1
            opened.seek(length[0], os.SEEK_CUR)


def _skip_table(opened: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        opened.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)


def _check_jpeg(opened: BinaryIO) -> None:
    opened.seek(2)
    parts = scans = pixels = 0
    exif = b""
    while True:
        marker = opened.read(2)
        while marker == b"\xff\xff":
            marker = b"\xff" + opened.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] == 0xD9:
            break
        parts += 1
        if parts > _MOST_PARTS:
            raise TooMuchError(f"has more than {_MOST_PARTS:,} segments")
        if marker[1] == 0x01 or 0xD0 <= marker[1] <= 0xD8:
            continue
        start = opened.tell()
        length = int.from_bytes(opened.read(2), "big")
        first = opened.read(6)
        if marker[1] == 0xE1 and first == b"Exif\0\0":
            exif += opened.read(max(length - 8, 0))
        elif marker[1] in _FRAME_HEADERS and len(first) == 6:
            pixels = max(pixels, math.prod(struct.unpack_from(">HH", first, 1)))
        if len(exif) > _MOST_EXIF or (not scans and start > _MOST_BEFORE):
            raise TooMuchError("has too much metadata")
        opened.seek(start + max(length, 2))
        if marker[1] == 0xDA:
            scans += 1
            if scans > _SCANS and scans * max(pixels, _SCANNED // 200) > _SCANNED:
                raise TooMuchError("has so many scans that they take too long to be decoded")
            if not _to_marker(opened):
                break
    frames(io.BytesIO(exif))


def _to_marker(opened: BinaryIO) -> bool:
    """Move to the next marker after a scan's data."""
    while block := opened.read(1 << 16):
        found = re.search(rb"\xff[^\x00\xd0-\xd7\xff]", block, re.DOTALL)
        if found:
            opened.seek(found.start() - len(block), os.SEEK_CUR)
            return True
        if block.endswith(b"\xff") and len(block) > 1:
            opened.seek(-1, os.SEEK_CUR)
        elif block == b"\xff":
            return False
    return False


def _check_png(opened: BinaryIO) -> None:
    opened.seek(8)
    for _ in range(_MOST_PARTS):
        head = opened.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        opened.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    raise TooMuchError(f"has more than {_MOST_PARTS:,} chunks")


def _check_ppm(opened: BinaryIO, size: int) -> None:
    opened.seek(0)
    head = opened.read(1 << 16)
    plain = re.sub(rb"#[^\r\n]*", b"", head).split(maxsplit=4)
    asked = 3 if head[1:2] in b"14" else 4
    if head[1:2] in b"123" and size > _SLOW_BYTES:
        raise TooMuchError("is a large file of numbers as text. Save it as PNG")
    if head[1:2] == b"7":
        return
    if len(plain) < asked and size > len(head):
        raise TooMuchError("has a header of more than 64 KB")
    if head[1:2] in b"56" and all(part.isdigit() and len(part) < 10 for part in plain[1:4]):
        width, height, most = map(int, plain[1:4])
        native = most == 255 or (most == 65535 and head[1:2] == b"5")
        if not native and width * height * (3 if head[1:2] == b"6" else 1) > _SLOW_PIXELS:
            raise TooMuchError(
                f"has {width} x {height} pixels with values up to {most:,}, which take too long to "
                "be decoded. Save it as PNG"
            )


def _check_bmp(head: bytes, size: int) -> None:
    if len(head) < 32 or int.from_bytes(head[14:18], "little") < 40:
        return
    width, height = struct.unpack_from("<ii", head, 18)
    packed = int.from_bytes(head[30:32], "little") in (1, 2)
    if packed and (size > _SLOW_BYTES or abs(width * height) > _SLOW_PIXELS):
        raise TooMuchError("is packed (RLE), and too large for that. Save it as PNG")


def _boxes(opened: BinaryIO, size: int) -> Iterator[int]:
    """The places of the boxes of a JPEG 2000 file, also within its header."""
    place = 0
    while place + 8 <= size:
        opened.seek(place)
        length, kind = struct.unpack(">I4s", opened.read(8))
        yield place
        if kind == b"jp2h":
            place += 8
        elif length < 8:
            return  # to the end, or 64 bits for the data, which is the last box
        else:
            place += length


def _limited(items: Iterator[int], most: int, what: str) -> None:
    for number, _ in enumerate(items):
        if number >= most:
            raise TooMuchError(f"has more than {most:,} {what}")
