"""Folds: every image is tested exactly once in K runs, and what belongs together stays together."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.checks import quick_check, read_image_set
from normlab.data import DataConfig, DataSet, load
from normlab.data.splitting import deal
from normlab.errors import InputError
from normlab.keyed import key
from normlab.workflow.checking import with_clean_split

Make = Callable[..., Path]


def runs_test(data: DataSet, seeds: range) -> list[set[str]]:
    return [set(data.of_seed(seed).splits["test"].names.tolist()) for seed in seeds]


def refusal(root: Path | str = "digits", **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load(DataConfig(str(root), **options))  # type: ignore[arg-type]
    return str(caught.value)


def dealt(counts: list[int], number: int, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = np.array([key(f"image {row}") for row in range(len(labels))], dtype=np.uint64)
    return labels, deal(labels, ids, [f"class {k}" for k in range(len(counts))], number, seed)


# ------------------------------------------------------------------ the draw


@pytest.mark.parametrize(("counts", "number"), [([7, 8, 9], 5), ([100, 37, 4], 3), ([4, 61], 2)])
def test_folds_are_even_and_stratified(counts: list[int], number: int) -> None:
    labels, folds = dealt(counts, number)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(len(labels)))
    per_class = np.array([np.bincount(labels[rows], minlength=len(counts)) for rows in folds])
    assert (np.ptp(per_class, axis=0) <= 1).all()
    assert np.ptp(per_class.sum(1)) <= 1


def test_the_seed_decides_and_the_order_of_the_files_does_not() -> None:
    labels, folds = dealt([60, 60], 4)
    _, others = dealt([60, 60], 4, seed=1)
    assert set(folds[0].tolist()) != set(others[0].tolist())
    ids = np.array([key(f"image {row}") for row in range(120)], dtype=np.uint64)
    mixed = np.random.default_rng(0).permutation(120)
    again = deal(labels[mixed], ids[mixed], ["a", "b"], 4, 0)
    for rows, same in zip(folds, again, strict=True):
        assert set(mixed[same].tolist()) == set(rows.tolist())


def test_groups_of_all_sizes_and_classes_stay_in_one_fold() -> None:
    drawn = np.random.default_rng(3)
    for trial in range(20):
        labels = drawn.integers(0, 3, 200)
        together = drawn.integers(0, 60, 200)
        ids = np.array([key(f"image {row}") for row in range(200)], dtype=np.uint64)
        folds = deal(labels, ids, ["a", "b", "c"], 4, trial, together)
        assert sorted(np.concatenate(folds).tolist()) == list(range(200))
        parts = [set(together[rows].tolist()) for rows in folds]
        assert sum(map(len, parts)) == len(set(together.tolist()))
        # Within a group of what is even.
        largest = np.bincount(together).max()
        assert max(map(len, folds)) - min(map(len, folds)) <= 2 * largest


# ------------------------------------------------------------------ what runs see


def test_every_image_is_tested_once_in_every_repetition(write: Make) -> None:
    root = write({"ant": 13, "bee": 22})
    data = load(DataConfig(str(root), folds=5))
    names = {str(path.relative_to(root)) for path in root.rglob("*.png")}
    for repetition in range(3):
        seeds = range(5 * repetition, 5 * repetition + 5)
        parts = runs_test(data, seeds)
        assert set.union(*parts) == names
        assert sum(map(len, parts)) == 35
        for seed in seeds:
            run = data.of_seed(seed)
            every = [name for part in run.splits.values() for name in part.names.tolist()]
            assert sorted(every) == sorted(names)
            assert all(set(part.labels.tolist()) == {0, 1} for part in run.splits.values())
            assert run.fold == f"fold {seed % 5 + 1} of 5, repetition {repetition + 1}"
    assert runs_test(data, range(5)) != runs_test(data, range(5, 10))
    # Another process, or another arm, sees the same.
    again = pickle.loads(pickle.dumps(load(DataConfig(str(root), folds=5))))
    for seed in (0, 7):
        for name, part in data.of_seed(seed).splits.items():
            other = again.of_seed(seed).splits[name]
            assert other.names.tolist() == part.names.tolist()
            np.testing.assert_array_equal(other.images(), part.images())


def test_pixels_are_normalized_by_the_training_images_of_the_run(write: Make) -> None:
    data = load(DataConfig(str(write({"ant": 12, "bee": 12})), folds=3))
    assert len({data.of_seed(seed).mean for seed in range(6)}) == 6
    for seed in range(6):
        run = data.of_seed(seed)
        trained = run.splits["train"].images().astype(float).reshape(-1, 3) / 255
        np.testing.assert_allclose(run.mean, trained.mean(0))
        np.testing.assert_allclose(run.std, trained.std(0))


def test_validation_is_a_share_of_what_is_not_tested(write: Make) -> None:
    data = load(DataConfig(str(write({"ant": 30, "bee": 30})), folds=3, val_fraction=0.25))
    assert {name: len(part) for name, part in data.of_seed(4).splits.items()} == {
        "train": 30, "val": 10, "test": 20,
    }  # fmt: skip
    others = {frozenset(data.of_seed(seed).splits["val"].names.tolist()) for seed in range(6)}
    assert len(others) == 6


def test_copies_and_groups_are_in_one_split_of_every_run(write: Make) -> None:
    root = write({"ant": 24, "bee": 24})
    for path in sorted(root.rglob("*.png")):
        number = int(path.stem)
        path.rename(path.with_name(f"patient{number // 2:02}-{number % 2}.png"))
    # A copy, with another label, of the image of another patient.
    shutil.copy(root / "ant" / "patient00-0.png", root / "bee" / "patient07-0.png")
    data = load(DataConfig(str(root), folds=3, group_by=r"patient(\d+)"))
    assert any("Every group is in one split." in note for note in data.notes)
    assert any("2 of 48 images are exact copies" in note for note in data.notes)
    for seed in range(9):
        where: dict[str, set[str]] = {}
        for name, part in data.of_seed(seed).splits.items():
            for image in part.names.tolist():
                where.setdefault(image.split("patient")[1][:2], set()).add(name)
        assert all(len(splits) == 1 for splits in where.values())
        assert where["00"] == where["07"]
    plain = load(DataConfig(str(root), folds=3))
    apart = [len({image.split("patient")[1][:2] for image in fold}) for fold in
             runs_test(plain, range(3))]  # fmt: skip
    assert sum(apart) > 12  # it is the pattern that kept them


def test_the_sources_own_splits_are_dealt_anew_and_that_is_said(write: Make) -> None:
    root = write({"train/ant": 10, "train/bee": 10, "test/ant": 5, "test/bee": 5})
    data = load(DataConfig(str(root), folds=3))
    parts = runs_test(data, range(3))
    assert [len(part) for part in parts] == [10, 10, 10]
    assert len(set.union(*parts)) == 30
    (said,) = [note for note in data.notes if "own splits" in note]
    assert "(training and test) are not used: all its images are dealt anew" in said
    assert "--group-by" in said
    assert not any("own splits" in note for note in load(DataConfig(folds=3)).notes)


def test_files_that_cannot_be_used_take_no_place(write: Make) -> None:
    root = write({"ant": 12, "bee": 12})
    (root / "ant" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    assert "cannot be used" in refusal(root, folds=4)
    data = load(DataConfig(str(root), folds=4, skip_bad=True))
    assert len(set.union(*runs_test(data, range(4)))) == 23


def test_a_clean_split_keeps_copies_in_one_fold(write: Make, tmp_path: Path) -> None:
    """Copies that are equal only in the few pixels that the network sees."""
    root = write({"ant": 12, "bee": 12})
    pairs = [("ant/000.png", "ant/005.png"), ("bee/001.png", "bee/009.png")]
    for number, pair in enumerate(pairs):
        for row, name in enumerate(pair):
            pixels = np.full((12, 12, 3), 90 + 40 * number, np.uint8)
            pixels[1, row] += 1
            Image.fromarray(pixels).save(root / name)
    config = DataConfig(str(root), folds=3)
    apart = load(config)
    assert len(np.unique(apart.tested.digests)) == 24
    clean = with_clean_split(DataConfig(str(root), folds=3, image_size=8))
    data = load(clean)
    assert any("2 photographs with several images" in note for note in data.notes)
    for seed in range(9):
        for pair in pairs:
            where = [name for name, part in data.of_seed(seed).splits.items()
                     if set(pair) & set(part.names.tolist())]  # fmt: skip
            assert len(where) == 1
    # The study's copy says the same, wherever it is; and at another size it still holds.
    assert clean.split is not None
    copy = shutil.copy(clean.split, tmp_path / "split.json")
    again = load(DataConfig(str(root), folds=3, image_size=8, split=str(copy)))
    assert again.fingerprint == data.fingerprint
    large = load(DataConfig(str(root), folds=3, split=str(copy)))
    assert large.fingerprint != apart.fingerprint
    for fold in runs_test(large, range(3)):
        assert all(len(fold & set(pair)) in (0, 2) for pair in pairs)


def test_findings_are_of_all_images_that_are_tested(write: Make) -> None:
    data = load(DataConfig(str(write({"ant": 12, "bee": 12})), folds=3))
    found = quick_check(read_image_set(data.config, data=data))
    (size,) = [one for one in found if one.check == "test-size"]
    assert "With 24 different images, each tested once by the runs of 3 seeds" in size.sentence
    assert "two arms is known no better than" in size.sentence


# ------------------------------------------------------------------ identity


def test_data_without_folds_is_what_it_was() -> None:
    assert load(DataConfig()).fingerprint == "51a9ff7201c27348a77c4047db121e18"
    described = load(DataConfig()).describe()
    assert "folds" not in described
    assert load(DataConfig()).of_seed(3).splits["test"].names.tolist() == (
        load(DataConfig()).splits["test"].names.tolist()
    )


def test_the_fingerprint_is_that_of_the_images_and_of_how_they_are_dealt(write: Make) -> None:
    root = write({"ant": 12, "bee": 12})
    base = {"folds": 3, "split_seed": 0, "val_fraction": 0.15}
    others = [{}, {"folds": 4}, {"split_seed": 1}, {"val_fraction": 0.2},
              {"group_by": r"(\d)\.png"}, {"group_by": r"(\d\d)\.png"}]  # fmt: skip
    found = [load(DataConfig(str(root), **{**base, **other})) for other in others]  # type: ignore[arg-type]
    assert len({data.fingerprint for data in found}) == len(others)
    assert found[0].of_seed(5).fingerprint == found[0].fingerprint
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(root / "ant" / "new.png")
    assert load(DataConfig(str(root), folds=3)).fingerprint != found[0].fingerprint


def test_what_is_recorded_adds_up(write: Make) -> None:
    described = load(DataConfig(str(write({"ant": 13, "bee": 22})), folds=4)).describe()
    folds = described["folds"]
    assert (folds["number"], folds["images"]) == (4, 35)
    assert folds["counts"] == {"ant": 13, "bee": 22}
    assert sum(folds["sizes"]["test"]) == 35
    totals = [sum(run) for run in zip(*folds["sizes"].values(), strict=True)]
    assert totals == [35] * 4
    assert described["config"]["folds"] == 4


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": 1}, "folds must be a whole number of at least 2 and at most 20, got 1"),
        ({"folds": 21}, "at most 20, got 21"),
        ({"folds": True}, "folds must be a whole number"),
        ({"folds": 2.5}, "folds must be a whole number"),
        ({"folds": 5, "test_fraction": 0.2}, "Give test_fraction or folds, not both"),
        ({"folds": 5, "limit_per_class": 9}, "Give limit_per_class or folds, not both"),
    ],
)
def test_what_contradicts_folds(options: dict[str, object], said: str) -> None:
    assert said in refusal(**options)


def test_a_split_file_and_folds(write: Make, tmp_path: Path) -> None:
    root = write({"train/ant": 8, "val/ant": 4, "test/ant": 4,
                  "train/bee": 8, "val/bee": 4, "test/bee": 4})  # fmt: skip
    split = with_clean_split(DataConfig(str(root))).split
    assert split is not None
    file = shutil.copy(split, tmp_path / "mine.json")
    assert len(load(DataConfig(str(root), split=str(file))).splits["train"]) == 16
    message = refusal(root, split=str(file), folds=4)
    assert "mine.json assigns images to splits, and --folds 4 deals them anew" in message
    assert "--clean-split" in message


def test_classes_that_are_too_small(write: Make) -> None:
    root = write({"ant": 6, "bee": 20})
    message = refusal(root, folds=8)
    assert "Class ant has 6 images. 8 folds need at least 8 images of each class" in message
    assert "Use --folds 6 or fewer" in message
    assert load(DataConfig(str(root), folds=6)).of_seed(11).fold.startswith("fold 6 of 6")
    few = write({"ant": 3, "bee": 20}, root="few")
    assert "2 folds need at least 4 images" in refusal(few, folds=2)
    for path in (root / "ant").iterdir():
        if path.name != "000.png":
            shutil.copy(root / "ant" / "000.png", path)
    message = refusal(root, folds=5)
    assert "Class ant has 6 images in 1 group that stay in one fold (6 of the 6 are copies of one "
    assert "5 folds need at least 5 groups of each class. Add other images" in message
