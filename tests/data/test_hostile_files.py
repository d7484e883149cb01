"""What a stranger may put among images: nothing hangs or takes the memory; all of it is said."""

from __future__ import annotations

import errno
import gzip
import importlib.util
import io
import json
import os
import pickle
import re
import socket
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from normlab.bounded import parse_toml
from normlab.checks.image_set import read_image_set
from normlab.checks.measures.headers import headers
from normlab.data import DataConfig, hashes, load, sources
from normlab.data import decode as decode_module
from normlab.data.decode import BadImageError, read
from normlab.data.levels import Levels
from normlab.data.splitfile import SplitFile
from normlab.errors import InputError
from normlab.seals import DamagedError

Make = Callable[..., Path]

unix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")


def _fuzzing() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "fuzzing.py"
    spec = importlib.util.spec_from_file_location("fuzzing", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FUZZING = _fuzzing()


# ------------------------------------------------------------------ what is no file


@pytest.fixture
def strange(write: Make) -> Path:
    """A set with everything that is no image in one class."""
    root = write({"a": 6, "b": 6})
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "link to pipe.png").symlink_to(root / "a" / "pipe.png")
    (root / "a" / "nowhere.png").symlink_to(root / "gone.png")
    (root / "a" / "circle.png").symlink_to(root / "a" / "circle.png")
    (root / "a" / f"{'x' * 251}.png").write_bytes(b"no image")
    controller, terminal = os.openpty()
    (root / "a" / "terminal.png").symlink_to(os.ttyname(terminal))
    here = Path.cwd()
    os.chdir(root / "a")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.png")
    os.chdir(here)
    yield root
    os.close(controller)
    os.close(terminal)


@unix
@pytest.mark.timeout(60)
def test_what_is_no_file_is_a_bad_image(strange: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="7 of 19 files") as caught:
        load(DataConfig(str(strange)))
    assert "pipe.png is not a regular file" in str(caught.value)
    data = load(DataConfig(str(strange), skip_bad=True))
    assert sum(len(split) for split in data.splits.values()) == 12
    reasons = {Path(name).name: why for name, why in data.skipped.items()}
    for name in ("pipe.png", "link to pipe.png", "socket.png", "terminal.png"):
        assert reasons[name] == "is not a regular file"
    assert "leads nowhere" in reasons["nowhere.png"]
    assert "loop" in reasons["circle.png"]
    image_set = read_image_set(DataConfig(str(strange)))
    assert len(image_set) == 12
    assert headers(image_set) is not None
    assert len(set(hashes.content_hashes(sources.find(str(strange))).tolist())) == 19


@unix
@pytest.mark.timeout(60)
def test_a_pipe_as_a_split_file_or_an_array_file(write: Make, tmp_path: Path) -> None:
    root = write({"a": 6, "b": 6})
    os.mkfifo(tmp_path / "split.json")
    with pytest.raises(InputError, match=r"split\.json is a pipe, not a file"):
        load(DataConfig(str(root), split=str(tmp_path / "split.json")))
    for name in ("data_batch_1", "data_batch_1.bin", "train-images-idx3-ubyte"):
        folder = tmp_path / name.replace(".", "")
        folder.mkdir()
        os.mkfifo(folder / name)
        with pytest.raises(InputError):
            sources.find(str(folder))


def test_a_disk_that_fails_is_a_bad_image(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 6, "b": 6})
    opened = decode_module.open_regular

    class Failing(io.FileIO):
        def read(self, *_: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    def failing(path: Path) -> object:
        return Failing(path) if path.name == "003.png" else opened(path)

    for module in (decode_module, hashes):
        monkeypatch.setattr(module, "open_regular", failing)
    with pytest.raises(InputError, match=r"003\.png cannot be read \(Input/output error\)"):
        load(DataConfig(str(root)))
    assert len(load(DataConfig(str(root), skip_bad=True)).skipped) == 2


# ------------------------------------------------------------------ bombs


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _png(width: int, height: int, *before: bytes, lines: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((width * 3 + 1) * (lines or height)))
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", head), *before, _chunk(b"IDAT", pixels),
         _chunk(b"IEND", b""))
    )  # fmt: skip


def _tiff(entries: int, stated: int, size: int) -> bytes:
    """Tags that all lead to the same bytes."""
    tags = b"".join(struct.pack("<HHII", 400 + k, 1, stated, 8) for k in range(entries))
    body = b"II*\0" + struct.pack("<I", size) + bytes(size - 8)
    return body + struct.pack("<H", entries) + tags + bytes(4)


