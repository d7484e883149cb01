"""Splits that are drawn never separate copies of an image, nor what a person knows to belong
together."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.checks import EXACT, quick_check, read_image_set
from normlab.data import DataConfig, DataSet, load
from normlab.data.grouping import group_names
from normlab.data.splitting import carve
from normlab.errors import InputError
from normlab.keyed import hash_each, key
from normlab.pages.findings import Level
from normlab.workflow.checking import with_clean_split

Make = Callable[..., Path]
FRACTIONS = {"val": 0.15, "test": 0.15}


def drawn(labels: np.ndarray, together: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    ids = np.array([key(f"image {row}") for row in range(len(labels))], dtype=np.uint64)
    classes = [f"class {label}" for label in range(labels.max() + 1)]
    pool = {"train": np.arange(len(labels))}
    return carve(pool, labels, ids, classes, FRACTIONS, seed, together)


def split_of(data: DataSet) -> dict[str, str]:
    return {name: split for split, part in data.splits.items() for name in part.names.tolist()}


def refusal(root: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load(DataConfig(str(root), **options))  # type: ignore[arg-type]
    return str(caught.value)


# ------------------------------------------------------------------ the draw


def test_groups_of_one_are_drawn_as_ever() -> None:
    """What was drawn of sets without copies stays what it was, to the image."""
    labels = np.repeat([0, 1, 2], [40, 300, 5])
    ids = np.array([key(f"image {row}") for row in range(345)], dtype=np.uint64)
    splits = drawn(labels, np.random.default_rng(0).permutation(345))
    free = np.arange(345)
    for name in ("test", "val"):
        order = free[np.argsort(hash_each(key(0, "carve", name), ids[free]))]
        for label, count in enumerate((6, 45, 1)):
            mine = splits[name][labels[splits[name]] == label]
            assert set(mine.tolist()) == set(order[labels[order] == label][:count].tolist())
        free = np.setdiff1d(free, splits[name])


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_shares_stay_close(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 120)
    together = np.repeat(np.arange(120), sizes)
    labels = np.repeat(rng.integers(0, 3, 120), sizes)
    splits = drawn(labels, together, seed)
    where = np.empty(len(labels), int)
    for index, rows in enumerate(splits.values()):
        where[rows] = index
    assert all(len(set(where[together == group])) == 1 for group in range(120))
    for name in ("val", "test"):
        shares = np.bincount(labels[splits[name]], minlength=3) / np.bincount(labels)
        # Within half of the largest group.
        assert np.abs(shares - 0.15).max() < 4.5 / np.bincount(labels).min()


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_several_classes_stay_close_in_every_class(seed: int) -> None:
    """Patients with healthy and ill images."""
    rng = np.random.default_rng(seed)
    together = np.repeat(np.arange(100), 8)
    labels = (rng.random(800) < np.repeat(rng.random(100), 8)).astype(int)
    splits = drawn(labels, together, seed)
    for name in ("val", "test"):
        shares = np.bincount(labels[splits[name]]) / np.bincount(labels)
        assert np.abs(shares - 0.15).max() < 0.05, shares
    groups = [set(together[rows]) for rows in splits.values()]
    assert sum(map(len, groups)) == 100


def test_large_groups_are_not_always_left_to_train() -> None:
    together = np.repeat(np.arange(30), 10)
    splits = drawn(np.repeat([0, 1], 150), together)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 220, "val": 40, "test": 40,
    }  # fmt: skip


# ------------------------------------------------------------------ copies


def with_copies(root: Path) -> None:
    """Of every third image a copy by bytes, one by pixels alone, and one in the other class."""
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        if number % 3 == 0:
            shutil.copy(path, path.with_name(f"again-{path.name}"))
            with Image.open(path) as image:
                image.save(path.with_name(f"saved-{path.stem}.bmp"))
        if number % 12 == 0:
            other = root / {"a": "b", "b": "a"}[path.parent.name]
            shutil.copy(path, other / f"other-{path.parent.name}-{path.name}")


def test_a_split_that_is_drawn_does_not_separate_copies(write: Make) -> None:
    root = write({"a": 60, "b": 60})
    with_copies(root)
    config = DataConfig(str(root))
    exact = EXACT.glance(read_image_set(config))
    assert exact is not None
    levels = {found.sentence: found.level for found in exact.findings()}
    assert all(level is Level.FINE for text, level in levels.items() if "shares" in text)
    assert "No test image is also a training or validation image." in levels
    data = load(config)
    where = split_of(data)
    assert where["a/000.png"] == where["a/again-000.png"] == where["a/saved-000.bmp"]
    assert where["a/000.png"] == where["b/other-a-000.png"]
    copies = next(note for note in data.notes if "copies" in note)
    assert copies.startswith("130 of 210 images are exact copies of one another.")
    for name in ("val", "test"):
        shares = np.bincount(data.splits[name].labels) / 105
        assert np.abs(shares - 0.15).max() < 0.03


def test_val_that_is_drawn_does_not_separate_copies(write: Make) -> None:
    root = write({"train/a": 40, "train/b": 40, "test/a": 5, "test/b": 5})
    for path in sorted((root / "train").rglob("*.png")):
        shutil.copy(path, path.with_name(f"again-{path.name}"))
    data = load(DataConfig(str(root)))
    shared = np.intersect1d(data.splits["train"].digests, data.splits["val"].digests)
    assert len(shared) == 0
    assert len(data.splits["val"]) == 24  # 15 % of 160


def test_sets_without_copies_are_split_as_before(write: Make) -> None:
    data = load(DataConfig(str(write({"a": 20, "b": 20}, side=9))))
    assert not any("copies" in note for note in data.notes)
    assert data.splits["test"].names.tolist() == [
        "a/000.png", "a/003.png", "a/015.png", "b/000.png", "b/004.png", "b/005.png",
    ]  # fmt: skip
    assert data.fingerprint == "c3d888968b3f300a330cf207dc1696b7"
    assert load(DataConfig()).fingerprint == "51a9ff7201c27348a77c4047db121e18"


def test_a_class_of_copies_cannot_be_split(write: Make) -> None:
    root = write({"a": 9, "b": 9})
    for path in (root / "b").iterdir():
        shutil.copy(root / "b" / "000.png", path) if path.name != "000.png" else None
    message = refusal(root)
    assert "Class b cannot be split into train, val and test" in message
    assert "its 9 images are only 1 group, where 3 are needed" in message
    assert "All 9 are copies of one image" in message


# ------------------------------------------------------------------ what a person knows


@pytest.fixture
def patients(write: Make) -> Path:
    """Four images in each class of each of 20 patients."""
    root = write({"ill": 80, "well": 80})
    for path in sorted(root.rglob("*.png")):
        number = int(path.stem)
        path.rename(path.with_name(f"patient{number // 4:02}-{number % 4}.png"))
    return root


def test_groups_by_a_pattern_stay_together(patients: Path) -> None:
    config = DataConfig(str(patients), group_by=r"patient(\d+)")
    data = load(config)
    seen: dict[str, set[str]] = {}
    for name, split in split_of(data).items():
        seen.setdefault(name.split("patient")[1][:2], set()).add(split)
    assert len(seen) == 20
    assert all(len(splits) == 1 for splits in seen.values())
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 112, "val": 24, "test": 24,
    }  # fmt: skip
    assert (
        "group_by puts 160 images in 20 groups, the largest with 8. Every group is in one split."
        in data.notes
    )
    assert data.split_policy["val"] == "15 % of the source, whole groups, stratified, seed 0"
    assert data.describe()["config"]["group_by"] == r"patient(\d+)"
    plain = load(DataConfig(str(patients)))
    assert plain.fingerprint != data.fingerprint
    # The same draw, whatever else: another seed draws others.
    assert load(config).fingerprint == data.fingerprint
    assert load(DataConfig(str(patients), group_by="patient..", split_seed=0)).fingerprint == (
        data.fingerprint
    )


def test_what_names_a_group() -> None:
    names = ["a/site1/p07.png", "a/site2/p07.png", "b/site1/p07.png"]
    assert group_names(names, r"p(\d+)", "s") == ["07", "07", "07"]
    assert group_names(names, r"site\d", "s") == ["site1", "site2", "site1"]
    assert group_names(names, r"(site\d)/(p\d+)", "s") == ["site1/p07", "site2/p07", "site1/p07"]
    assert group_names(names, r"site(2)|a|b", "s") == ["a", "a", "b"]


@pytest.mark.parametrize("pattern", ["patient(", "[", "*", "(?P<x>"])
def test_a_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(InputError, match="is not a regular expression"):
        DataConfig("photos", group_by=pattern)


@pytest.mark.parametrize("pattern", ["", 3, ["a"]])
def test_a_pattern_is_text(pattern: object) -> None:
    with pytest.raises(InputError, match="group_by must be a regular expression"):
        DataConfig("photos", group_by=pattern)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "groups"), [(r"patient(\d\d)", 23), (r"patient\d\d", 23), (r"(?i)PATIENT..", 23)]
)
def test_images_that_do_not_match_are_counted_and_the_advice_works(
    patients: Path, pattern: str, groups: int
) -> None:
    for number in range(3):
        noise = np.random.default_rng(900 + number).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(noise).save(patients / "ill" / f"extra {number}.png")
    message = refusal(patients, group_by=pattern)
    assert "matches nothing in 3 of 163 images" in message
    assert f"group_by '{pattern}' matches" in message
    assert "such as ill/extra 0.png" in message
    advised = re.search(r"a group of its own, give '(.*)'\.$", message)
    assert advised is not None
    data = load(DataConfig(str(patients), group_by=advised[1]))
    assert any(f"in {groups} groups" in note for note in data.notes)


def test_a_pattern_that_matches_no_image(patients: Path) -> None:
    for pattern in ("person", "x*"):
        message = refusal(patients, group_by=pattern)
        assert "matches nothing in 160 of 160 images" in message
        assert "searched in the path inside the source" in message


def test_a_group_that_has_a_whole_class(patients: Path) -> None:
    for path in sorted((patients / "well").iterdir())[4:]:
        path.unlink()
    message = refusal(patients, group_by=r"patient(\d+)")
    assert "Class well cannot be split" in message
    assert "its 4 images are only 1 group, where 3 are needed" in message
    assert "All 4 are the group '00'" in message


def test_a_clean_split_keeps_groups_and_copies(patients: Path, tmp_path: Path) -> None:
    root = tmp_path / "given"
    for path in sorted(patients.rglob("*.png")):
        # Every patient is in all splits.
        split = {"0": "train", "1": "train", "2": "val", "3": "test"}[path.stem[-1]]
        (root / split / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / split / path.parent.name / path.name)
    # Two patients have an image that is equal only in the few pixels that the network sees.
    same = ["train/ill/patient00-0.png", "test/well/patient05-3.png"]
    for row, name in enumerate(same):
        pixels = np.full((12, 12, 3), 90, np.uint8)
        pixels[1, row] += 1
        Image.fromarray(pixels).save(root / name)
    own = read_image_set(DataConfig(str(root)))
    assert len(np.unique(own.digests)) == 160
    config = DataConfig(str(root), image_size=8, group_by=r"patient(\d+)")
    before = load(config)
    shared = np.intersect1d(before.splits["train"].digests, before.splits["test"].digests)
    assert len(shared) == 1
    clean = load(with_clean_split(config))
    where = split_of(clean)
    groups = {patient: {where[name] for name in where if f"patient{patient:02}" in name}
              for patient in range(20)}  # fmt: skip
    assert all(len(splits) == 1 for splits in groups.values())
    assert groups[0] == groups[5]
    assert set(where.values()) == {"train", "val", "test"}
    (found,) = [one for one in quick_check(read_image_set(clean.config)) if one.check == "groups"]
    assert found.level is Level.FINE
    assert r"By the pattern 'patient(\d+)', there are" in found.sentence
    # The file in the cache has a name that says nothing; the study keeps a copy.
    assert set(clean.split_policy.values()) == {"a clean split (kept in split.json)"}
    assert clean.config.split is not None
    assert Path(clean.config.split).name not in " ".join(clean.notes)
    named = shutil.copy(clean.config.split, tmp_path / "mine.json")
    again = load(DataConfig(str(root), image_size=8, split=str(named)))
    assert set(again.split_policy.values()) == {"as written in mine.json"}
    assert any("photographs or groups" in note for note in clean.notes)


def test_groups_across_splits_of_the_source_are_said(patients: Path, tmp_path: Path) -> None:
    root = tmp_path / "given"
    for path in sorted(patients.rglob("*.png")):
        number = int(path.stem[7:9])
        split = "train" if number < 12 else "val" if number < 16 else "test"
        if number == 12 and path.stem.endswith("0"):
            split = "train"
        (root / split / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / split / path.parent.name / path.name)
    config = DataConfig(str(root), group_by=r"patient(\d+)")
    data = load(config)
    assert data.fingerprint == load(DataConfig(str(root))).fingerprint
    (found,) = [one for one in quick_check(read_image_set(config)) if one.check == "groups"]
    assert found.level is Level.INVALID
    assert "1 of 20 groups is in more than one split" in found.sentence
    assert "'12' in training and validation" in found.sentence
    assert "--clean-split" in found.advice
    other = DataConfig(str(root), group_by=r"-(\d)")
    (found,) = [one for one in quick_check(read_image_set(other)) if one.check == "groups"]
    assert "4 of 4 groups are in more than one split" in found.sentence
    drawn_set = DataConfig(str(patients), group_by=r"patient(\d+)")
    (found,) = [one for one in quick_check(read_image_set(drawn_set)) if one.check == "groups"]
    assert found.level is Level.FINE
    assert not [
        one for one in quick_check(read_image_set(DataConfig(str(root)))) if one.check == "groups"
    ]
