"""The data set itself: digits, statistics, fingerprint, description, travel between processes."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from normlab.data import DataConfig, DataSet, load
from normlab.data.hashes import content_hashes
from normlab.data.sources import find
from normlab.errors import InputError
from normlab.keyed import key

Make = Callable[..., Path]


DIGITS = {"train": 0.3, "val": 0.15, "test": 0.55}


def shares(data: DataSet) -> dict[str, float]:
    total = sum(map(len, data.splits.values()))
    return {name: len(split) / total for name, split in data.splits.items()}


@pytest.fixture
def digits() -> DataSet:
    return load(DataConfig())


def test_digits(digits: DataSet) -> None:
    assert (digits.kind, digits.source, digits.name) == ("digits", "digits", "digits")
    assert digits.classes == tuple("0123456789")
    assert (digits.channels, digits.image_size) == (1, 8)
    bunch = load_digits()
    seen = set()
    for split in digits.splits.values():
        rows = np.array([int(name.split("/")[1]) for name in split.names])
        seen |= set(rows.tolist())
        np.testing.assert_array_equal(split.labels, bunch.target[rows])
        expected = np.rint(bunch.images[rows] * 255 / 16)
        np.testing.assert_array_equal(split.images()[..., 0], expected)
    assert seen == set(range(1797))
    assert shares(digits) == pytest.approx(DIGITS, abs=0.002)
    assert digits.split_policy["test"] == "55 % of the source, stratified, seed 0"
    assert "val is 15 % of the source" in digits.notes[0]


def test_fractions_that_are_given_win_over_those_of_the_source(digits: DataSet) -> None:
    def record(data: DataSet) -> tuple[object, object]:
        made = data.describe()["config"]
        return made["val_fraction"], made["test_fraction"]

    assert record(digits) == (0.15, 0.55), "a record says what was drawn"
    both = load(DataConfig(val_fraction=0.15, test_fraction=0.15))
    assert shares(both) == pytest.approx({"train": 0.7, "val": 0.15, "test": 0.15}, abs=0.002)
    assert record(both) == (0.15, 0.15)
    assert both.fingerprint != digits.fingerprint
    assert load(both.config).fingerprint == both.fingerprint
    one = load(DataConfig(val_fraction=0.1))
    assert shares(one) == pytest.approx({"train": 0.35, "val": 0.1, "test": 0.55}, abs=0.002)
    said = "^val_fraction 0.5 and test_fraction 0.55 leave nothing to train on"
    with pytest.raises(InputError, match=said):
        load(DataConfig(val_fraction=0.5))


def test_a_fraction_of_a_split_that_is_there_is_ignored_and_said_so(write: Make) -> None:
    root = write({f"{split}/{name}": 4 for split in ("train", "val", "test") for name in "ab"})
    plain = load(DataConfig(str(root)))
    asked = load(DataConfig(str(root), test_fraction=0.5, val_fraction=0.3))
    assert asked.fingerprint == plain.fingerprint
    assert not plain.notes
    assert asked.notes == (
        "The source has its own val split, so val_fraction 0.3 was ignored.",
        "The source has its own test split, so test_fraction 0.5 was ignored.",
    )


def test_digits_can_be_larger() -> None:
    data = load(DataConfig(image_size=16, limit_per_class=5))
    train = data.splits["train"]
    row = int(train.names[0].split("/")[1])
    small = np.rint(load_digits().images[row] * 255 / 16).astype(np.uint8)
    large = Image.fromarray(small).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(train.images([0])[0, ..., 0], np.asarray(large))


def test_ids_are_hashes_of_the_names(digits: DataSet) -> None:
    val = digits.splits["val"]
    assert [key(name) for name in val.names.tolist()] == val.ids.tolist()


def test_statistics_come_from_train_alone(write: Make) -> None:
    root = write({f"{split}/{name}": 4 for split in ("train", "val", "test") for name in "ab"})
    data = load(DataConfig(str(root)))
    pixels = data.splits["train"].images() / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-12)
    for path in (root / "test" / "a").iterdir():
        Image.new("RGB", (12, 12), "white").save(path)
    again = load(DataConfig(str(root)))
    assert (again.mean, again.std) == (data.mean, data.std)
    assert again.fingerprint != data.fingerprint


def test_images_that_are_all_the_same_have_a_std_of_one(write: Make) -> None:
    root = write({f"{split}/{name}": 1 for split in ("train", "val", "test") for name in "ab"})
    for path in root.rglob("*.png"):
        Image.new("RGB", (12, 12), (255, 51, 0)).save(path)
    data = load(DataConfig(str(root)))
    assert data.mean == pytest.approx((1, 0.2, 0))
    assert data.std == (1.0, 1.0, 1.0)


def test_an_image_is_known_by_all_its_bytes(write: Make) -> None:
    """Two large files that differ in their last pixel alone are two images."""
    root = write({"a": 3, "b": 3})
    pixels = np.zeros((96, 96, 3), np.uint8)
    for name, value in (("a/one.bmp", 0), ("a/two.bmp", 1), ("b/one.bmp", 0)):
        pixels[0, -1] = value  # a BMP begins with the last row
        Image.fromarray(pixels).save(root / name)
    listing = find(str(root))
    hashes = dict(zip(listing.names, content_hashes(listing).tolist(), strict=True))
    assert hashes["a/one.bmp"] == hashes["b/one.bmp"]
    assert hashes["a/one.bmp"] != hashes["a/two.bmp"]


def test_the_fingerprint_is_of_the_content(write: Make, tmp_path: Path) -> None:
    root = write({"a": 6, "b": 6})
    base = load(DataConfig(str(root))).fingerprint
    moved = shutil.copytree(root, tmp_path / "moved")
    assert load(DataConfig(str(moved))).fingerprint == base
    seen = {base}

    def new(**options: object) -> None:
        mark = load(DataConfig(str(moved), **options)).fingerprint  # type: ignore[arg-type]
        assert mark not in seen
        seen.add(mark)

    new(split_seed=1)
    new(image_size=10)
    new(limit_per_class=2)
    (moved / "b").rename(moved / "c")
    new()
    (moved / "a" / "000.png").rename(moved / "a" / "other.png")
    new()
    Image.new("RGB", (12, 12), "red").save(moved / "a" / "001.png")
    new()


def test_it_travels_without_its_pixels(digits: DataSet) -> None:
    packed = pickle.dumps(digits)
    assert len(packed) < 100_000
    assert len(packed) < sum(split.images().nbytes for split in digits.splits.values())
    there = pickle.loads(packed)
    assert there.describe() == digits.describe()
    for name, split in digits.splits.items():
        np.testing.assert_array_equal(there.splits[name].images(), split.images())
        np.testing.assert_array_equal(there.splits[name].names, split.names)
        assert there.splits[name].names.dtype == split.names.dtype


def _mean_of(data: DataSet) -> float:
    return float(data.splits["train"].images().mean())


def test_another_process_reads_the_same_pixels(digits: DataSet) -> None:
    (got,) = joblib.Parallel(n_jobs=2)([joblib.delayed(_mean_of)(digits)])
    assert got == _mean_of(digits)


def test_another_process_makes_pixels_again_whose_cache_was_deleted(
    write: Make, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 5, "b": 5})
    for config in (DataConfig(limit_per_class=3), DataConfig(str(root))):
        here = load(config)
        sent = pickle.dumps(here)
        expected = here.splits["train"].images()
        shutil.rmtree(cache.parent)
        np.testing.assert_array_equal(
            here.splits["train"].images(), expected, "a process keeps what it has opened"
        )
        there = pickle.loads(sent)
        np.testing.assert_array_equal(there.splits["train"].images(), expected)
    shutil.rmtree(cache.parent)
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "another"))
    np.testing.assert_array_equal(pickle.loads(sent).splits["train"].images(), expected)
    shutil.rmtree(tmp_path / "another")
    Image.new("RGB", (12, 12)).save(root / "a/000.png")
    with pytest.raises(InputError, match=r"was deleted or damaged, and .* other images"):
        pickle.loads(sent).splits["train"].images()


def test_the_description_is_json(write: Make) -> None:
    root = write({"train/a": 9, "train/b": 9, "test/a": 2, "test/b": 3})
    data = load(DataConfig(str(root), split_seed=5))
    about = json.loads(json.dumps(data.describe()))
    assert about["counts"] == {
        "train": {"a": 8, "b": 8},
        "val": {"a": 1, "b": 1},
        "test": {"a": 2, "b": 3},
    }
    assert about["split_policy"] == {
        "train": "what remains",
        "val": "15 % of train, stratified, seed 5",
        "test": "as found",
    }
    assert about["image_size"] == 12
    assert about["fingerprint"] == data.fingerprint
    assert tuple(about["mean"]) == data.mean
    assert about["notes"] == list(data.notes)
    assert "shorter side to 12 px" in about["resize_rule"]


@pytest.mark.parametrize("workers", [0, -1, True])
def test_workers_are_checked(workers: int) -> None:
    with pytest.raises(InputError, match="workers must be"):
        load(DataConfig(), workers=workers)


BIRDS = Path(__file__).parents[3] / "shared" / "data" / "birds64"


@pytest.mark.skipif(not BIRDS.is_dir(), reason="the birds are not on this machine")
def test_photographs() -> None:
    data = load(DataConfig(str(BIRDS), limit_per_class=4, limit_all_splits=True))
    assert len(data.classes) == 25
    assert (data.image_size, data.channels) == (64, 3)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 100,
        "val": 25,
        "test": 25,
    }
    for row, name in list(enumerate(data.splits["train"].names))[::20]:
        with Image.open(BIRDS / name) as image:
            np.testing.assert_array_equal(
                data.splits["train"].images([row])[0], np.asarray(image.convert("RGB"))
            )
    assert all(0.3 < value < 0.6 for value in data.mean)
