"""Grey values of more than 8 bits: one range for all images of a set, said, and kept by models."""

from __future__ import annotations

import csv
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from normlab.data import DataConfig, DataSet, load
from normlab.data.decode import BadImageError, read
from normlab.data.levels import Levels, Shown
from normlab.errors import InputError
from normlab.files import write_json
from normlab.models import load_info
from normlab.runs import RunConfig
from normlab.training import train
from normlab.workflow import explain, export, predict

SIDE = 12


def values(seed: int, most: float, least: float = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(least, most, (SIDE, SIDE))


def scans(
    folder: Path,
    most: float,
    kind: type = np.uint16,
    suffix: str = ".png",
    least: float = 0,
    tags: dict[int, tuple[int, object]] | None = None,
) -> Path:
    """Two classes, of which the second is three times as bright: files of 16 or 32 bits."""
    for label, (name, share) in enumerate((("dark", 1 / 3), ("light", 1.0))):
        (folder / name).mkdir(parents=True)
        for index in range(10):
            pixels = values(20 * label + index, least + (most - least) * share, least)
            if label and not index:
                pixels[0, 0], pixels[0, 1] = most, least
            info = TiffImagePlugin.ImageFileDirectory_v2()
            for tag, (type_, value) in (tags or {}).items():
                info.tagtype[tag] = type_
                info[tag] = value
            options = {"tiffinfo": info} if tags else {}
            if np.issubdtype(kind, np.integer):
                pixels = np.rint(pixels)
            Image.fromarray(pixels.astype(kind)).save(folder / name / f"{index}{suffix}", **options)
    return folder


def note(data: DataSet) -> str:
    (found,) = [note for note in data.notes if "is black and" in note]
    return found


def everything(data: DataSet) -> np.ndarray:
    return np.concatenate([part.images() for part in data.splits.values()])


def pixels_of(data: DataSet, name: str) -> np.ndarray:
    for part in data.splits.values():
        if name in part.names:
            row = part.names.tolist().index(name)
            return np.asarray(part.images([row])[0, ..., 0])
    raise AssertionError(name)


# ------------------------------------------------------------------ the range that a set shows


@pytest.mark.parametrize(
    ("most", "white"), [(255, 255), (256, 1023), (4095, 4095), (4096, 16383), (40000, 65535)]
)
@pytest.mark.parametrize(("kind", "suffix"), [(np.uint16, ".png"), (np.int32, ".tif")])
def test_sixteen_bits_keep_their_levels(
    tmp_path: Path, most: int, white: int, kind: type, suffix: str
) -> None:
    root = scans(tmp_path / "set", most, kind, suffix)
    data = load(DataConfig(str(root)))
    with Image.open(root / f"light/3{suffix}") as image:
        stored = np.asarray(image).astype(float)
    np.testing.assert_allclose(
        pixels_of(data, f"light/3{suffix}"), stored * 255 / white, atol=0.5001
    )
    assert len(np.unique(everything(data))) > 60
    assert f"0 is black and {white:,} is white: the smallest usual range" in note(data)
    assert f"20 files have grey values of more than 8 bits, from 0 to {most:,}." in note(data)
    described = json.loads(json.dumps(data.describe()["levels"]))
    assert described == {"whole": [0, white], "real": None}


def test_the_range_is_one_for_all_images(tmp_path: Path) -> None:
    """An image's own range would make the dark class as bright as the other."""
    data = load(DataConfig(str(scans(tmp_path / "set", 4095))))
    dark = [pixels_of(data, f"dark/{index}.png").max() for index in range(10)]
    assert max(dark) < 90
    light = [pixels_of(data, f"light/{index}.png").max() for index in range(10)]
    assert min(light) > 230


def test_files_of_8_bits_are_as_they_were(tmp_path: Path) -> None:
    root = scans(tmp_path / "set", 4095)
    eight = values(99, 255).astype(np.uint8)
    Image.fromarray(eight).save(root / "dark" / "eight.png")
    data = load(DataConfig(str(root)))
    np.testing.assert_array_equal(pixels_of(data, "dark/eight.png"), eight)
    assert note(data).startswith("20 files")


@pytest.mark.parametrize(
    ("least", "most", "black", "white"),
    [(0, 0.9, 0, 1), (-0.8, 0.7, -1, 1), (0, 250, 0, 255), (0, 3000, 0, 4095),
     (-1024, 3071.5, -1024, 3071.5)],
)  # fmt: skip
def test_real_numbers(
    tmp_path: Path, least: float, most: float, black: float, white: float
) -> None:
    data = load(DataConfig(str(scans(tmp_path / "set", most, np.float32, ".tif", least))))
    with Image.open(tmp_path / "set/light/4.tif") as image:
        stored = np.asarray(image).astype(float)
    np.testing.assert_allclose(
        pixels_of(data, "light/4.tif"), (stored - black) * 255 / (white - black), atol=0.501
    )
    assert f"{black:,g} is black and {white:,g} is white" in note(data)
    assert ("their own range" in note(data)) == (least == -1024)


def test_negative_whole_numbers(tmp_path: Path) -> None:
    data = load(DataConfig(str(scans(tmp_path / "set", 2000, np.int32, ".tif", least=-1000))))
    assert everything(data).min() == 0
    assert everything(data).max() == 255
    assert "-1,000 is black and 2,000 is white: their own range" in note(data)


def test_unsigned_numbers_of_32_bits_do_not_turn_negative(tmp_path: Path) -> None:
    """Pillow reads them as signed."""
    header = struct.pack("<2sHI", b"II", 42, 8)
    pixels = np.full((SIDE, SIDE), 4_000_000_000, "<u4")
    tags = [(256, SIDE), (257, SIDE), (258, 32), (259, 1), (262, 1), (273, 134), (277, 1),
            (278, SIDE), (279, pixels.nbytes), (339, 1)]  # fmt: skip
    body = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags
    )
    path = tmp_path / "u.tif"
    path.write_bytes((header + body + bytes(4)).ljust(134, b"\0") + pixels.tobytes())
    shown = read(path, SIDE, levels=None).shown
    assert shown is not None
    assert (shown.low, shown.high) == (4e9, 4e9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_bad_files(tmp_path: Path, value: float) -> None:
    root = scans(tmp_path / "set", 1, np.float32, ".tif")
    pixels = values(5, 1).astype(np.float32)
    pixels[3, 3] = value
    Image.fromarray(pixels).save(root / "dark/5.tif")
    with pytest.raises(InputError, match=r"dark/5\.tif has values that are not numbers"):
        load(DataConfig(str(root)))
    data = load(DataConfig(str(root), skip_bad=True))
    assert list(data.skipped) == ["dark/5.tif"]
    assert note(data).startswith("19 files")


# ------------------------------------------------------------------ the range that files declare


def test_tiff_says_its_range(tmp_path: Path) -> None:
    tags = {340: (3, 100), 341: (3, 1100)}
    root = scans(tmp_path / "set", 900, suffix=".tif", least=100, tags=tags)
    data = load(DataConfig(str(root)))
    assert "100 is black and 1,100 is white: as the files say" in note(data)


def test_a_declared_range_that_files_do_not_keep_is_not_believed(tmp_path: Path) -> None:
    tags = {340: (3, 0), 341: (3, 500)}
    data = load(DataConfig(str(scans(tmp_path / "set", 900, suffix=".tif", tags=tags))))
    assert "1,023 is white: the smallest usual" in note(data)


def with_significant_bits(path: Path, bits: int) -> None:
    """Insert the chunk sBIT after the header."""
    content = path.read_bytes()
    body = b"sBIT" + bytes([bits])
    chunk = struct.pack(">I", 1) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(content[:33] + chunk + content[33:])


@pytest.mark.parametrize(("most", "white"), [(900, 4095), (60000, 65535)])
def test_png_says_its_significant_bits(tmp_path: Path, most: int, white: int) -> None:
    root = scans(tmp_path / "set", most)
    for path in root.rglob("*.png"):
        with_significant_bits(path, 12)
    data = load(DataConfig(str(root)))
    assert f"{white:,} is white" in note(data)
    assert ("as the files say" in note(data)) == (white == 4095)


def test_pgm_files_say_their_white(tmp_path: Path) -> None:
    for name, level in (("a", 30), ("b", 90)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(5):
            pixels = np.full((SIDE, SIDE), level, ">u2")
            pixels[0, index] += 1
            (tmp_path / "set" / name / f"{index}.pgm").write_bytes(
                b"P5 12 12 1023\n" + pixels.tobytes()
            )
    data = load(DataConfig(str(tmp_path / "set")))
    assert pixels_of(data, "b/0.pgm")[5, 5] == round(90 * 255 / 1023)


def test_levels_of_nothing_are_none() -> None:
    assert Levels.of([]) == Levels(None, None)
    assert Levels.of([Shown("whole", 7, 7)]) == Levels((0, 255), None)
    assert Levels.of([Shown("whole", -7, -7)]) == Levels((-7, -6), None)
    mixed = [Shown("whole", 0, 9, (0, 4095)), Shown("whole", 0, 9)]
    assert Levels.of(mixed) == Levels((0, 255), None)


# ------------------------------------------------------------------ few levels


def test_few_levels_are_said(tmp_path: Path) -> None:
    """Colour of 16 bits that uses 12: Pillow keeps the upper 8 bits, of which 4 are used."""
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(5):
            rgb = np.stack([values(10 * index + at + ord(name), 4095) for at in range(3)], -1)
            body = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
            head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)
            chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
            content = b"\x89PNG\r\n\x1a\n" + b"".join(
                struct.pack(">I", len(data)) + kind + data
                + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
            )  # fmt: skip
            (tmp_path / "set" / name / f"{index}.png").write_bytes(content)
    data = load(DataConfig(str(tmp_path / "set")))
    assert "10 files have 16 bits per colour, of which the upper 8 are read." in data.notes
    assert any("only 16 of 256 levels of brightness" in note for note in data.notes)
    plain = load(DataConfig("digits"))
    assert not any("levels of brightness" in note for note in plain.notes)


# ------------------------------------------------------------------ models keep the range


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of 12-bit scans, and their folder."""
    root = scans(tmp_path_factory.mktemp("scans") / "set", 4095)
    run = tmp_path_factory.mktemp("run")
    config = RunConfig(norm="none", n=1, epochs=3, batch_size=4, lr=0.01)
    train(config, load(DataConfig(str(root))), run)
    return run, root


def probabilities(run: Path, images: list[Path], folder: Path) -> tuple[list[str], dict[str, str]]:
    made = predict(run, [str(path) for path in images], folder / "out.csv")
    with made.output.open() as opened:
        return [row["probability"] for row in csv.DictReader(opened)], dict(made.unreadable)


def test_a_model_keeps_the_range_it_was_trained_with(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, root = trained
    assert load_info(run).grey_range == (0, 4095)
    image = root / "dark/2.png"
    with Image.open(image) as opened:
        stored = np.asarray(opened)
    assert stored.max() < 2**12 / 3
    eight = np.rint(stored * (255 / 4095)).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "eight.png")
    found, unreadable = probabilities(run, [image, tmp_path / "eight.png"], tmp_path)
    assert found[0] == found[1]
    assert not unreadable


def test_values_that_do_not_fit_the_model_are_named(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, root = trained
    Image.fromarray(np.full((SIDE, SIDE), 60000, np.uint16)).save(tmp_path / "bright.png")
    Image.fromarray(np.full((SIDE, SIDE), 0.5, np.float32)).save(tmp_path / "real.tif")
    found, unreadable = probabilities(
        run, [tmp_path / "bright.png", root / "dark/1.png", tmp_path / "real.tif"], tmp_path
    )
    assert len(found) == 1
    assert "up to" not in unreadable[str(tmp_path / "bright.png")]
    assert "4,095 is white" in unreadable[str(tmp_path / "bright.png")]
    assert "the model was trained on have none" in unreadable[str(tmp_path / "real.tif")]


def test_the_gallery_and_the_export_use_the_models_range(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, root = trained
    made = export(run, onnx=tmp_path / "model.onnx", images=[str(root / "dark/1.png")])
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(made.path).metadata_props}
    assert facts["grey_range"] == "0 to 4095"
    # Another set, which shows 10 bits alone: the model still means 12.
    other = scans(tmp_path / "set", 1000)
    gallery = explain(run, data=str(other), out=tmp_path / "gallery", right=1, wrong=1)
    assert gallery.page.is_file()
    seen = load(DataConfig(str(other)), levels=Levels((0, 4095)))
    assert pixels_of(seen, "light/0.png").max() == round(1000 * 255 / 4095)


def test_models_of_before_take_16_bits_as_they_did(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, _ = trained
    content = json.loads((run / "model.json").read_text())
    for name in ("grey_range", "float_range", "resize"):
        del content[name]
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old" / "model.json", content)
    (tmp_path / "old" / "weights.safetensors").write_bytes(
        (run / "weights.safetensors").read_bytes()
    )
    info = load_info(tmp_path / "old")
    assert (info.grey_range, info.float_range, info.resize) == ((0, 65535), None, "crop")
    for name, bad in (("grey_range", [3, 1]), ("float_range", "x"), ("resize", "squash")):
        write_json(tmp_path / "old" / "model.json", {**content, name: bad})
        with pytest.raises(InputError, match=name):
            load_info(tmp_path / "old")


def test_a_range_is_asked_for_and_not_guessed(tmp_path: Path) -> None:
    path = scans(tmp_path / "set", 200) / "dark/0.png"
    looked = read(path, SIDE, levels=None)
    assert looked.pixels is None
    assert looked.shown is not None
    with pytest.raises(BadImageError, match="is not known"):
        read(path, SIDE, levels=Levels(None, None))
