"""The cache: built once, found again, rebuilt when in doubt, whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from normlab.data import DataConfig, DataSet, load
from normlab.data import cache as cache_module
from normlab.data.decode import Decoded, decode
from normlab.data.decode import read as read_file
from normlab.errors import InputError

Make = Callable[..., Path]


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def read(root: Path, **options: object) -> DataSet:
    return load(DataConfig(str(root), **options))  # type: ignore[arg-type]


class Watch:
    """Whether anything was decoded. Files may be hashed again before."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == "Reading images":
            self.calls.append((stage, done, total))


def built(root: Path, **options: object) -> bool:
    watch = Watch()
    load(DataConfig(str(root), **options), progress=watch)  # type: ignore[arg-type]
    return bool(watch.calls)


def test_built_once_and_found_again(write: Make, cache: Path) -> None:
    root = write({"a": 100, "b": 40})
    watch = Watch()
    first = load(DataConfig(str(root)), progress=watch)
    assert [done for _, done, _ in watch.calls] == [64, 128, 140]
    assert {total for _, _, total in watch.calls} == {140}
    (name,) = entries(cache)
    assert name.startswith("set-12px-")
    assert sorted(path.name for path in (cache / name).iterdir()) == [
        "images.npy",
        "index.json",
        "index.npz",
    ]
    again = Watch()
    second = load(DataConfig(str(root)), progress=again)
    assert again.calls == []
    assert second.describe() == first.describe()


def test_other_splits_of_the_same_images_share_an_entry(write: Make, cache: Path) -> None:
    root = write({"a": 20, "b": 20})
    read(root)
    assert not built(root, split_seed=3)
    assert not built(root, val_fraction=0.3)
    assert not built(root, limit_per_class=3)
    assert len(entries(cache)) == 1


def test_whatever_changes_the_pixels_changes_the_entry(write: Make, cache: Path) -> None:
    root = write({"a": 5, "b": 5})
    assert built(root)
    assert not built(root)
    assert built(root, image_size=9)
    path = root / "a" / "000.png"
    Image.new("RGB", (13, 13)).save(path)
    assert built(root)
    path.rename(root / "a" / "later.png")
    assert built(root)
    (root / "a" / "later.png").unlink()
    assert built(root)
    assert built(root.rename(root.parent / "set2"))


def test_the_same_files_with_another_time_are_not_decoded_again(write: Make, cache: Path) -> None:
    root = write({"a": 5, "b": 5})
    assert built(root)
    for path in root.rglob("*.png"):
        os.utime(path, ns=(0, 12345))
    copied = root / "b" / "copied.png"
    shutil.copy(root / "b" / "000.png", copied)
    copied.replace(root / "b" / "000.png")
    assert not built(root)
    assert len(entries(cache)) == 1