def _saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _scans() -> bytes:
    good = _saved("JPEG", progressive=True)
    *_, last = re.finditer(rb"\xff\xda", good)
    size = struct.pack(">HH", 9000, 9000)
    header = re.sub(rb"(\xff\xc2..\x08)....", lambda m: m[1] + size, good, flags=re.DOTALL)
    return header[: last.start()] + good[last.start() : -2] * 5000 + good[-2:]


def _gif(frames: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * frames + b";"


def _bmp(width: int, height: int, content: bytes) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(content), 0, 0, 256, 0)
    offset = 14 + len(info) + 1024
    head = b"BM" + struct.pack("<IHHI", offset + len(content), 0, 0, offset)
    return head + info + bytes(1024) + content


EXIF_BOMB = b"Exif\0\0" + _tiff(5000, 60_000, 60_100)
BOMBS = {
    "a strip.png": lambda: _png(1, 60_000_000, lines=1),
    "pixels.png": lambda: _png(60_000, 60_000, lines=1),
    "chunks.png": lambda: _png(8, 8, *[_chunk(b"teXt", b"")] * 60_000),
    "frames.gif": lambda: _gif(200_000),
    "blocks.gif": lambda: _gif(0)[:-1] + b"\x21\xfe" + b"\x01x" * 2_000_000 + b"\0" + _gif(1)[19:],
    "scans.jpg": _scans,
    "tags.jpg": lambda: _saved("JPEG")[:2] + b"".join(
        b"\xff\xe1" + struct.pack(">H", 60_002 + 6) + b"Exif\0\0" + part
        for part in (EXIF_BOMB[6:60_006], EXIF_BOMB[60_006:].ljust(60_000, b"\0"))
    ) + _saved("JPEG")[2:],
    "segments.jpg": lambda: b"\xff\xd8" + b"\xff\xe5\0\x02" * 2_000_000 + _saved("JPEG")[2:],
    "tags.tif": lambda: _tiff(60_000, 1_000_000, 1_000_100),
    "pages.tif": lambda: b"II*\0\x08\0\0\0" + b"".join(
        struct.pack("<HI", 0, 14 + 6 * k) for k in range(500_000)
    ),
    "line.bmp": lambda: _bmp(80_000_000, 1, b"\x01\0\0\0"),
    "text.ppm": lambda: b"P3\n2000 2000\n255\n" + b"1 " * 6_000_000,
    "comment.ppm": lambda: b"P6\n#" + b"x" * 20_000_000 + b"\n2 2\n255\n" + bytes(12),
    "values.ppm": lambda: b"P6 5000 5000 1000\n" + bytes(30_000_000),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_bad_image(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    memory, began = FUZZING.Memory(), time.process_time()
    with pytest.raises(BadImageError) as caught:
        read(path, 16, levels=Levels())
    assert time.process_time() - began < 1
    assert memory.grown() < 200 << 20
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    "block",
    [
        _chunk(b"eXIf", EXIF_BOMB[6:]),
        _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000))),
        _chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(
            b"\nexif\n 9\n" + EXIF_BOMB.hex().encode()[:1_000_000])),
    ],
)  # fmt: skip
def test_metadata_that_asks_for_much_is_passed_over(tmp_path: Path, block: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(_png(16, 16, block))
    memory = FUZZING.Memory()
    assert read(path, 16, levels=None).pixels is not None
    assert memory.grown() < 100 << 20


def test_ordinary_large_images_are_still_read(tmp_path: Path) -> None:
    """A photograph of 24 megapixels, turned, and a long animation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6000, 4000), "red").save(tmp_path / "x.jpg", exif=exif)
    assert read(tmp_path / "x.jpg", 8, levels=None).pixels is not None
    (tmp_path / "x.gif").write_bytes(_gif(900))
    assert read(tmp_path / "x.gif", 8, levels=None).frames == 900
    pages = [Image.new("L", (8, 8), page) for page in range(7)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:], exif=exif)
    assert read(tmp_path / "x.tif", 8, levels=None).frames == 7


# ------------------------------------------------------------------ arrays


def _idx(count: int, side: int, pixels: bytes) -> bytes:
    return bytes([0, 0, 8, 3]) + struct.pack(">III", count, side, side) + pixels


def test_a_packed_idx_file_is_not_unpacked_for_gigabytes(tmp_path: Path) -> None:
    count = 300_000
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", count) + bytes([0, 1]) * (count // 2)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    # The header is of 3 GB, but the test need not make all of it.
    packed = gzip.compress(_idx(count, 100, bytes(1 << 20)), 9)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed)
    with pytest.raises(InputError, match="announces 3,000,000,000 values in"):
        load(DataConfig(str(tmp_path)))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a table of 2 billion lines
        b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.",  # a key that is very deep
        b"\x80\x04\x8f(" + b")" + b"\x85" * 200_000 + b"\x90.",  # likewise in a set
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"x.",
        b"\x80\x02" + b"0" * 200_000,
    ],
)
def test_a_pickle_that_asks_for_much_is_refused(tmp_path: Path, content: bytes) -> None:
    batch = pickle.dumps({b"labels": [0, 1], b"data": np.zeros((2, 3072), np.uint8)}, 2)
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(batch)
    (tmp_path / "batches.meta").write_bytes(content)
    memory = FUZZING.Memory()
    with pytest.raises(InputError, match=r"batches\.meta (is damaged|does not contain)"):
        sources.find(str(tmp_path))
    assert memory.grown() < 200 << 20


@pytest.mark.parametrize(
    "names", [["cat", "cat"], ["cat", ""], ["cat", 3], ["cat", "d\0g"], ["cat", "\ud800"], {}]
)
def test_class_names_are_text(tmp_path: Path, names: object) -> None:
    batch = pickle.dumps({b"labels": [0, 1], b"data": np.zeros((2, 3072), np.uint8)}, 2)
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(batch)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    with pytest.raises(InputError, match="list of different class names"):
        sources.find(str(tmp_path))


# ------------------------------------------------------------------ split files


def _split(**changed: object) -> str:
    images = {"train": {"1": "a"}, "val": {}, "test": {}}
    whole = {"format": "normlab split 1", "source": "x", "classes": ["a"], "seed": 0, "notes": [],
             "images": images, "left_out": {}, "moved": []}  # fmt: skip
    return json.dumps({**whole, **changed})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_split(seed="1"), "seed must be a whole number"),
        (_split(seed=True), "seed must be a whole number"),
        (_split(classes="ab"), "classes must be a list"),
        (_split(classes=[1]), "classes must be text"),
        (_split(notes=[None]), "notes must be text"),
        (_split(images=[]), "images must be an object"),
        (_split(images={"train": {}, "val": {}}), "lacks 'test'"),
        (_split(images={"train": {"-5": "a"}, "val": {}, "test": {}}), "no hash"),
        (_split(images={"train": {"1": ["a"]}, "val": {}, "test": {}}), "must be text"),
        (_split(left_out={"2": "why"}), "left_out must be an object"),
        (_split(moved=["abc"]), "moved must be a list"),
        (_split(source="\ud800"), "not Unicode"),
        (_split(seed=1).replace('"seed": 1', '"seed": ' + "1" * 100_000), "cannot be read"),
        ('{"format": ' + "[" * 100_000 + "]" * 100_000 + "}", "levels"),
        (_split().replace('"1": "a"', '"1": "a", "1": "b"'), "occurs twice"),
        ("[" + "0," * 9_000_000 + "0]", "larger than 16 MiB"),
    ],
)
def test_a_hostile_split_file_is_one_message(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        SplitFile.read(path)


def test_a_split_file_is_sealed_and_one_by_hand_need_not_be(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(_split())
    made = SplitFile.read(path)
    made.write(path)
    assert SplitFile.read(path) == made
    whole = path.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 200).tolist():
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(DamagedError):
            SplitFile.read(path)


# ------------------------------------------------------------------ anything


def test_no_parser_of_data_ends_in_anything_but_a_message(tmp_path: Path) -> None:
    """A short form of ``python benchmarks/fuzzing.py``."""
    for parser in FUZZING.parsers():
        inputs = (FUZZING.mutated(parser.seeds, number) for number in range(15))
        assert FUZZING.fed(parser, inputs, tmp_path) == []


@pytest.mark.timeout(20)
def test_a_long_word_in_toml_takes_no_time() -> None:
    """The search for long keys once began again at each of its letters."""
    with pytest.raises(InputError):
        parse_toml(b"d" * 1_000_000, "x.toml")
    with pytest.raises(InputError, match="parts"):
        parse_toml(b"a" + b".a" * 30 + b" = 1", "x.toml")
