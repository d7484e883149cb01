"""What lies in the cache is compared with what was written: damage is noticed, said, and undone."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pytest

from normlab import cache_files
from normlab.checks.image_set import read_image_set
from normlab.data import DataConfig, DataSet, hashes, load, sources
from normlab.data.array_file import ArrayFile
from normlab.errors import InputError
from normlab.workflow.checking import known_findings

Make = Callable[..., Path]


def read(root: Path, **options: object) -> DataSet:
    return load(DataConfig(str(root), **options), workers=1)  # type: ignore[arg-type]


def pixels(data: DataSet) -> bytes:
    return b"".join(split.images().tobytes() for split in data.splits.values())


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def entry_of(cache: Path) -> Path:
    (entry,) = cache.iterdir()
    return entry


@pytest.fixture
def root(write: Make) -> Path:
    return write({"a": 5, "b": 5})


@pytest.mark.parametrize("name", ["images.npy", "index.npz", "index.json"])
def test_no_flipped_bit_of_an_entry_is_silent(
    root: Path, cache: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read(root)
    known, told, stats = pixels(data), data.describe(), (data.mean, data.std)
    path = entry_of(cache) / name
    whole, size = path.read_bytes(), path.stat().st_size
    for bit in np.random.default_rng(0).integers(0, 8 * size, 25).tolist():
        path.write_bytes(whole)
        flip(path, bit)
        cache_files._said.clear()
        again = read(root)
        assert pixels(again) == known, f"bit {bit}"
        assert (again.describe(), (again.mean, again.std)) == (told, stats)
        said = capsys.readouterr().err
        assert "damaged" in said
        assert entry_of(cache).name in said
        assert path.read_bytes() == whole


def _flip_all(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.seek(-400, os.SEEK_END)
        opened.write(bytes(400))


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: os.truncate(path, 500),
        lambda path: os.truncate(path, 0),
        lambda path: _flip_all(path),
        lambda path: path.unlink(),
        lambda path: shutil.rmtree(path.parents[2]),
    ],
)
def test_harm_in_the_middle_of_a_run_changes_nothing(
    root: Path, cache: Path, harm: Callable[[Path], object]
) -> None:
    """Where the file was mapped, truncating it ended the process."""
    data = read(root)
    known = pixels(data)
    path = entry_of(cache) / "images.npy"
    opened, started = pickle.loads(pickle.dumps(data)), pickle.loads(pickle.dumps(data))
    opened.splits["train"].images([0])
    harm(path)
    for one in (data, opened, started):  # the last is a process that opens it only now
        assert pixels(one) == known
    assert pixels(read(root)) == known


def test_harm_while_the_source_is_gone_is_one_message(root: Path, cache: Path) -> None:
    data = read(root)
    os.truncate(entry_of(cache) / "images.npy", 500)
    (root / "a" / "000.png").unlink()
    with pytest.raises(InputError, match="has other images"):
        data.splits["train"].images()


@pytest.mark.parametrize(
    "harm",
    [
        lambda work: os.truncate(work / "images.npy", 200),
        lambda work: (work / "images.npy").unlink(),
        lambda work: shutil.rmtree(work.parent),
        lambda work: shutil.rmtree(work.parents[1]),
    ],
)
def test_harm_while_it_is_built(write: Make, cache: Path, harm: Callable[[Path], object]) -> None:
    root = write({"a": 80, "b": 80})
    harmed: list[str] = []

    def harming(stage: str, done: int, total: int) -> None:
        if stage == "Reading images" and not harmed:
            harmed.append(stage)
            harm(entry_of(cache))

    there = load(DataConfig(str(root)), progress=harming, workers=1)
    assert harmed
    known = pixels(there)
    shutil.rmtree(cache)
    assert pixels(read(root)) == known


def test_files_are_hashed_once(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    hashed = hashes._hash_of_file
    monkeypatch.setattr(hashes, "_hash_of_file", lambda path: opened.append(path) or hashed(path))
    first = hashes.content_hashes(sources.find(str(root)))
    assert len(opened) == len(first) == 10
    again = hashes.content_hashes(sources.find(str(root)))
    assert len(opened) == 10
    assert (again == first).all()
    (kept,) = (cache.parent / "contents").iterdir()
    os.truncate(kept, kept.stat().st_size // 2)
    assert (hashes.content_hashes(sources.find(str(root))) == first).all()
    assert len(opened) == 20


def test_no_flipped_bit_of_what_is_kept_changes_anything(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DataConfig(str(root))
    data = load(config)
    known = known_findings(config, data)
    contents = read_image_set(config, data=data).contents
    kept = [path for kind in ("contents", "checks") for path in (cache.parent / kind).iterdir()]
    assert len(kept) == 2
    for path in kept:
        whole, said = path.read_bytes(), 0
        for bit in np.random.default_rng(1).integers(0, 8 * len(whole), 25).tolist():
            path.write_bytes(whole)
            flip(path, bit)
            cache_files._said.clear()
            assert known_findings(config, data) == known
            assert (read_image_set(config, data=data).contents == contents).all()
            if path.name in capsys.readouterr().err:
                said += 1
                assert path.read_bytes() == whole
        assert said > 15  # the others are dates and the like in the archive, which nobody reads


# ------------------------------------------------------------------ several at once


def side_by_side(*works: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_the_second_waits_with_a_word_and_uses_what_the_first_made(root: Path, cache: Path) -> None:
    began, waits = threading.Event(), threading.Event()
    stages: list[str] = []
    made: dict[str, DataSet] = {}

    def first(stage: str, done: int, total: int) -> None:
        if stage == "Reading images":
            began.set()
            assert waits.wait(60)

    def second(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        if stage.startswith("Waiting"):
            waits.set()

    def one() -> None:
        made["one"] = load(DataConfig(str(root)), progress=first, workers=1)

    def two() -> None:
        assert began.wait(60)
        made["two"] = load(DataConfig(str(root)), progress=second, workers=1)

    side_by_side(one, two)
    assert stages == ["Waiting for another process that reads these images"]
    assert pixels(made["one"]) == pixels(made["two"])


def test_two_who_cannot_lock_do_the_work_twice(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("a read-only folder of locks")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    both = threading.Barrier(2)
    made: list[DataSet] = []

    def reading(stage: str, done: int, total: int) -> None:
        if stage == "Reading images":
            both.wait(60)

    def work() -> None:
        made.append(load(DataConfig(str(root)), progress=reading, workers=1))

    side_by_side(work, work)
    assert len(made) == 2
    assert pixels(made[0]) == pixels(made[1])
    assert entry_of(cache).is_dir()


RACE = """
import sys
from normlab.data import DataConfig, load
stages = []
data = load(DataConfig(sys.argv[1]), progress=lambda stage, *_: stages.append(stage), workers=1)
print(data.fingerprint, data.splits["train"].images().sum())
print("Reading images" in stages, file=sys.stderr)
"""


def test_four_processes_race_for_one_cache(root: Path, cache: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    results = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4, results
    assert len({out for out, _ in results}) == 1
    assert sorted(err.strip() for _, err in results) == ["False"] * 3 + ["True"]
    assert not entry_of(cache).name.endswith(".tmp")


# ------------------------------------------------------------------ the file of rows


def test_rows_come_in_the_order_asked(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    values = np.random.default_rng(0).integers(0, 256, (50, 3, 3, 1), dtype=np.uint8)
    file = ArrayFile.create(path, values.shape)
    file.write(np.arange(50)[::-1], values[::-1])
    for rows in ([3, 4, 5, 2, 2, 49, 0], [7], [], [10, 9, 8]):
        np.testing.assert_array_equal(file.read(np.array(rows, np.int64)), values[rows])
    np.testing.assert_array_equal(np.load(path), values)
    with pytest.raises(OSError, match="not the array"):
        ArrayFile(path, (50, 3, 3, 3))
