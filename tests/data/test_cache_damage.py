"""What is read back from the cache is what was written, or it is made again and said."""

from __future__ import annotations

import logging
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from normlab.checks import full_check, quick_check, read_image_set
from normlab.data import DataConfig, DataSet, DeviceSplit, hashes, load
from normlab.data import pixels as pixels_module
from normlab.errors import InputError
from normlab.files import write_json
from normlab.runs import RunConfig
from normlab.training import train
from normlab.workflow.checking import known_findings

Make = Callable[..., Path]


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def pixels(data: DataSet) -> list[np.ndarray]:
    return [split.images() for split in data.splits.values()]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all((one == two).all() for one, two in zip(first, second, strict=True))


@pytest.fixture
def config(write: Make, cache: Path) -> DataConfig:
    return DataConfig(str(write({"a": 12, "b": 12})))


@pytest.fixture
def unheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sets are read as large ones are, row by row."""
    monkeypatch.setattr(pixels_module, "_FEW_BYTES", -1)


def entry_of(cache: Path) -> Path:
    (entry,) = (path for path in cache.iterdir() if not path.name.endswith(".tmp"))
    return entry


def test_no_flipped_bit_of_the_cache_is_silent(config: DataConfig, cache: Path) -> None:
    """Read whole, every file of the cache is as it was after any flip, or without effect."""
    known = load(config)
    whole = pixels(known)
    draw = random.Random(0)
    kinds = (".npy", ".npz", ".json")
    files = [path for path in sorted(cache.parent.rglob("*")) if path.suffix in kinds]
    assert {path.parent.parent.name for path in files} >= {"images"}
    for path in files:
        size = path.stat().st_size
        for at in (*(draw.randrange(size) for _ in range(12)), size - 1):
            flip(path, at, draw.randrange(8))
            found = load(config)
            assert found.fingerprint == known.fingerprint, (path, at)
            assert found.mean == known.mean
            assert same(pixels(found), whole), (path, at)


def test_a_damaged_index_is_said_by_name(config: DataConfig, cache: Path) -> None:
    load(config)
    entry = entry_of(cache)
    flip(entry / "index.npz", 300)
    said: list[str] = []
    load(config, progress=lambda stage, done, total: said.append(stage))
    assert f"Replacing the damaged cache entry {entry.name}" in said


def test_two_indexes_that_are_each_whole_but_not_of_each_other(
    config: DataConfig, cache: Path
) -> None:
    known = load(config)
    entry = entry_of(cache)
    index = (entry / "index.npz").read_bytes()
    with np.load(entry / "index.npz") as arrays:
        other = {name: arrays[name] + (name == "sums") for name in arrays}
    np.savez(entry / "index.npz", **other)
    assert load(config).mean == known.mean
    assert (entry / "index.npz").read_bytes() == index


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def invert(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:] = bytes(255 - value for value in content[200:])
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda path: flip(path, 5000),
    "other pixels": invert,
    "cut short": lambda path: os.truncate(path, 1000),
    "emptied": lambda path: os.truncate(path, 0),
    "deleted": lambda path: path.unlink(),
    "the cache deleted": lambda path: shutil.rmtree(path.parents[2]),
    "a folder": replace_by_folder,
    "a pipe": replace_by_pipe,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("where", ["here", "in another process"])
@pytest.mark.parametrize("few", [-1, 1 << 20])
def test_pixels_damaged_in_the_middle_are_made_again(
    config: DataConfig, cache: Path, monkeypatch: pytest.MonkeyPatch, damage: str, where: str,
    few: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(pixels_module, "_FEW_BYTES", few)
    data = load(config)
    split = DeviceSplit(data, "train")
    first, _ = split.batch([0, 1])  # is open
    whole, _ = DeviceSplit(load(config), "train").batch(np.arange(len(split)))
    if where == "in another process":
        split = DeviceSplit(pickle.loads(pickle.dumps(data)), "train")
    DAMAGES[damage](entry_of(cache) / "images.npy")
    images, _ = split.batch(np.arange(len(split)))
    assert (images == whole).all()
    assert (split.batch([0, 1])[0] == first).all()
    assert (DeviceSplit(load(config), "train").batch(np.arange(len(split)))[0] == whole).all()


@pytest.mark.usefixtures("unheld")
def test_a_row_that_changes_after_it_was_compared_is_noticed(
    config: DataConfig, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = load(config)
    whole = data.splits["train"].images()
    flip(entry_of(cache) / "images.npy", 3000)
    with caplog.at_level(logging.WARNING):
        assert (data.splits["train"].images() == whole).all()
    assert "damaged" in caplog.text
    assert str(entry_of(cache) / "images.npy") in caplog.text


def test_pixels_that_cannot_be_made_again_say_why(config: DataConfig, cache: Path) -> None:
    data = load(config)
    flip(entry_of(cache) / "images.npy", 3000)
    shutil.rmtree(config.source)
    with pytest.raises(InputError, match=r"cannot be used .* nor made again") as caught:
        pixels(data)
    assert "images.npy" in str(caught.value)


@pytest.mark.usefixtures("unheld")
def test_a_run_over_a_damaged_cache_has_the_same_bits(
    config: DataConfig, cache: Path, tmp_path: Path
) -> None:
    run = RunConfig(n=1, epochs=2, batch_size=8)
    train(run, load(config), tmp_path / "whole")
    data = load(config)
    for at in (400, 2000, 6000):
        flip(entry_of(cache) / "images.npy", at, 7)
    train(run, data, tmp_path / "damaged")
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in
               ("whole", "damaged")]  # fmt: skip
    assert weights[0] == weights[1]


# ------------------------------------------------------------------ what else is kept


def opened(monkeypatch: pytest.MonkeyPatch, config: DataConfig) -> int:
    """How many files are read to hash them when this is loaded."""
    count = 0
    before = hashes._content

    def counting(path: Path) -> int:
        nonlocal count
        count += 1
        return before(path)

    with monkeypatch.context() as patch:
        patch.setattr(hashes, "_content", counting)
        load(config)
    return count


def test_files_are_hashed_once(
    config: DataConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(monkeypatch, config) == 24
    assert opened(monkeypatch, config) == 0
    (Path(config.source) / "a" / "000.png").touch()
    assert opened(monkeypatch, config) == 24


def test_a_damaged_kept_hash_is_made_again(
    config: DataConfig, cache: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    known = load(config)
    (kept,) = (cache.parent / "contents").iterdir()
    flip(kept, kept.stat().st_size // 2)
    assert opened(monkeypatch, config) == 24
    assert str(kept) in caplog.text
    assert load(config).fingerprint == known.fingerprint


def test_a_damaged_file_of_groups_loses_no_finding(
    cache: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(photos / "Robin" / "00.png", photos / "Robin" / "copy.png")
    image_set = read_image_set(DataConfig(str(photos)))
    full_check(image_set)
    known = quick_check(image_set)
    assert any(finding.check == "near-duplicates" for finding in known)
    (kept,) = (cache.parent / "groups").iterdir()
    os.truncate(kept, kept.stat().st_size // 2)
    assert quick_check(image_set) == known
    assert str(kept) in caplog.text


def test_damaged_quick_findings_are_worked_out_again(
    cache: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = DataConfig(str(photos))
    data = load(config)
    known = known_findings(config, data)
    (kept,) = (cache.parent / "checks").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"No ", b"Na ", 1))
    assert known_findings(config, data) == known
    assert str(kept) in caplog.text
    write_json(kept, {"findings": [{"name": 3}]})
    assert known_findings(config, data) == known