def _replace(path: Path, content: bytes) -> None:
    """Other content of the same size and time."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_replaced_by_one_of_equal_size_and_time_is_noticed(
    tmp_path: Path, cache: Path
) -> None:
    root = tmp_path / "set"
    for number, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for index in range(5):
            pixels = np.full((12, 12, 3), 40 * number + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.bmp")
    before = read(root)
    Image.new("RGB", (12, 12), "white").save(tmp_path / "white.bmp")
    _replace(root / "a" / "0.bmp", (tmp_path / "white.bmp").read_bytes())
    after = read(root)
    assert after.fingerprint != before.fingerprint
    names = {name: split for split in after.splits.values() for name in split.names.tolist()}
    split = names["a/0.bmp"]
    row = split.names.tolist().index("a/0.bmp")
    assert int(split.images([row]).min()) == 255


def test_an_array_file_replaced_by_one_of_equal_size_and_time_is_noticed(
    tmp_path: Path, cache: Path
) -> None:
    labels = bytes([0, 1] * 10)
    images = np.arange(20, dtype=np.uint8).repeat(64).tobytes()
    header = bytes([0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 8, 0, 0, 0, 8])
    root = tmp_path / "set"
    root.mkdir()
    (root / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 20]) + labels)
    (root / "train-images-idx3-ubyte").write_bytes(header + images)
    before = read(root)
    assert not built(root)
    _replace(root / "train-images-idx3-ubyte", header + images[::-1])
    after = read(root)
    assert after.fingerprint != before.fingerprint
    assert after.mean != before.mean


def test_files_that_change_while_they_are_read_are_not_taken_for_what_they_were(
    write: Make, cache: Path
) -> None:
    root = write({"a": 5, "b": 5})
    path = root / "a" / "000.png"

    def replace(stage: str, done: int, total: int) -> None:
        if stage == "Reading images" and not replaced:
            replaced.append(stage)
            Image.new("RGB", (12, 12)).save(path)

    replaced: list[str] = []
    there = load(DataConfig(str(root)), progress=replace)
    assert replaced
    assert there.fingerprint == read(root).fingerprint
    shutil.rmtree(cache)
    assert there.fingerprint == read(root).fingerprint


def test_a_cache_deleted_while_it_is_built_is_built_again(write: Make, cache: Path) -> None:
    root = write({"a": 80, "b": 80})

    def delete(stage: str, done: int, total: int) -> None:
        if stage == "Reading images" and not deleted:
            deleted.append(stage)
            shutil.rmtree(cache.parent)

    deleted: list[str] = []
    there = load(DataConfig(str(root)), progress=delete)
    assert deleted
    assert len(entries(cache)) == 1
    assert there.splits["train"].images().any()


def test_another_pillow_means_another_entry(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 5, "b": 5})
    read(root)
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert built(root)


def test_processes_decode_the_same_pixels(write: Make, cache: Path) -> None:
    root = write({"a": 120, "b": 80})
    (root / "a" / "000.png").write_bytes(b"")
    config = DataConfig(str(root), skip_bad=True, image_size=10)
    watch = Watch()
    several = load(config, workers=2, progress=watch)
    assert sorted(done for _, done, _ in watch.calls)[-1] == 200
    (name,) = entries(cache)
    (cache / name / "index.json").unlink()
    alone = load(config, workers=1)
    assert several.describe() == alone.describe()
    for split in alone.splits.values():
        for row, image in enumerate(split.names):
            np.testing.assert_array_equal(split.images([row])[0], decode(root / image, 10))


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "images.npy").write_bytes(b"short"),
        lambda entry: os.truncate(entry / "images.npy", 1000),
        lambda entry: os.truncate(entry / "images.npy", 100_000),
        lambda entry: (entry / "images.npy").unlink(),
        lambda entry: np.save(entry / "images.npy", np.zeros((10, 12, 12, 3), np.int8)),
        lambda entry: np.save(entry / "images.npy", np.zeros((9, 12, 12, 3), np.uint8)),
        lambda entry: (entry / "index.json").write_text("{"),
        lambda entry: (entry / "index.json").write_text("[]"),
        lambda entry: (entry / "index.json").write_text('{"format": 0}'),
        lambda entry: (entry / "index.npz").write_bytes(b"PK"),
        lambda entry: os.truncate(entry / "index.npz", 300),
        lambda entry: np.savez(entry / "index.npz", digests=np.zeros(3)),
    ],
)
def test_a_damaged_entry_is_built_anew(
    write: Make, cache: Path, damage: Callable[[Path], object]
) -> None:
    root = write({"a": 5, "b": 5})
    first = read(root)
    (name,) = entries(cache)
    damage(cache / name)
    assert built(root)
    assert not built(root)
    assert entries(cache) == [name]
    assert read(root).fingerprint == first.fingerprint


def test_a_file_where_the_entry_should_be(write: Make, cache: Path) -> None:
    root = write({"a": 5, "b": 5})
    read(root)
    (name,) = entries(cache)
    for path in (cache / name).iterdir():
        path.unlink()
    (cache / name).rmdir()
    (cache / name).write_text("in the way")
    assert built(root)
    assert not built(root)
    assert entries(cache) == [name]


def test_a_file_that_was_mended_in_place_is_tried_again(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of permissions touches neither size nor time."""
    root = write({"a": 20, "b": 20})

    def refuse(path: Path, *how: int, **more: Any) -> Decoded:
        if path.name == "003.png":
            raise cache_module.BadImageError("may not be read (permission denied)")
        return read_file(path, *how, **more)

    monkeypatch.setattr(cache_module, "read", refuse)
    with pytest.raises(InputError, match="permission denied"):
        read(root)
    assert len(read(root, skip_bad=True).skipped) == 2
    monkeypatch.undo()
    monkeypatch.setenv("NORMLAB_CACHE", str(cache.parent))
    assert read(root).skipped == {}


