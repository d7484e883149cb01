"""Every kind of file against known pixel values, and every kind of bad file with its reason."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.data import DataConfig, load
from normlab.data.decode import BadImageError, decode, square, square_side

SIDE = 16


def smooth(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """Colours that change slowly, so that lossy formats come close."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([y * 200 / height, x * 200 / width, (x + y) * 100 / (height + width)], -1)
    return (rgb + 20).astype(np.uint8)


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def reason(path: Path) -> str:
    with pytest.raises(BadImageError) as caught:
        decode(path, SIDE)
    return str(caught.value)


# ------------------------------------------------------------------ formats and colour modes


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF", "a.ppm", "a.PNG"])
def test_lossless_formats_are_read_exactly(tmp_path: Path, name: str) -> None:
    pixels = smooth()
    np.testing.assert_array_equal(
        decode(saved(tmp_path, Image.fromarray(pixels), name), SIDE), pixels
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 98, "subsampling": 0}),
        ("a.JPEG", {"quality": 98, "subsampling": 0}),
        ("a.jpg", {"quality": 98, "subsampling": 0, "progressive": True}),
        ("a.webp", {"quality": 100}),
        ("a.mpo", {"quality": 98, "subsampling": 0}),
    ],
)
def test_lossy_formats_come_close(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    image = Image.fromarray(smooth())
    got = decode(saved(tmp_path, image, name, **options), SIDE)
    assert np.abs(got.astype(int) - smooth()).max() <= 10


def test_mpo_content_may_be_called_jpg(tmp_path: Path) -> None:
    """Telephones write two frames and call the file .jpg."""
    first = Image.fromarray(smooth())
    second = Image.fromarray(255 - smooth())
    path = saved(tmp_path, first, "a.mpo", save_all=True, append_images=[second], quality=98)
    with Image.open(path.rename(tmp_path / "a.jpg")) as image:
        assert image.format == "MPO"
    assert np.abs(decode(tmp_path / "a.jpg", SIDE).astype(int) - smooth()).max() <= 20


def test_of_many_frames_the_first_is_taken(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    for name in ("a.gif", "a.tif", "a.png", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = saved(tmp_path, red, name, save_all=True, append_images=[blue], **options)
        assert (decode(path, SIDE) == [255, 0, 0]).all(), name


def test_files_of_several_frames_are_said_once_with_their_count(tmp_path: Path) -> None:
    pictures = iter(np.random.default_rng(0).integers(0, 256, (80, SIDE, SIDE, 3), np.uint8))
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(8):
            first = Image.fromarray(next(pictures))
            suffix = (".gif", ".tif", ".png", ".webp", ".bmp", ".jpg", ".png", ".png")[index]
            more = [Image.fromarray(next(pictures)) for _ in range(1 + index % 2)]
            options = {"save_all": True, "append_images": more} if index < 4 else {}
            saved(tmp_path / "set" / name, first, f"{index}{suffix}", **options)
    data = load(DataConfig(str(tmp_path / "set")))
    said = [note for note in data.notes if "frames" in note]
    assert said == ["8 files have several frames (2 to 3), of which the first is used."]


def test_grey_and_bilevel(tmp_path: Path) -> None:
    grey = smooth()[..., 0]
    got = decode(saved(tmp_path, Image.fromarray(grey), "g.png"), SIDE)
    np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, axis=2))
    got = decode(tmp_path / "g.png", SIDE, channels=1)
    np.testing.assert_array_equal(got, grey[..., None])

    bits = grey > 100
    for name in ("b.png", "b.pbm", "b.tif", "b.bmp"):
        got = decode(saved(tmp_path, Image.fromarray(bits), name), SIDE)
        np.testing.assert_array_equal(got[..., 1], np.where(bits, 255, 0), err_msg=name)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_alpha_stands_on_white(tmp_path: Path, name: str) -> None:
    rgba = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[: SIDE // 2, :, 3] = 255
    rgba[0, 0, 3] = 51
    got = decode(saved(tmp_path, Image.fromarray(rgba), name), SIDE)
    assert (got[1 : SIDE // 2] == [200, 0, 0]).all()
    assert (got[SIDE // 2 :] == 255).all()
    np.testing.assert_allclose(got[0, 0], [244, 204, 204], atol=1)


def test_grey_with_alpha(tmp_path: Path) -> None:
    la = np.zeros((SIDE, SIDE, 2), dtype=np.uint8)
    la[..., 0] = 40
    la[:4, :, 1] = 255
    got = decode(saved(tmp_path, Image.fromarray(la), "la.png"), SIDE)
    assert (got[:4] == 40).all()
    assert (got[4:] == 255).all()


def test_palettes(tmp_path: Path) -> None:
    index = np.zeros((SIDE, SIDE), dtype=np.uint8)
    index[:, SIDE // 2 :] = 1
    image = Image.fromarray(index).convert("P")
    image.putpalette([10, 20, 30, 250, 240, 230])
    for name in ("p.png", "p.gif", "p.bmp", "p.tif"):
        got = decode(saved(tmp_path, image, name), SIDE)
        assert (got[:, 0] == [10, 20, 30]).all(), name
        assert (got[:, -1] == [250, 240, 230]).all(), name
    for name, transparency in (("t.png", 0), ("t.gif", 0), ("u.png", bytes([0, 255]))):
        got = decode(saved(tmp_path, image, name, transparency=transparency), SIDE)
        assert (got[:, 0] == 255).all(), name
        assert (got[:, -1] == [250, 240, 230]).all(), name


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (SIDE, SIDE), 7 if mode == "L" else (7, 7, 7))
    image.putpixel((3, 2), 9 if mode == "L" else (9, 9, 9))
    transparent = 7 if mode == "L" else (7, 7, 7)
    got = decode(saved(tmp_path, image, "c.png", transparency=transparent), SIDE)
    assert (got[2, 3] == 9).all()
    assert (got[3:] == 255).all()


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))
    for name, off in (("c.tif", 0), ("c.jpg", 6)):
        got = decode(saved(tmp_path, image, name), SIDE)
        np.testing.assert_allclose(got[0, 0], [255, 0, 0], atol=off, err_msg=name)


def _sixteen() -> np.ndarray:
    values = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    values[0, :3] = [0, 257, 65535]
    return values


@pytest.mark.parametrize("name", ["s.png", "s.tif", "s.pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    values = _sixteen()
    got = decode(saved(tmp_path, Image.fromarray(values), name), SIDE)
    assert got[0, :3, 0].tolist() == [0, 1, 255]
    np.testing.assert_allclose(got[..., 1], values / 257, atol=0.5)


def test_sixteen_bits_in_the_other_byte_order(tmp_path: Path) -> None:
    values = _sixteen()
    header = struct.pack(">2sHI", b"MM", 42, 8)
    tags = [(256, SIDE), (257, SIDE), (258, 16), (259, 1), (262, 1), (277, 1), (278, SIDE)]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    rows = [struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags]
    rows.insert(5, struct.pack(">HHII", 273, 4, 1, start))
    rows.append(struct.pack(">HHII", 279, 4, 1, values.nbytes))
    body = struct.pack(">H", len(rows)) + b"".join(rows) + bytes(4)
    path = tmp_path / "be.tif"
    path.write_bytes(header + body + values.astype(">u2").tobytes())
    with Image.open(path) as image:
        assert image.mode == "I;16B"
    np.testing.assert_allclose(decode(path, SIDE)[..., 2], values / 257, atol=0.5)


def test_thirty_two_bits_in_the_range_of_sixteen(tmp_path: Path) -> None:
    values = _sixteen().astype(np.int32)
    path = saved(tmp_path, Image.fromarray(values), "i.tif")
    np.testing.assert_allclose(decode(path, SIDE)[..., 0], values / 257, atol=0.5)


def test_values_without_a_white_are_refused(tmp_path: Path) -> None:
    big = saved(tmp_path, Image.fromarray(np.full((SIDE, SIDE), 70000, np.int32)), "i.tif")
    assert "grey values of more than 8 bits from 70,000 to 70,000" in reason(big)
    assert "here 0 is black and 65,535 is white" in reason(big)
    real = saved(tmp_path, Image.fromarray(np.ones((SIDE, SIDE), np.float32)), "f.tif")
    assert "floating-point grey values, and which of them is white is not known" in reason(real)


# ------------------------------------------------------------------ orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["o.png", "o.tif", "o.jpg", "o.webp"])
def test_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    corners = np.zeros((SIDE, SIDE), dtype=np.uint8)
    half = SIDE // 2
    corners[:half, half:], corners[half:, :half], corners[half:, half:] = 80, 160, 240
    # How a camera that was held so stores what should be seen.
    stored = {
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.T,
        6: np.rot90(corners),
        7: corners[::-1, ::-1].T,
        8: np.rot90(corners, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    path = saved(tmp_path, image, name, exif=exif)
    got = decode(path, SIDE)[..., 0]
    for y, x in ((2, 2), (2, -3), (-3, 2), (-3, -3)):
        assert abs(int(got[y, x]) - int(corners[y, x])) < 12, (orientation, got)


def test_damaged_metadata_do_not_spoil_good_pixels(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(smooth()), "e.png", exif=b"Exif\0\0II*\0\xff\xff\xff")
    np.testing.assert_array_equal(decode(path, SIDE), smooth())


# ------------------------------------------------------------------ the resize rule


def test_the_right_size_is_untouched() -> None:
    np.testing.assert_array_equal(square(Image.fromarray(smooth()), SIDE), smooth())


@pytest.mark.parametrize(("height", "width"), [(16, 21), (33, 16), (16, 40)])
def test_the_right_shorter_side_is_only_cropped(height: int, width: int) -> None:
    pixels = smooth(height, width)
    top, left = (height - 16) // 2, (width - 16) // 2
    np.testing.assert_array_equal(
        square(Image.fromarray(pixels), 16), pixels[top : top + 16, left : left + 16]
    )


@pytest.mark.parametrize(("height", "width"), [(40, 64), (96, 32), (7, 9), (200, 50), (8, 8)])
def test_scaled_then_cropped_at_the_centre(height: int, width: int) -> None:
    image = Image.fromarray(smooth(height, width))
    got = square(image, SIDE).astype(int)
    short = min(height, width)
    scaled = image.resize(
        (round(width * SIDE / short), round(height * SIDE / short)), Image.Resampling.BICUBIC
    )
    left, top = (scaled.width - SIDE) // 2, (scaled.height - SIDE) // 2
    expected = np.asarray(scaled.crop((left, top, left + SIDE, top + SIDE))).astype(int)
    assert np.abs(got - expected).max() <= 12
    assert got.shape == (SIDE, SIDE, 3)


def test_grey_has_one_channel() -> None:
    assert square(Image.fromarray(smooth()[..., 0]), 8).shape == (8, 8, 1)


# ------------------------------------------------------------------ bad files


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def giant(width: int, height: int) -> bytes:
    """A PNG whose header announces so many pixels and that holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def test_files_that_are_no_images(tmp_path: Path) -> None:
    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    rng = np.random.default_rng(0)
    assert "empty (0 bytes)" in reason(file("a.png", b""))
    assert "not an image" in reason(file("b.png", b"hello"))
    assert "not an image" in reason(file("c.txt", b"labels\n1\n"))
    assert "not an image" in reason(file("d.jpg", rng.bytes(4000)))
    assert "not an image" in reason(
        file("e.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9")
    )
    assert "not an image" in reason(file("f.png", b"\x89PNG\r\n\x1a\n"))


@pytest.mark.parametrize(
    ("name", "options"),
    [("t.jpg", {}), ("t.png", {}), ("t.tif", {}), ("t.bmp", {}), ("t.webp", {}), ("t.ppm", {})],
)
def test_files_that_are_cut_short(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(pixels), name, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert "damaged" in reason(path) or "not an image" in reason(path)


def test_a_flipped_byte_in_a_png(tmp_path: Path) -> None:
    content = bytearray(png(smooth(64, 64)))
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "x.png").write_bytes(content)
    assert "damaged" in reason(tmp_path / "x.png")


def test_the_name_must_agree_with_the_content(tmp_path: Path) -> None:
    content = png(smooth())
    for name, says in (
        (
            "a.jpg",
            r"wrongly named: the content is PNG, but the name ends in .jpg (rename it to .png)",
        ),
        ("a", "wrongly named: the content is PNG, but the name has no extension"),
    ):
        (tmp_path / name).write_bytes(content)
        assert says in reason(tmp_path / name)
        with pytest.raises(BadImageError, match="wrongly named"):
            square_side(tmp_path / name)


@pytest.mark.parametrize("side", [9_600, 20_000])
def test_bombs_are_refused_from_the_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(giant(side, side))
    assert "too many pixels" in reason(tmp_path / "bomb.png")


def test_the_ceiling_stands_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(giant(10_001, 10_000))
    assert "10001 x 10000 pixels, above the limit of 100 megapixels" in reason(
        tmp_path / "bomb.png"
    )


def test_things_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing.png")
    assert "leads nowhere" in reason(tmp_path / "dangling.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "loop of symbolic links" in reason(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in reason(tmp_path / "pipe.png")

    (tmp_path / "secret.png").write_bytes(png(smooth()))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    assert "permission denied" in reason(tmp_path / "secret.png")


def test_header_alone_gives_the_square_side(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(smooth(20, 30)), "a.png")
    assert square_side(path) == 20
    assert square_side(path, "letterbox") == 30
