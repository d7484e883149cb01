"""Parsers of data, fed with damaged and hostile input.

Everything but success or a message for a person is a failure, and so is an input that takes more
than 2 s or 500 MB::

    python benchmarks/fuzzing.py --each 10000
"""

from __future__ import annotations

import argparse
import gzip
import io
import pickle
import random
import struct
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features

from normlab.bounded import parse_json, parse_toml
from normlab.data.decode import BadImageError, claims_image, read, square_side
from normlab.data.levels import Levels
from normlab.data.sources import cifar, idx
from normlab.data.splitfile import SplitFile
from normlab.errors import InputError
from normlab.files import read_arrays, write_arrays

SECONDS = 2.0
"""Of processor time, for one input."""
MEMORY = 500 << 20
"""Bytes by which one input may raise the peak."""
EXPECTED = (InputError, BadImageError)
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 100_000, 9000)


@dataclass(frozen=True)
class Parser:
    """What is fed.

    Attributes:
        name: of the parser.
        seeds: good inputs, which are damaged.
        call: parses a content, with a folder of its own to put it in.
    """

    name: str
    seeds: tuple[bytes, ...]
    call: Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Failure:
    """An input that ended in another way than it should.

    Attributes:
        parser: that was fed.
        content: the input.
        what: the traceback, or what it took.
    """

    parser: str
    content: bytes
    what: str


def parsers() -> list[Parser]:
    """All of them, made on a call because their seeds are encoded here."""
    images = [_image(kind, name) for kind, name in _formats().items()]
    return [*images, *_idx(), *_cifar(), *_records()]


def mutated(seeds: tuple[bytes, ...], number: int, seed: int = 0) -> bytes:
    """The input of this number: a seed with one to eight changes."""
    draw = random.Random(f"{seed}/{number}")
    content = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        _change(content, seeds, draw)
    return bytes(content)


def _change(content: bytearray, seeds: tuple[bytes, ...], draw: random.Random) -> None:
    if not content:
        content += draw.randbytes(8)
    # Headers decide most, so half of the changes are near the beginning.
    most = len(content) if draw.random() < 0.5 else min(len(content), 64)
    at = draw.randrange(most)
    end = min(len(content), at + draw.choice((1, 4, 16, 256)))
    match draw.randrange(9):
        case 0:
            content[at] ^= 1 << draw.randrange(8)
        case 1:
            content[at] = draw.randrange(256)
        case 2:
            packed = struct.pack(draw.choice("<>") + "I", draw.choice(_EXTREMES))
            content[at : at + 4] = packed
        case 3:
            packed = struct.pack(draw.choice("<>") + "H", draw.choice(_EXTREMES) & 0xFFFF)
            content[at : at + 2] = packed
        case 4:
            del content[at:end]
        case 5:
            content[at:at] = content[at:end] * draw.choice((1, 2, 1000))
        case 6:
            content[at:at] = draw.randbytes(end - at)
        case 7:
            del content[at:]
        case 8:
            other = draw.choice(seeds)
            content[at:] = other[draw.randrange(len(other)) :]


def fed(parser: Parser, inputs: Iterator[bytes], folder: Path) -> list[Failure]:
    """Feed a parser. What it says of its inputs is of no interest, as long as it says it."""
    failures = []
    for content in inputs:
        memory, began = Memory(), time.process_time()
        what = ""
        try:
            parser.call(content, folder)
        except EXPECTED:
            pass
        except Exception:  # what must not happen
            what = traceback.format_exc()
        taken, grown = time.process_time() - began, memory.grown()
        if taken > SECONDS:
            what += f"It took {taken:.1f} s."
        if grown > MEMORY:
            what += f"It took {grown >> 20} MiB."
        if what:
            failures.append(Failure(parser.name, content, what))
    return failures


class Memory:
    """Bytes by which this process grew at most since this was made; 0 where the system does not
    say."""

    def __init__(self) -> None:
        with suppress(OSError):  # Linux forgets the peak up to here
            Path("/proc/self/clear_refs").write_text("5")
        self._before = self._read("VmRSS")

    def grown(self) -> int:
        """The growth."""
        return max(self._read("VmHWM") - self._before, 0)

    @staticmethod
    def _read(name: str) -> int:
        with suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) << 10
        return 0


def _formats() -> dict[str, str]:
    found = {"PNG": "x.png", "JPEG": "x.jpg", "GIF": "x.gif", "BMP": "x.bmp", "TIFF": "x.tif"}
    found |= {"WEBP": "x.webp", "PPM": "x.ppm"}
    if features.check_codec("jpg_2000"):
        found["JPEG2000"] = "x.jp2"
    if features.check_module("avif"):
        found["AVIF"] = "x.avif"
    return found