# ------------------------------------------------------------------ nothing half done

BUILD = """
import sys, time
from pathlib import Path
from typing import Any
from normlab.data import DataConfig, cache, load
root, gate = Path(sys.argv[1]), Path(sys.argv[2])

def wait(stage, done, total):
    if stage != "Reading images":
        return
    # Both builders are in the middle before either may go on.
    (gate / f"{sys.argv[3]}").touch()
    while len(list(gate.iterdir())) < int(sys.argv[4]):
        time.sleep(0.01)

data = load(DataConfig(str(root)), progress=wait, workers=int(sys.argv[5]))
print(data.fingerprint, data.splits["train"].images().sum())
"""


def start(
    root: Path, gate: Path, name: str, needed: int, workers: int = 1
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(root), str(gate), name, str(needed), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_build_leaves_nothing(
    write: Make, cache: Path, tmp_path: Path, workers: int
) -> None:
    root = write({"a": 80, "b": 80})
    gate = tmp_path / "gate"
    gate.mkdir()
    builder = start(root, gate, "one", 99, workers)
    while not any(gate.iterdir()):
        assert builder.poll() is None, builder.communicate()
        time.sleep(0.01)
    assert [name for name in entries(cache) if name.endswith(".tmp")]
    os.killpg(builder.pid, signal.SIGINT)
    builder.communicate(timeout=60)
    assert builder.returncode != 0
    assert entries(cache) == []
    assert built(root)


def test_a_failed_build_leaves_nothing(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 5, "b": 5})

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cache_module, "_measure", fail)
    with pytest.raises(ZeroDivisionError):
        read(root)
    assert entries(cache) == []


def test_what_killed_builders_left_is_swept_after_a_day(write: Make, cache: Path) -> None:
    root = write({"a": 5, "b": 5})
    long_ago = time.time() - 2 * 24 * 3600
    for name, when in (("old-12px-0.1.tmp", long_ago), ("new-12px-0.1.tmp", time.time())):
        (cache / name).mkdir(parents=True)
        (cache / name / "images.npy").write_bytes(b"half")
        for path in (cache / name / "images.npy", cache / name):
            os.utime(path, (when, when))
    read(root)
    names = entries(cache)
    assert "new-12px-0.1.tmp" in names
    assert "old-12px-0.1.tmp" not in names


def test_a_full_disk(write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write({"a": 5, "b": 5})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match="No space left on device") as caught:
        read(root)
    assert str(cache) in str(caught.value)
    assert "NORMLAB_CACHE" in str(caught.value)
    assert entries(cache) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_that_cannot_reserve(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    root = write({"a": 5, "b": 5})
    expected = read(root).fingerprint
    (name,) = entries(cache)
    (cache / name / "index.json").unlink()

    def cannot(*_: object) -> None:
        raise OSError(code, "cannot")

    monkeypatch.setattr(os, "posix_fallocate", cannot, raising=False)
    assert read(root).fingerprint == expected
    assert read(root).splits["train"].images().any()


def test_a_cache_that_cannot_be_written(
    write: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 5, "b": 5})
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="NORMLAB_CACHE") as caught:
        read(root)
    assert str(tmp_path / "file") in str(caught.value)


def test_a_cache_that_can_only_be_read_is_enough(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 5, "b": 5})
    expected = read(root).fingerprint

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert read(root).fingerprint == expected
    with pytest.raises(InputError, match="Read-only file system"):
        read(root, image_size=9)


def test_the_users_cache_folder_is_the_default(
    write: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NORMLAB_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "user" / name))
    read(write({"a": 5, "b": 5}))
    assert len(entries(tmp_path / "user" / "normlab" / "images")) == 1


def test_a_damaged_entry_that_can_only_be_read_is_one_message(
    write: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write({"a": 5, "b": 5})
    read(root)
    (name,) = entries(cache)
    (cache / name / "index.json").write_text("{")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(InputError, match="Read-only file system"):
        read(root)
