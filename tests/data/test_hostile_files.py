"""Files that are no images or ask for too much: each is one bad image, never a hang."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import pickle
import pty
import resource
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.checks import read_image_set
from normlab.checks.measures.headers import read_header
from normlab.data import DataConfig, load
from normlab.data import image_file as image_file_module
from normlab.data.decode import BadImageError, read, square_side
from normlab.data.image_file import ImageFile
from normlab.data.levels import SIXTEEN, Levels
from normlab.data.sources import cifar, idx
from normlab.data.splitfile import FORMAT, SplitFile
from normlab.errors import InputError
from normlab.seals import DamagedError

Make = Callable[..., Path]


def reason(path: Path) -> str:
    with pytest.raises(BadImageError) as caught:
        read(path, 8, 3, levels=Levels(SIXTEEN, (0, 1)))
    return str(caught.value)


# ------------------------------------------------------------------ what is no file


@contextmanager
def instead(kind: str, path: Path) -> Iterator[None]:
    """Something at a path on which reading would wait for ever, or that leads nowhere."""
    aside = path.parent.parent.with_name(f"aside{path.suffix}")
    if kind in ("a pipe", "a link to a pipe"):
        os.mkfifo(aside if "link" in kind else path)
        if "link" in kind:
            path.symlink_to(aside)
        yield
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as made:
            before = Path.cwd()
            os.chdir(path.parent)  # a socket's path may be short only
            try:
                made.bind(path.name)
            finally:
                os.chdir(before)
            yield
    elif kind == "a link to a device":
        here, there = pty.openpty()
        try:
            path.symlink_to(os.ttyname(there))
            yield
        finally:
            os.close(here)
            os.close(there)
    elif kind == "a link to nowhere":
        path.symlink_to(path.parent / "gone")
        yield
    else:
        assert kind == "a link to itself"
        path.symlink_to(path)
        yield


KINDS = ["a pipe", "a link to a pipe", "a socket", "a link to a device", "a link to nowhere",
         "a link to itself"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_one_bad_image(write: Make, cache: Path, kind: str) -> None:
    root = write({"a": 8, "b": 8})
    with instead(kind, root / "a" / "odd.png"):
        assert reason(root / "a" / "odd.png")
        with pytest.raises(BadImageError):
            square_side(root / "a" / "odd.png")
        assert not read_header(root / "a" / "odd.png")[0]
        with pytest.raises(InputError, match=r"1 of 16 files|1 of 17 files") as caught:
            load(DataConfig(str(root)))
        assert "a/odd.png" in str(caught.value)
        data = load(DataConfig(str(root), skip_bad=True))
        assert list(data.skipped) == ["a/odd.png"]
        assert list(read_image_set(DataConfig(str(root))).skipped) == ["a/odd.png"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_no_split_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "one" / "folder" / "split.json"
    path.parent.mkdir(parents=True)
    with instead(kind, path), pytest.raises(InputError, match=r"split\.json"):
        SplitFile.read(path)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"])
def test_a_pipe_is_no_idx_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="a pipe"), idx._open(tmp_path / name):
        pass


@pytest.mark.parametrize("reader", [cifar._python, cifar._binary])
def test_a_pipe_is_no_batch(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "data_batch_1")
    with pytest.raises(InputError, match="a pipe"):
        reader(tmp_path / "data_batch_1")


# ------------------------------------------------------------------ what asks for too much


def chunk(name: bytes, content: bytes) -> bytes:
    checked = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checked


def png(extra: bytes = b"", width: int = 8, height: int = 8) -> bytes:
    return b"".join([
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        extra,
        chunk(b"IDAT", zlib.compress(bytes(8 * 25))),
        chunk(b"IEND", b""),
    ])  # fmt: skip


def tiff(tags: dict[int, tuple[int, int, int]], rest: bytes = b"", following: int = 0) -> bytes:
    plain = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
             273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, 8), 279: (4, 1, 64)}  # fmt: skip
    every = sorted((plain | tags).items())
    return b"".join([
        b"II*\0", struct.pack("<IH", 8, len(every)),
        *(struct.pack("<HHII", tag, *value) for tag, value in every),
        struct.pack("<I", following), rest,
    ])  # fmt: skip


def pages(count: int) -> bytes:
    one = tiff({})[8:-4]
    made, at = bytearray(b"II*\0" + struct.pack("<I", 8)), 8
    for number in range(count):
        at += len(one) + 4
        made += one + struct.pack("<I", at if number < count - 1 else 0)
    return bytes(made)


def exif(entries: int, each: int) -> bytes:
    """Every entry says that its content is the whole."""
    listed = b"".join(struct.pack(">HHII", tag, 7, each, 8) for tag in range(1, entries))
    return b"MM\0*" + struct.pack(">IH", 8, entries - 1) + listed + bytes(each // 8)


def saved(kind: str, side: int = 8, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, kind, **options)
    return buffer.getvalue()


def animation(frames: int) -> bytes:
    first = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(first, "GIF")
    whole = first.getvalue()
    one = b"\x21\xf9\x04\0\5\0\0\0" + whole[whole.index(b",") : -1]
    return whole[:-1] + one * (frames - 1) + b";"


def scans(count: int) -> bytes:
    whole = saved("JPEG", side=1500, progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * count + whole[-2:]


FLOODS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a strip": ("png", lambda: png(width=1, height=50_000_000), "a side above the limit"),
    "too many pixels": ("png", lambda: png(width=8000, height=8000), "50 megapixels"),
    "a large WebP": ("webp", lambda: saved("WEBP", side=6000, lossless=True), "32 megapixels"),
    "tiny pieces": ("png", lambda: png(chunk(b"aaAa", b"") * 150_000), "pieces"),
    "packed text": (
        "png",
        lambda: png(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000))) * 80),
        "text",
    ),
    "a packed profile": (
        "png",
        lambda: png(chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(9_000_000)))),
        "too large",
    ),
    "EXIF of a PNG": ("png", lambda: png(chunk(b"eXIf", exif(60_000, 700_000))), "EXIF"),
    "EXIF of a WebP": (
        "webp",
        lambda: saved("WEBP", exif=b"Exif\0\0" + exif(60_000, 700_000)),
        "EXIF",
    ),
    "a tag of many values": (
        "tif",
        lambda: tiff({273: (4, 5_000_000, 8)}, bytes(20_000_100)),
        "metadata",
    ),
    "a large tile": (
        "tif",
        lambda: tiff({322: (4, 1, 30_000), 323: (4, 1, 30_000), 324: (4, 1, 8), 325: (4, 1, 64)}),
        "tiles of 900,000,000 pixels",
    ),
    "pages": ("tif", lambda: pages(2500), "more than 2,000 frames"),
    "frames": ("gif", lambda: animation(2500), "more than 2,000 frames"),
    "more frames": ("gif", lambda: animation(60_000), "pieces"),
    "scans": ("jpg", lambda: scans(1000), "scans"),
    "comments": ("jpg", lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 400_000, "pieces"),
    "filling": ("jpg", lambda: b"\xff\xd8" + b"\xff" * 400_000, "pieces"),
    "values as text": ("ppm", lambda: b"P3 9 9 255\n" + b" " * 9_000_000, "values as text"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_file_that_asks_for_too_much_is_one_bad_image(tmp_path: Path, flood: str) -> None:
    extension, make, said = FLOODS[flood]
    path = tmp_path / f"flood.{extension}"
    path.write_bytes(make())
    memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert said in reason(path)
    read_header(path)
    assert time.process_time() - began < 4  # 2 s for each of the two
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 500 << 10


def test_a_file_too_large_is_neither_decoded_nor_hashed(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 6, "b": 6})
    with (root / "a" / "large.png").open("wb") as file:
        file.truncate(image_file_module.MAX_BYTES + 1)  # a hole
    monkeypatch.setattr(ImageFile, "read", lambda *_: pytest.fail("was read"))
    assert "above the limit of 256 MiB" in reason(root / "a" / "large.png")
    monkeypatch.undo()
    monkeypatch.setenv("NORMLAB_CACHE", str(cache.parent))
    assert list(load(DataConfig(str(root), skip_bad=True)).skipped) == ["a/large.png"]


def test_as_many_frames_as_are_usual_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(animation(1500))
    (tmp_path / "a.tif").write_bytes(pages(1500))
    for name in ("a.gif", "a.tif"):
        assert read(tmp_path / name, 8, 3, levels=None).frames == 1500


def test_a_disk_that_fails_is_a_bad_image(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 6, "b": 6})
    before = ImageFile.read

    def failing(self: ImageFile, count: int | None = -1) -> bytes:
        if self.size == (root / "a" / "000.png").stat().st_size and count != 16:
            raise OSError(errno.EIO, "Input/output error")
        return before(self, count)

    content = (root / "a" / "000.png").read_bytes()
    (root / "a" / "000.png").write_bytes(content + bytes(1000))  # of a size of its own
    monkeypatch.setattr(ImageFile, "read", failing)
    with pytest.raises(InputError, match=r"a/000\.png cannot be read \(Input/output error\)"):
        load(DataConfig(str(root)))


# ------------------------------------------------------------------ arrays


def idx_of(root: Path, images: bytes, labels: bytes, packed: bool = True) -> Path:
    root.mkdir(exist_ok=True)
    for name, content in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        pack = packed and "images" in name
        (root / f"{name}{'.gz' * pack}").write_bytes(gzip.compress(content) if pack else content)
    return root


def numbers(*values: int) -> bytes:
    return b"".join(struct.pack(">I", value) for value in values)


def test_a_packed_file_that_announces_a_flood_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = bytes([0, 0, 8, 1]) + numbers(20) + bytes([0, 1] * 10)
    root = idx_of(tmp_path / "set", bytes([0, 0, 8, 3]) + numbers(20, 13_000, 13_000), labels)
    with pytest.raises(InputError, match=r"is not unpacked: its header announces 3,380,000,000"):
        load(DataConfig(str(root)))


def test_a_packed_file_with_more_than_it_announces_is_read_no_further(tmp_path: Path) -> None:
    labels = bytes([0, 0, 8, 1]) + numbers(20) + bytes([0, 1] * 10)
    images = bytes([0, 0, 8, 3]) + numbers(20, 8, 8) + bytes(60_000_000)
    root = idx_of(tmp_path / "set", images, labels)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="is too long"):
        load(DataConfig(str(root)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 40 << 10


@pytest.mark.parametrize("sides", [(1, 80_000), (8000, 8000)])
def test_arrays_have_the_limits_of_files(tmp_path: Path, sides: tuple[int, int]) -> None:
    labels = bytes([0, 0, 8, 1]) + numbers(2) + bytes([0, 1])
    images = bytes([0, 0, 8, 3]) + numbers(2, *sides) + bytes(2 * sides[0] * sides[1])
    with pytest.raises(InputError, match="above the limits"):
        load(DataConfig(str(idx_of(tmp_path / "set", images, labels, packed=False))))


def test_arrays_on_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = bytes([0, 0, 8, 1]) + numbers(20) + bytes([0, 1] * 10)
    images = bytes([0, 0, 8, 3]) + numbers(20, 8, 8) + bytes(20 * 64)
    root = idx_of(tmp_path / "set", images, labels, packed=False)

    class Failing(io.BytesIO):
        """Its beginning can be read."""

        def read(self, count: int | None = -1) -> bytes:
            if count and count > 100:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(count)

    monkeypatch.setattr(idx, "open_regular", lambda path: Failing(path.read_bytes()))
    with pytest.raises(InputError, match="idx3-ubyte cannot be read: Input/output error"):
        load(DataConfig(str(root)))


def batches(root: Path, first: bytes, names: object = None) -> Path:
    root.mkdir()
    pixels = np.zeros((4, 3072), np.uint8)
    good = pickle.dumps({b"labels": [0, 1, 0, 1], b"data": pixels}, 2)
    (root / "data_batch_1").write_bytes(first or good)
    (root / "test_batch").write_bytes(good)
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": names or [b"a", b"b"]}, 2))
    return root


@pytest.mark.parametrize(
    "first",
    [
        b"\x80\x02N" + b"r" + struct.pack("<I", 1 << 30) + b".",  # room for a billion objects
        b"\x80\x02N" + b"p999999999\n" + b".",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # a terabyte is announced
        b"\x80\x02" + b"N0" * 400_000 + b".",
    ],
)
def test_a_batch_that_asks_for_too_much(tmp_path: Path, first: bytes) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="data_batch_1"):
        cifar.find(batches(tmp_path / "set", first))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100 << 10


def test_a_batch_of_any_size_is_not_read(tmp_path: Path) -> None:
    root = batches(tmp_path / "set", b"")
    with (root / "data_batch_1").open("wb") as file:
        file.truncate(300 << 20)
    with pytest.raises(InputError, match="above the limit of 256 MiB"):
        cifar.find(root)


@pytest.mark.parametrize(
    "names", [[b"a", b"a"], [b"a", b"\x1b[31mb"], ["a", "\ud800"], [b"a", 3], [b"a", b" "],
              [b"a", b"b" * 300]]
)  # fmt: skip
def test_names_of_classes_are_different_texts(tmp_path: Path, names: list[object]) -> None:
    with pytest.raises(InputError, match=r"batches\.meta"):
        cifar.find(batches(tmp_path / "set", b"", names))


# ------------------------------------------------------------------ split files


def split_text(**changed: object) -> str:
    content: dict[str, object] = {
        "format": FORMAT, "source": "x", "classes": ["a", "b"], "seed": 0, "notes": [],
        "images": {"train": {"01": "a/1"}, "val": {"02": "a/2"}, "test": {"03": "a/3"}},
        "left_out": {}, "moved": [],
    }  # fmt: skip
    return json.dumps({**content, **changed})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        split_text(seed="1"),
        split_text(seed=True),
        split_text(seed=[1]),
        split_text(classes="ab"),
        split_text(classes=[1, 2]),
        split_text(images=[]),
        split_text(images={"train": {}, "val": [], "test": {}}),
        split_text(images={"train": {"-1": "a"}, "val": {}, "test": {}}),
        split_text(images={"train": {"1" * 17: "a"}, "val": {}, "test": {}}),
        split_text(images={"train": {"01": "a", "1": "b"}, "val": {}, "test": {}}),
        split_text(images={"train": {"01": 3}, "val": {}, "test": {}}),
        split_text(left_out={"04": "why"}),
        split_text(notes=[{}]),
        split_text(moved=3),
        split_text().replace('"x"', '"\\ud800"'),
        split_text().replace('"seed": 0', '"seed": 0, "seed": 1'),
        split_text().replace('"seed": 0', '"seed": NaN'),
        split_text().replace('"seed": 0', f'"seed": {"9" * 5000}'),
    ],
)
def test_split_files_of_other_shapes_are_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"split\.json") as caught:
        SplitFile.read(path)
    assert len(str(caught.value)) < 400


def test_split_files_are_sealed_and_those_by_hand_pass(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(split_text())
    by_hand = SplitFile.read(path)
    by_hand.write(path)
    assert SplitFile.read(path) == by_hand
    whole = path.read_text()
    path.write_text(whole.replace("a/2", "a/9"))
    with pytest.raises(DamagedError, match=r"split\.json is damaged or was edited"):
        SplitFile.read(path)


# ------------------------------------------------------------------ folders


def test_folders_that_link_to_each_other_end(write: Make, cache: Path) -> None:
    root = write({"a": 3, "b": 3})
    (root / "a" / "to").symlink_to(root / "b")
    (root / "b" / "to").symlink_to(root / "a")
    with pytest.raises(InputError, match="at most one folder below"):
        load(DataConfig(str(root)))


def test_folders_that_only_lead_to_each_other_end(tmp_path: Path) -> None:
    for name, other in (("x", "y"), ("y", "x")):
        (tmp_path / "set" / "top" / name).mkdir(parents=True)
        (tmp_path / "set" / "top" / name / "to").symlink_to(tmp_path / "set" / "top" / other)
    with pytest.raises(InputError):
        load(DataConfig(str(tmp_path / "set")))


def test_a_very_deep_tree_ends(write: Make) -> None:
    root = write({"a": 3, "b": 3})
    deep = root.joinpath("a", *["deeper"] * 300)
    deep.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(deep / "deep.png")
    with pytest.raises(InputError, match="at most one folder below") as caught:
        load(DataConfig(str(root)))
    assert str(root) in str(caught.value)
