"""Images and data sets that a stranger may have written: examples, and what reads them."""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .parser import Parser, unsealed

_IMAGES: Mapping[str, tuple[str, Sequence[Mapping[str, object]]]] = {
    "PNG": ("png", ({}, {"compress_level": 0})),
    "JPEG": ("jpg", ({}, {"progressive": True}, {"comment": b"hello"})),
    "GIF": ("gif", ({"save_all": True}, {})),
    "TIFF": ("tif", ({}, {"compression": "tiff_lzw"}, {"save_all": True},
                     {"compression": "tiff_deflate"})),
    "WEBP": ("webp", ({}, {"lossless": True}, {"save_all": True})),
    "BMP": ("bmp", ({},)),
    "PPM": ("ppm", ({},)),
}  # fmt: skip
_MODES = {"PNG": ("RGB", "L", "P", "RGBA", "I;16"), "TIFF": ("RGB", "L", "F", "I;16"),
          "GIF": ("P",), "BMP": ("RGB", "P"), "PPM": ("RGB", "L"), "WEBP": ("RGB", "RGBA"),
          "JPEG": ("RGB", "L", "CMYK")}  # fmt: skip


def data_parsers(base: Path) -> dict[str, Parser]:
    """Name to parser, of files below a folder."""
    base = base / "data"
    base.mkdir(parents=True, exist_ok=True)
    return {**_of_images(base), **_of_idx(base), **_of_cifar(base), **_of_groups(base)}


def _of_images(base: Path) -> dict[str, Parser]:
    from normlab.checks.measures.headers import read_header
    from normlab.data.decode import BadImageError, read
    from normlab.data.levels import SIXTEEN, Levels

    levels = Levels(SIXTEEN, (0, 1))

    def reading(place: Path) -> Callable[[], object]:
        def both() -> None:
            read_header(place)
            try:
                read(place, 8, 3, levels=levels)
            except BadImageError:
                return

        return both

    found = {}
    for kind, (extension, ways) in _IMAGES.items():
        seeds = []
        for mode in _MODES[kind]:
            for way in ways:
                seeds.append(_image(mode, kind, way))
        place = base / f"image.{extension}"
        found[f"{kind} images"] = Parser(seeds, place, reading(place))
    return found


def _image(mode: str, kind: str, way: Mapping[str, object]) -> bytes:
    from PIL import Image

    values = np.arange(48, dtype=np.uint8).reshape(6, 8)
    first, second = (
        Image.fromarray(array.astype(np.uint16)) if mode == "I;16"
        else Image.fromarray(array.astype(np.float32) / 255) if mode == "F"
        else Image.fromarray(array).convert(mode)
        for array in (values, 255 - values)
    )  # fmt: skip
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"append_images": [second]} if way.get("save_all") else {}
    if kind in ("PNG", "JPEG", "WEBP"):
        more["exif"] = exif  # type: ignore[assignment]
    first.save(buffer, kind, **way, **more)  # type: ignore[arg-type]
    return buffer.getvalue()


def _of_idx(base: Path) -> dict[str, Parser]:
    from normlab.data import DataConfig, load

    labels = bytes([0, 0, 8, 1, 0, 0, 0, 20]) + bytes([0, 1] * 10)
    images = bytes([0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 8, 0, 0, 0, 8])
    images += bytes(range(64)) * 20
    found = {}
    for what, name, content, beside in (
        ("images", "train-images-idx3-ubyte", images, ("train-labels-idx1-ubyte", labels)),
        ("labels", "train-labels-idx1-ubyte", labels, ("train-images-idx3-ubyte", images)),
    ):
        for packed in (False, True):
            root = base / f"idx-{what}{'-gz' * packed}"
            root.mkdir()
            (root / beside[0]).write_bytes(beside[1])
            place = root / f"{name}{'.gz' * packed}"
            seed = gzip.compress(content, mtime=0) if packed else content
            found[f"IDX {what}{', packed' * packed}"] = Parser(
                [seed],
                place,
                lambda root=root: load(DataConfig(source=str(root))),  # type: ignore[misc]
            )
    return found


def _of_cifar(base: Path) -> dict[str, Parser]:
    from normlab.data import sources

    pixels = np.arange(4 * 3072, dtype=np.int64).astype(np.uint8).reshape(4, 3072)
    batch = {b"labels": [0, 1, 0, 1], b"data": pixels, b"batch_label": b"one"}
    meta = {b"label_names": [b"cat", b"dog"], b"num_vis": 3072}
    whole = {
        "data_batch_1": [pickle.dumps(batch, protocol) for protocol in (2, 4)],
        "test_batch": [pickle.dumps(batch, 2)],
        "batches.meta": [pickle.dumps(meta, protocol) for protocol in (0, 2, 4)],
    }
    binary = b"".join(bytes([row % 2]) + pixels[row].tobytes() for row in range(4))
    whole_binary = {"data_batch_1.bin": [binary], "test_batch.bin": [binary],
                    "batches.meta.txt": [b"cat\ndog\n"]}  # fmt: skip
    found = {}
    for kind, files in (("", whole), ("binary ", whole_binary)):
        for name, seeds in files.items():
            if name.startswith("test"):
                continue
            root = base / f"cifar-{name}"
            root.mkdir()
            for other, contents in files.items():
                (root / other).write_bytes(contents[0])

            def read(root: Path = root) -> object:
                listing = sources.find(str(root))
                return listing.arrays and listing.arrays()

            what = "class names" if "meta" in name else "batches"
            found[f"CIFAR {kind}{what}"] = Parser(seeds, root / name, read)
    return found


def _of_groups(base: Path) -> dict[str, Parser]:
    """What is kept in the cache is sealed, but whoever can write there can seal it too."""
    from normlab.data.cache_files import keep_arrays, kept_arrays
    from normlab.data.splitfile import SplitFile
    from normlab.places import cache_folder

    keep_arrays("fuzzed", "arrays", {"group": np.arange(5), "name": np.array("a")})
    place = cache_folder("fuzzed") / "arrays.npz"
    split = base / "split-alone.json"
    SplitFile("photos", ("a", "b"), 0, {"train": {1: "a/1.png"}, "val": {}, "test": {2: "b"}},
              {3: {"name": "c", "reason": "a copy"}}, ("drawn",)).write(split)  # fmt: skip
    return {
        "kept arrays": Parser([place.read_bytes()], place,
                              lambda: kept_arrays("fuzzed", "arrays")),
        "a split file alone": Parser([unsealed(split.read_bytes())], split,
                                     lambda: SplitFile.read(split)),
    }  # fmt: skip
