"""Letterbox beside the centre crop: the same square for training, predicting and explaining."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.checks import read_image_set
from normlab.checks.health.file_sizes import file_sizes
from normlab.data import DataConfig, load
from normlab.data.decode import decode, square
from normlab.errors import InputError
from normlab.explain.pictures import source_picture
from normlab.models import load_info, load_model
from normlab.runs import RunConfig, read_predictions
from normlab.training import train
from normlab.workflow import explain, export, predict

Make = Callable[..., Path]


def wide(seed: int, height: int = 20, width: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def banners(tmp_path: Path) -> Path:
    """Wide and tall pictures whose class is told by their ends, which a centre square cuts off."""
    for label, name in enumerate("ab"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(12):
            pixels = wide(100 * label + index)
            pixels[:, :12] = 255 * label
            if index % 2:
                pixels = pixels.transpose(1, 0, 2)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{index}.png")
    return tmp_path / "set"


@pytest.mark.parametrize(("height", "width"), [(20, 50), (50, 20), (7, 9), (100, 1), (33, 32)])
def test_everything_is_kept_and_the_rest_is_grey(height: int, width: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    got = square(Image.fromarray(pixels), 16, "letterbox")
    assert got.shape == (16, 16, 3)
    inner = [max(1, round(side * 16 / max(height, width))) for side in (height, width)]
    dark = np.argwhere(got[..., 0] == 0)
    assert (np.ptp(dark, axis=0) + 1).tolist() == inner
    assert (got[got != 0] == 128).all()
    before = [int(edge) for edge in dark.min(0)]
    after = [15 - int(edge) for edge in dark.max(0)]
    assert all(abs(one - two) <= 1 for one, two in zip(before, after, strict=True))


def test_the_content_is_the_scaled_image() -> None:
    image = Image.fromarray(wide(0, 20, 40))
    got = square(image, 20, "letterbox")
    np.testing.assert_array_equal(
        got[5:15], np.asarray(image.resize((20, 10), Image.Resampling.BICUBIC))
    )
    square_image = Image.fromarray(wide(1, 20, 20))
    np.testing.assert_array_equal(
        square(square_image, 12, "letterbox"), square(square_image, 12, "crop")
    )
    assert square(image.convert("L"), 20, "letterbox").shape == (20, 20, 1)


def test_a_rule_of_its_own(banners: Path) -> None:
    crop = load(DataConfig(str(banners)))
    boxed = load(DataConfig(str(banners), resize="letterbox"))
    assert crop.image_size == 20
    assert boxed.image_size == 50
    assert load(DataConfig(str(banners), resize="crop")).fingerprint == crop.fingerprint
    same_size = load(DataConfig(str(banners), resize="letterbox", image_size=20))
    assert len({crop.fingerprint, boxed.fingerprint, same_size.fingerprint}) == 3
    assert same_size.resize_rule.startswith("longer side to 20 px")
    assert same_size.describe()["config"]["resize"] == "letterbox"
    for part in same_size.splits.values():
        for row, name in enumerate(part.names.tolist()):
            np.testing.assert_array_equal(
                part.images([row])[0], decode(banners / name, 20, resize="letterbox")
            )
    with pytest.raises(InputError, match="resize must be crop or letterbox, got 'squash'"):
        DataConfig(resize="squash")  # type: ignore[arg-type]


def test_the_check_says_what_the_rule_does(banners: Path) -> None:
    crop = file_sizes(read_image_set(DataConfig(str(banners), image_size=32)), None)
    boxed = read_image_set(DataConfig(str(banners), image_size=32, resize="letterbox"))
    whole = file_sizes(boxed, None)
    assert crop is not None
    assert whole is not None
    assert (crop.long, crop.upscaled) == (24, 24)
    assert (whole.long, whole.upscaled) == (0, 0)
    (said,) = crop.findings(32, 24)
    assert "--resize letterbox" in said.advice


def test_array_sources_have_the_rule_too(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (20, 10, 14), dtype=np.uint8)
    shape = b"".join(side.to_bytes(4, "big") for side in pixels.shape)
    images = b"\0\0\x08\x03" + shape + pixels.tobytes()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
    labels = b"\0\0\x08\x01" + (20).to_bytes(4, "big") + bytes([0, 1] * 10)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    whole = load(DataConfig(str(tmp_path), resize="letterbox"))
    assert whole.image_size == 14
    train = whole.splits["train"]
    row = int(train.names[0].split("/")[1])
    np.testing.assert_array_equal(train.images([0])[0, 2:12, :, 0], pixels[row])
    assert (train.images()[:, :2] == 128).all()
    assert load(DataConfig(str(tmp_path))).image_size == 10
    digits = load(DataConfig(resize="letterbox", image_size=16, limit_per_class=2))
    assert digits.resize_rule.startswith("longer side to 16 px")


def test_a_model_predicts_and_explains_with_its_rule(banners: Path, tmp_path: Path) -> None:
    data = load(DataConfig(str(banners), resize="letterbox", image_size=16))
    run = tmp_path / "run"
    config = RunConfig(norm="bn", n=1, epochs=2, batch_size=4)
    train(config, data, run)
    assert load_info(run).resize == "letterbox"
    recorded = read_predictions(run, "val")
    images = [str(banners / name) for name in recorded.images]
    made = predict(run, images, tmp_path / "out.csv")
    with made.output.open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row["class"] for row in rows] == [
        data.classes[label] for label in recorded.probabilities.argmax(1)
    ]
    np.testing.assert_allclose(
        [float(row["probability"]) for row in rows], recorded.probabilities.max(1), atol=2e-6
    )
    gallery = explain(run, out=tmp_path / "gallery", right=2, wrong=2)
    assert gallery.page.is_file()
    other = explain(run, data=str(banners), out=tmp_path / "other", right=1, wrong=1)
    assert not any("not from the run's data" in note for note in other.notes)
    onnx = pytest.importorskip("onnx")
    written = export(run, onnx=tmp_path / "model.onnx")
    facts = {entry.key: entry.value for entry in onnx.load(written.path).metadata_props}
    assert facts["resize_rule"].startswith("longer side to 16 px")
    assert load_model(run) is not None


@pytest.mark.parametrize(("height", "width"), [(60, 150), (150, 64), (97, 31)])
def test_maps_fit_the_picture_of_a_letterbox(tmp_path: Path, height: int, width: int) -> None:
    """The picture at the source's resolution has the image where the network's square has it."""
    for index in range(8):
        folder = tmp_path / "set" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 20, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    data = load(DataConfig(str(tmp_path / "set"), resize="letterbox", image_size=16))
    seen = data.splits["train"].images([0])[0][..., 0] < 64
    picture = np.asarray(source_picture(data, "train", 0))[..., 0] < 64
    side = max(height, width)
    assert picture.shape == (side, side)
    for axis in (0, 1):
        network = np.flatnonzero(seen.any(1 - axis))
        shown = np.flatnonzero(picture.any(1 - axis))
        # The edges of the image, as shares of the square: to half a pixel of the picture.
        assert abs(network[0] / 16 - shown[0] / side) <= 0.5 / side + 1e-9
        assert abs((network[-1] + 1) / 16 - (shown[-1] + 1) / side) <= 0.5 / side + 1e-9
