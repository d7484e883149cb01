"""Splits are disjoint, complete, stratified, seeded, and belong to the images' names."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit

from normlab.data import DataConfig, load
from normlab.data.splitting import carve, limit
from normlab.keyed import key

FRACTIONS = {"val": 0.15, "test": 0.15}


def made(counts: list[int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = np.array([key(f"image {row}") for row in range(len(labels))], dtype=np.uint64)
    return labels, ids, [f"class {index}" for index in range(len(counts))]


def parts(counts: list[int], seed: int = 0, **found: np.ndarray) -> dict[str, np.ndarray]:
    labels, ids, classes = made(counts)
    return carve(found or {"train": np.arange(len(labels))}, labels, ids, classes, FRACTIONS, seed)


def test_every_image_is_in_exactly_one_split() -> None:
    splits = parts([100, 37, 3, 800])
    assert list(splits) == ["train", "val", "test"]
    together = np.concatenate(list(splits.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(940))
    assert all((np.diff(rows) > 0).all() for rows in splits.values())


def test_shares_are_those_of_a_stratified_shuffle() -> None:
    counts = [100, 40, 260, 800]
    labels, _, _ = made(counts)
    splits = parts(counts)
    reference = StratifiedShuffleSplit(n_splits=1, test_size=0.15, random_state=0)
    _, chosen = next(reference.split(labels, labels))
    for name in ("val", "test"):
        np.testing.assert_array_equal(
            np.bincount(labels[splits[name]]), np.bincount(labels[chosen])
        )


def test_small_classes_are_in_every_split() -> None:
    labels, _, _ = made([3, 4, 1000])
    for rows in parts([3, 4, 1000]).values():
        assert (np.bincount(labels[rows], minlength=3) >= 1).all()


def test_large_shares_leave_something_to_train_on() -> None:
    labels, ids, classes = made([3, 4, 5])
    splits = carve({"train": np.arange(12)}, labels, ids, classes, {"val": 0.45, "test": 0.5}, 0)
    for rows in splits.values():
        assert (np.bincount(labels[rows], minlength=3) >= 1).all()


def test_the_seed_decides() -> None:
    counts = [50, 50]
    for name in ("val", "test"):
        np.testing.assert_array_equal(parts(counts, 1)[name], parts(counts, 1)[name])
        assert set(parts(counts, 1)[name]) != set(parts(counts, 2)[name])


def test_the_choice_belongs_to_the_names() -> None:
    labels, ids, classes = made([60, 60])
    splits = carve({"train": np.arange(120)}, labels, ids, classes, FRACTIONS, 0)
    mixed = np.random.default_rng(0).permutation(120)
    again = carve({"train": np.arange(120)}, labels[mixed], ids[mixed], classes, FRACTIONS, 0)
    for name, rows in splits.items():
        assert set(mixed[again[name]]) == set(rows)


def test_one_image_more_moves_few_others() -> None:
    labels, ids, classes = made([200, 200])
    whole = carve({"train": np.arange(400)}, labels, ids, classes, FRACTIONS, 0)
    less = carve({"train": np.arange(1, 400)}, labels, ids, classes, FRACTIONS, 0)
    for name in whole:
        assert len(set(whole[name]) ^ set(less[name])) <= 4


def test_found_splits_stay_as_they_are() -> None:
    found = {"train": np.arange(0, 80), "test": np.arange(80, 100)}
    splits = parts([50, 50], **found)
    np.testing.assert_array_equal(splits["test"], found["test"])
    assert set(splits["train"]) | set(splits["val"]) == set(range(80))


def test_the_limit_is_in_proportion_and_drawn() -> None:
    labels, ids, classes = made([100, 300, 9])
    splits = carve({"train": np.arange(409)}, labels, ids, classes, FRACTIONS, 0)
    kept = limit(splits, labels, ids, classes, 20, 0, all_splits=True)
    of = {name: np.bincount(labels[rows]) for name, rows in splits.items()}
    got = {name: np.bincount(labels[rows]) for name, rows in kept.items()}
    assert got["train"].tolist() == [20, 20, of["train"][2]]
    for name in ("val", "test"):
        expected = [
            max(1, round(of[name][0] * 20 / of["train"][0])),
            max(1, round(of[name][1] * 20 / of["train"][1])),
            of[name][2],
        ]
        assert got[name].tolist() == expected
    for name, rows in kept.items():
        assert set(rows) <= set(splits[name])
    of_first = splits["train"][labels[splits["train"]] == 0]
    assert set(kept["train"][:20]) != set(of_first[:20])
    other = limit(splits, labels, ids, classes, 20, 1)
    assert set(other["train"]) != set(kept["train"])


def test_a_limit_on_training_leaves_the_evaluation_whole() -> None:
    whole = load(DataConfig("digits"))
    limited = load(DataConfig("digits", limit_per_class=4))
    assert np.bincount(limited.splits["train"].labels).tolist() == [4] * 10
    for name in ("val", "test"):
        np.testing.assert_array_equal(limited.splits[name].names, whole.splits[name].names)
    assert "val and test whole" in limited.notes[1]
    assert "40 of 539 in train, 269 of 269 in val, 989 of 989 in test" in limited.notes[1]
    everywhere = load(DataConfig("digits", limit_per_class=4, limit_all_splits=True))
    np.testing.assert_array_equal(everywhere.splits["train"].names, limited.splits["train"].names)
    assert len(everywhere.splits["test"]) < len(limited.splits["test"])
    assert len({whole.fingerprint, limited.fingerprint, everywhere.fingerprint}) == 3


def test_a_larger_limit_keeps_what_a_smaller_one_kept() -> None:
    """Learning curves over the number of images compare nested sets."""
    labels, ids, classes = made([100, 100])
    splits = carve({"train": np.arange(200)}, labels, ids, classes, FRACTIONS, 0)
    small = limit(splits, labels, ids, classes, 10, 0, all_splits=True)
    large = limit(splits, labels, ids, classes, 20, 0, all_splits=True)
    for name in splits:
        assert set(small[name]) <= set(large[name])


def test_at_least_one_image_of_each_class_stays() -> None:
    config = DataConfig("digits", test_fraction=0.15, limit_per_class=1, limit_all_splits=True)
    data = load(config)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 10,
        "val": 10,
        "test": 10,
    }
    assert "Limited to 1 training image per class" in data.notes[1]


@pytest.mark.parametrize("most", [10_000, 200])
def test_a_limit_that_limits_nothing_changes_nothing(most: int) -> None:
    plain = load(DataConfig("digits"))
    limited = load(DataConfig("digits", limit_per_class=most))
    assert limited.fingerprint == plain.fingerprint
    assert limited.notes == plain.notes