def _image(kind: str, name: str) -> Parser:
    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    options: dict[str, list[dict[str, object]]] = {
        "PNG": [{"exif": exif}, {"dpi": (72, 72)}],
        "JPEG": [{"exif": exif, "comment": b"said"}, {"progressive": True}],
        "GIF": [{"save_all": True, "append_images": [colour.rotate(90)], "comment": b"said"}],
        "TIFF": [{"compression": one} for one in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")],
        "WEBP": [{"exif": exif.tobytes()}, {"lossless": True}],
    }
    images = [(colour, option) for option in options.get(kind, [{}])]
    grey = Image.fromarray(draw.integers(0, 4096, (24, 20), dtype=np.uint16))
    if kind in ("PNG", "TIFF"):
        images += [(grey, {}), (colour.convert("RGBA"), {}), (colour.convert("P"), {})]
    seeds = []
    for image, option in images:
        buffer = io.BytesIO()
        image.save(buffer, kind, **option)
        seeds.append(buffer.getvalue())
    if kind == "PPM":
        seeds += [b"P2\n# said\n3 2\n15\n1 2 3 4 5 6\n", b"P5 4 2 1023\n" + bytes(16)]

    def call(content: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(content)
        claims_image(path)
        for levels in (None, Levels()):
            read(path, 16, levels=levels)
        square_side(path)

    return Parser(f"image {kind}", tuple(seeds), call)


def _idx() -> list[Parser]:
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 6, 0, 1, 0, 1, 0, 1])
    pixels = bytes([0, 0, 8, 3, *b"\0\0\0\x06\0\0\0\x04\0\0\0\x04"]) + bytes(range(96))
    files = {"train-images-idx3-ubyte": pixels, "train-labels-idx1-ubyte": labels}

    def parser(name: str, packed: bool) -> Parser:
        def call(content: bytes, folder: Path) -> None:
            inner = folder / f"idx-{name}-{packed}"
            inner.mkdir(exist_ok=True)
            for one, good in files.items():
                if one != name:
                    (inner / one).write_bytes(good)
            (inner / (name + ".gz" * packed)).write_bytes(content)
            arrays = idx.find(inner).arrays
            assert arrays is not None
            arrays()

        good = files[name]
        return Parser(
            f"idx {name}{'.gz' * packed}", (gzip.compress(good) if packed else good,), call
        )

    return [parser(name, packed) for name in files for packed in (False, True)]


def _cifar() -> list[Parser]:
    draw = np.random.default_rng(0)
    data = draw.integers(0, 256, (4, 3072), dtype=np.uint8)
    batch = {b"labels": [0, 1, 0, 1], b"data": data}
    python = tuple(pickle.dumps(batch, protocol) for protocol in (1, 2, 4))
    names = tuple(pickle.dumps({b"label_names": [b"cat", b"dog"]}, one) for one in (0, 2, 4))
    binary = b"".join(bytes([row % 2]) + data[row].tobytes() for row in range(4))

    def parser(name: str, files: dict[str, bytes], seeds: tuple[bytes, ...]) -> Parser:
        def call(content: bytes, folder: Path) -> None:
            inner = folder / f"cifar-{name}"
            inner.mkdir(exist_ok=True)
            for one, good in files.items():
                (inner / one).write_bytes(good)
            (inner / name).write_bytes(content)
            arrays = cifar.find(inner).arrays
            assert arrays is not None
            arrays()

        return Parser(f"cifar {name}", seeds, call)

    whole = {"data_batch_1": python[1], "test_batch": python[1], "batches.meta": names[1]}
    packed = {"data_batch_1.bin": binary, "test_batch.bin": binary, "batches.meta.txt": b"a\nb\n"}
    return [
        parser("data_batch_1", whole, python),
        parser("batches.meta", whole, names),
        parser("data_batch_1.bin", packed, (binary,)),
        parser("batches.meta.txt", packed, (b"cat\ndog\n",)),
    ]


def _records() -> list[Parser]:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "split.json"
        images = {"train": {1: "a/1.png", 2: "b/1.png"}, "val": {3: "a/2.png"}, "test": {}}
        left_out = {9: {"file": "a/9.png", "why": "a copy"}}
        SplitFile(
            "photos",
            ("a", "b"),
            0,
            images,
            left_out,
            repeats={"b/2.png": "a copy"},
            notes=("Said.",),
            moved=[["a", "b", "c"]],
        ).write(path)
        split = path.read_bytes()
        write_arrays(path, {"hashes": np.arange(9, dtype=np.uint64), "group": np.zeros((3, 2))})
        arrays = path.read_bytes()
    # Without its seal, so that more than the seal is tried.
    bare = split[: split.rindex(b",\n")] + b"\n}\n"

    def file_call(parse: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
        def call(content: bytes, folder: Path) -> object:
            path = folder / "record"
            path.write_bytes(content)
            return parse(path)

        return call

    toml = b'name = "x"\n[a.b]\nc = [1, 2.5, "t"]\nd = { e = 1979-05-27 }\n'
    return [
        Parser("split file", (split, bare), file_call(SplitFile.read)),
        Parser("npz", (arrays,), file_call(lambda path: read_arrays(path, 1 << 20))),
        Parser("json", (split, bare), lambda content, _: parse_json(content, "x.json")),
        Parser("toml", (toml,), lambda content, _: parse_toml(content, "x.toml")),
    ]


def main() -> None:
    """Feed every parser, and print what failed."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--each", type=int, default=1000, help="inputs for each parser")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", default="", help="parsers whose name contains this")
    given = asked.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for parser in parsers():
            if given.only not in parser.name:
                continue
            began = time.perf_counter()
            inputs = (mutated(parser.seeds, number, given.seed) for number in range(given.each))
            failures = fed(parser, inputs, Path(folder))
            failed += len(failures)
            taken = time.perf_counter() - began
            print(f"{parser.name:<32} {given.each:>8,} inputs {len(failures):>4} failures "
                  f"{taken:>7.1f} s")  # fmt: skip
            for failure in failures[:3]:
                print(f"  {failure.content[:80]!r} ({len(failure.content):,} bytes)")
                print("  " + failure.what.strip().replace("\n", "\n  ")[-1500:])
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
