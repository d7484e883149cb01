"""Predictions read back: against scikit-learn, in the order promised, and what cannot be read."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from normlab.bounded import parse_arrays
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.files import write_arrays, write_json
from normlab.results import (
    Results,
    answers,
    class_f1,
    confusion,
    hardest,
    predictions,
    read_results,
)
from normlab.runs.pictures import read_pictures, write_pictures
from normlab.workflow import compare
from report.folders import follow, make_study

ARMS = ("bn", "gn", "none")
CLASSES = ("ant", "bee", "cow", "never seen")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(
        tmp_path_factory.mktemp("predictions") / "study",
        arms=ARMS, epochs=1, classes=CLASSES, predictions=True, ends={("gn", 1): "interrupted"},
    )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make_study(
        tmp_path / "study", arms=ARMS, seeds=2, epochs=1, classes=CLASSES, predictions=True,
        data={"images": None},  # tests put in what they need
    )  # fmt: skip


def _file(folder: Path, arm: str, seed: int) -> Path:
    return folder / "runs" / arm / f"seed-{seed}" / "predictions.npz"


def _put(path: Path, split: str = "test", **arrays: object) -> None:
    """Arrays of the split replaced."""
    with np.load(path) as held:
        content = dict(held)
    content |= {f"{split}_{name}": np.asarray(value) for name, value in arrays.items()}
    np.savez(path, **content)


def _sure(classes: list[int], probability: float = 0.9) -> np.ndarray:
    """Probabilities that say these classes."""
    rest = (1 - probability) / (len(CLASSES) - 1)
    return np.where(
        np.eye(len(CLASSES), dtype=bool)[classes], probability, rest
    ).astype("f4")  # fmt: skip


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_confusion_and_f1_are_those_of_scikit_learn(study: Path, split: str) -> None:
    results = read_results(study)
    for arm in ARMS:
        files = [
            np.load(run.folder / "predictions.npz") for run in results.of_arm(arm) if run.complete
        ]
        assert len(files) == (2 if arm == "gn" else 3)
        labels = [held[f"{split}_label"] for held in files]
        guesses = [held[f"{split}_probabilities"].argmax(1) for held in files]
        every = range(len(CLASSES))
        expected = confusion_matrix(np.concatenate(labels), np.concatenate(guesses), labels=every)
        assert np.array_equal(confusion(results, arm, split), expected)
        values = np.array(
            [
                f1_score(y, guess, labels=every, average=None, zero_division=0)
                for y, guess in zip(labels, guesses, strict=True)
            ]
        )
        for index, spread in enumerate(class_f1(results, arm, split)):
            assert spread is not None
            assert spread.n == len(files)
            assert spread.mean == pytest.approx(values[:, index].mean())
            assert spread.sd == pytest.approx(values[:, index].std(ddof=1))


def test_a_class_that_is_neither_there_nor_predicted_counts_zero(made: Path) -> None:
    for seed in range(2):
        labels = [0, 0, 1, 2]
        _put(
            _file(made, "bn", seed),
            image=list("abcd"), label=labels, probabilities=_sure([0, 1, 1, 2]),
        )  # fmt: skip
        follow(_file(made, "bn", seed).parent)
    results = read_results(made)
    f1 = [spread.mean for spread in class_f1(results, "bn") if spread is not None]
    assert f1 == pytest.approx([2 / 3, 2 / 3, 1, 0])
    assert confusion(results, "bn")[3].sum() == 0


def test_what_a_run_answered(study: Path) -> None:
    run = read_results(study).runs[0]
    own = run.predictions("val")
    with np.load(run.folder / "predictions.npz") as held:
        assert own.images.tolist() == held["val_image"].tolist()
        assert np.array_equal(own.labels, held["val_label"])
        assert np.array_equal(own.probabilities, held["val_probabilities"])
        assert np.array_equal(own.predicted, held["val_probabilities"].argmax(1))
    assert own.labels.dtype == own.predicted.dtype == np.int64
    assert own.probabilities.dtype == np.float32


def test_a_file_is_read_once(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = read_results(study)
    opened = []
    true = parse_arrays
    monkeypatch.setattr(
        "normlab.runs.predictions.parse_arrays",
        lambda content, path, *args: opened.append(path) or true(content, path, *args),
    )
    for _ in range(2):
        for arm in ARMS:
            confusion(results, arm)
            class_f1(results, arm)
        hardest(results)
    assert sorted(opened) == sorted(
        run.folder / "predictions.npz" for run in results.runs if run.complete
    )


def test_the_hardest_images_weigh_arms_alike(made: Path) -> None:
    # bn has one run left, gn and none have two. The labels are all "ant".
    path = made / "runs/bn/seed-1/run.json"
    record = {**json.loads(path.read_text()), "status": "interrupted", "metrics": None}
    write_json(path, record)
    names = ["a", "b", "c", "d", "e", "f"]
    told = {
        ("bn", 0): [0, 1, 0, 0, 0, 1],
        ("gn", 0): [0, 0, 2, 0, 1, 2],
        ("gn", 1): [0, 0, 1, 0, 0, 1],
        ("none", 0): [0, 0, 0, 0, 0, 1],
        ("none", 1): [0, 0, 0, 1, 0, 1],
    }
    for (arm, seed), classes in told.items():
        probabilities = _sure(classes)
        if arm == "none":
            probabilities[4] = _sure([0], 0.5)[0]  # e and d alike wrong; e is given less
        _put(
            _file(made, arm, seed), image=names, label=[0] * 6, probabilities=probabilities
        )  # fmt: skip
        follow(_file(made, arm, seed).parent)
    found = hardest(read_results(made))
    # Shares: f 1, b and c 1/3 (one of one of bn; two of two of gn), d and e 1/6; a never wrong.
    assert found[0].name == "f"
    assert {image.name for image in found[1:3]} == {"b", "c"}
    assert [image.name for image in found[3:]] == ["e", "d"]
    assert [image.share for image in found] == pytest.approx([1, 1 / 3, 1 / 3, 1 / 6, 1 / 6])
    first = found[0]
    assert (first.label, first.wrong, first.runs) == (0, 5, 5)
    assert first.taken_for == ((1, 4), (2, 1))
    assert first.arms["bn"] == predictions.Mistakes(1, 1, 1)
    c = next(image for image in found if image.name == "c")
    assert c.arms["none"] == predictions.Mistakes(0, 2, None)
    assert (c.arms["gn"].wrong, c.arms["gn"].runs) == (2, 2)
    assert [image.name for image in hardest(read_results(made), count=1)] == ["f"]


def test_equal_shares_go_by_the_probability_of_the_truth(made: Path) -> None:
    for arm in ARMS:
        for seed in range(2):
            unsure = np.concatenate([_sure([1], 0.5), _sure([1], 0.9), _sure([1], 0.7)])
            _put(
                _file(made, arm, seed), image=["x", "y", "z"], label=[0] * 3, probabilities=unsure
            )  # fmt: skip
            follow(_file(made, arm, seed).parent)
    found = hardest(read_results(made))
    assert [image.name for image in found] == ["y", "z", "x"]
    assert [image.probability for image in found] == pytest.approx([0.1 / 3, 0.1, 0.5 / 3])


def test_runs_without_fitting_predictions_are_left_out_and_named(made: Path) -> None:
    _file(made, "bn", 0).unlink()
    _file(made, "gn", 0).write_bytes(_file(made, "gn", 0).read_bytes()[:500])
    _put(_file(made, "gn", 1), image=[f"other/{k}" for k in range(109)])
    _put(_file(made, "none", 0), probabilities=np.full((109, 3), 1 / 3, "f4"), label=[0] * 109)
    follow(_file(made, "none", 0).parent)
    results = read_results(made)
    found = answers(results)
    assert {arm: list(seeds) for arm, seeds in found.of_arm.items()} == {
        "bn": [1], "gn": [], "none": [1]
    }  # fmt: skip
    said = "\n".join(found.left_out)
    assert "bn, seed 0: predictions.npz is missing" in said
    assert re.search(r"gn, seed 0: \S+predictions\.npz cannot be read", said)
    assert "gn, seed 1: its predictions are of other images" in said
    assert "none, seed 0: its predictions are of 3 classes, not 4" in said
    assert confusion(results, "gn").sum() == 0
    assert class_f1(results, "gn") == [None] * 4
    assert set(hardest(results)[0].arms) == {"bn", "none"}


@pytest.mark.parametrize(
    "arrays",
    [
        {"label": [0, 1]},
        {"label": [9] * 109},
        {"label": [-1] * 109},
        {"probabilities": np.full((109, 4), np.nan, "f4")},
        {"image": np.arange(109)},
        {"probabilities": np.zeros(109, "f4")},
    ],
)
def test_a_file_that_contradicts_itself_is_refused(made: Path, arrays: dict[str, object]) -> None:
    _put(_file(made, "bn", 0), **arrays)
    with pytest.raises(InputError, match="normlab did not write it like that"):
        read_results(made).runs[0].predictions()


def test_what_is_not_there_is_said(made: Path) -> None:
    results = read_results(made)
    for ask in (
        lambda: results.runs[0].predictions("dev"),
        lambda: answers(results, "dev"),
        lambda: hardest(results, "dev"),
    ):
        with pytest.raises(InputError, match="train, val, test"):
            ask()
    with pytest.raises(InputError, match=r"no arm 'ln'.*bn, gn, none"):
        confusion(results, "ln")
    path = _file(made, "bn", 0)
    with np.load(path) as held:
        np.savez(path, **{name: held[name] for name in held.files if not name.startswith("test")})
    with pytest.raises(InputError, match="nothing for the split test"):
        read_results(made).runs[0].predictions()


def test_no_predictions_at_all(tmp_path: Path) -> None:
    results: Results = read_results(make_study(tmp_path / "study", arms=("bn",), epochs=1))
    assert hardest(results) == []
    assert answers(results).first is None
    assert len(answers(results).left_out) == 3


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=16))


def test_pictures_are_those_of_the_names(digits: DataSet, tmp_path: Path) -> None:
    split = digits.splits["test"]
    names = [str(split.names[row]) for row in (7, 2, 30)]
    pixels = split.images([7, 2, 30])
    path = write_pictures(tmp_path, names, pixels)
    before = path.read_bytes()
    found = read_pictures(tmp_path)
    assert list(found) == names
    for name, row in zip(names, (7, 2, 30), strict=True):
        assert np.array_equal(found[name], split.images([row])[0])
    write_pictures(tmp_path, names, pixels)
    assert path.read_bytes() == before
    write_pictures(tmp_path, [], pixels[:0])
    assert read_pictures(tmp_path) == {}
    assert [p.name for p in tmp_path.iterdir()] == ["hardest.npz"]


def test_pictures_that_cannot_be(tmp_path: Path) -> None:
    assert read_pictures(tmp_path) == {}
    path = tmp_path / "hardest.npz"
    for content in ({"name": ["a"]}, {"name": ["a", "b"], "pixels": np.zeros((1, 8, 8, 1), "u1")},
                    {"name": ["a"], "pixels": np.zeros((1, 8, 8, 1))},
                    {"name": ["a"], "pixels": np.zeros((1, 8, 9, 1), "u1")}):  # fmt: skip
        write_arrays(path, content)
        with pytest.raises(InputError, match="cannot be read"):
            read_pictures(tmp_path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read"):
        read_pictures(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name.npy", "no array")
    with pytest.raises(InputError, match="cannot be read"):
        read_pictures(tmp_path)


def test_a_comparison_keeps_what_its_report_shows(tmp_path: Path) -> None:
    made = compare(
        data="digits", arms="none", seeds=1, limit_per_class=16, n=1, epochs=1, workers=1,
        out=tmp_path / "study",
    )  # fmt: skip
    names = [image.name for image in hardest(made.results)]
    assert len(names) > 10  # one epoch learns next to nothing
    split = load(DataConfig(limit_per_class=16)).splits["test"]
    found = read_pictures(made.folder)
    assert list(found) == names
    for name, pixels in found.items():
        assert np.array_equal(pixels, split.images(np.flatnonzero(split.names == name))[0])
    record = made.results.runs[0].record
    f1 = [spread.mean for spread in class_f1(made.results, "none") if spread is not None]
    assert np.mean(f1) == pytest.approx(record["metrics"]["test"]["macro_f1"])
    assert record["side_by_side"] == 1
