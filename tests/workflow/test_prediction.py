"""Predicting: the run's own numbers again, in the order asked, from real image files."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normlab.cli import main
from normlab.data import DataConfig, load
from normlab.data.decode import EXTENSIONS
from normlab.errors import InputError
from normlab.files import csv_plain, write_json
from normlab.models import ModelInfo, load_info, load_model, save_model
from normlab.runs import RunConfig
from normlab.training import train
from normlab.workflow.prediction import find_images, predict

CLASSES = ("ash", "birch", "cedar, old")
FORMATS = (".png", ".jpg", ".bmp")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of files of several formats and sizes, none of them square."""
    root = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3), ("test", 6)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (20 + index, 31, 3)) + 40 * label
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / f"{index:02}{FORMATS[index % 3]}")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "seed-0"
    data = load(DataConfig(source=str(photos), image_size=16))
    train(RunConfig(norm="bin", n=1, epochs=1, batch_size=8), data, folder)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_runs_own_predictions_again(run: Path, photos: Path, tmp_path: Path) -> None:
    told = []
    report = predict(
        run,
        [str(photos / "test")],
        tmp_path / "out" / "p.csv",
        batch_size=7,
        progress=lambda *at: told.append(at),
    )
    saved = np.load(run / "predictions.npz", allow_pickle=False)
    rows = _rows(report.output)
    assert [row["path"] for row in rows] == [str(photos / name) for name in saved["test_image"]]
    probabilities = saved["test_probabilities"]
    best = probabilities.argmax(1)
    assert [row["class"] for row in rows] == [CLASSES[index] for index in best]
    found = np.array([float(row["probability"]) for row in rows])
    assert found == pytest.approx(probabilities.max(1), abs=1e-5)
    assert len(set(best.tolist())) > 1, "a model of one answer shows little"
    assert all(len(row["probability"].partition(".")[2]) == 6 for row in rows)
    assert (report.rows, report.unreadable) == (18, {})
    assert told == [("Predicting", done, 18) for done in (7, 14, 18)]
    assert report.output.read_text().splitlines()[0] == "path,class,probability"


def test_the_order_given_with_repeats(run: Path, photos: Path, tmp_path: Path) -> None:
    a, b = str(photos / "test/birch/01.jpg"), str(photos / "test/ash/00.png")
    predict(run, [a, b, a], tmp_path / "p.csv")
    rows = _rows(tmp_path / "p.csv")
    assert [row["path"] for row in rows] == [a, b, a]
    assert rows[0] == rows[2]


def test_the_bad_are_named_and_the_rest_is_done(run: Path, photos: Path, tmp_path: Path) -> None:
    good = (photos / "test/ash/01.jpg").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(good)
    (folder / "b.jpg").write_bytes(good[: len(good) // 2])
    (folder / "c.png").write_bytes(good)
    (folder / "d.gif").write_bytes(b"")
    (folder / "e.jpg").write_bytes(good)
    report = predict(run, [str(folder)], tmp_path / "p.csv", batch_size=2)
    rows = _rows(tmp_path / "p.csv")
    assert [Path(row["path"]).name for row in rows] == ["a.jpg", "e.jpg"]
    assert rows[0]["probability"] == rows[1]["probability"]
    reasons = {Path(name).name: reason for name, reason in report.unreadable.items()}
    assert list(reasons) == ["b.jpg", "c.png", "d.gif"]
    assert "cut short" in reasons["b.jpg"]
    assert "wrongly named" in reasons["c.png"]
    assert "empty" in reasons["d.gif"]


def test_a_folder_gives_every_format_that_the_source_reads_and_names_the_others(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    with Image.open(photos / "test/ash/00.png") as image:
        for suffix in sorted(EXTENSIONS & {".avif", ".jp2", ".webp", ".tif", ".png"}):
            image.save(folder / "deep" / f"image{suffix}")
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (folder / "phone.HEIC").write_bytes(heic)
    (folder / "no extension").write_bytes(heic)
    (folder / "drawing.svg").write_text("<svg/>")
    (folder / "labels.csv").write_text("a,b")
    (folder / "notes.txt").write_text("P 12")
    report = predict(run, [str(folder)], tmp_path / "p.csv")
    kinds = {Path(row["path"]).suffix for row in _rows(tmp_path / "p.csv")}
    assert kinds == EXTENSIONS & {".avif", ".jp2", ".webp", ".tif", ".png"}
    reasons = {Path(name).name: reason for name, reason in report.unreadable.items()}
    assert set(reasons) == {"phone.HEIC", "no extension", "drawing.svg"}
    for name, kind in (("phone.HEIC", "HEIC"), ("no extension", "HEIC"), ("drawing.svg", "SVG")):
        assert reasons[name] == f"is a {kind} file, which is not read: convert it to JPEG or PNG"
    pattern = predict(run, [str(folder / "*")], tmp_path / "q.csv")
    assert {Path(name).name for name in pattern.unreadable} == set(reasons)


def test_a_folder_called_masks_may_be_a_class_and_is_predicted(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    for name in ("masks", "no masks"):
        (tmp_path / name).mkdir()
        shutil.copy(photos / "test/ash/00.png", tmp_path / name)
    assert predict(run, [str(tmp_path)], tmp_path / "p.csv").rows == 2


def test_all_bad_leaves_the_header(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    report = predict(run, [str(tmp_path / "a.png")], tmp_path / "p.csv")
    assert (report.rows, len(report.unreadable)) == (0, 1)
    assert (tmp_path / "p.csv").read_text() == "path,class,probability\n"


def test_what_gives_no_image_is_named_and_the_rest_is_done(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    good = photos / "test/ash/00.png"
    asked = [tmp_path / "gone.png", tmp_path / "empty", tmp_path / "*.jpg", good]
    report = predict(run, (path for path in asked), tmp_path / "p.csv")
    assert [row["path"] for row in _rows(tmp_path / "p.csv")] == [str(good)]
    assert list(report.unreadable) == list(map(str, asked[:3]))
    for reason, words in zip(
        report.unreadable.values(), ("does not exist", "no images", "matches nothing"), strict=True
    ):
        assert words in reason
    command = ["predict", str(run), *map(str, asked), "--output", str(tmp_path / "q.csv")]
    assert main(command) == 3
    assert (tmp_path / "q.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()


def test_the_probabilities_of_all_classes(run: Path, photos: Path, tmp_path: Path) -> None:
    report = predict(run, photos / "test", tmp_path / "p.csv", probabilities=True)
    rows = _rows(report.output)
    saved = np.load(run / "predictions.npz", allow_pickle=False)["test_probabilities"]
    columns = [f"probability of {name}" for name in CLASSES]
    assert list(rows[0]) == ["path", "class", "probability", *columns]
    found = np.array([[float(row[column]) for column in columns] for row in rows])
    assert found == pytest.approx(saved, abs=1e-5)
    assert [row["probability"] for row in rows] == [
        row[f"probability of {row['class']}"] for row in rows
    ]


def _spoilt(run: Path, to: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """The run's model with other weights."""
    weights = dict(load_model(run).state_dict())
    change(weights)
    save_model(to, load_info(run), weights)
    return to


def test_a_probability_that_is_no_number_is_never_written(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = _spoilt(run, tmp_path / "spoilt", lambda w: w["fc.weight"].fill_(float("nan")))
    out = tmp_path / "p.csv"
    for arguments in (
        ["predict", spoilt, photos / "test", "--output", out],
        ["export", spoilt, "--onnx", "--images", photos / "test/ash/00.png", "--output", out],
    ):
        assert main(list(map(str, arguments))) == 2
        said = capsys.readouterr().err
        assert "Not finite in the model: fc.weight." in said
        assert not out.exists()
    assert main(["inspect", str(spoilt)]) == 2
    assert "Not finite in the model: fc.weight." in capsys.readouterr().err


def test_an_image_without_a_finite_output_is_named(run: Path, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    Image.new("RGB", (16, 16), "white").save(tmp_path / "white.png")

    def overflow(weights: dict[str, torch.Tensor]) -> None:
        # What is not black exceeds float32 in the first sums.
        weights["conv.weight"].fill_(3e38)

    spoilt = _spoilt(run, tmp_path / "spoilt", overflow)
    from_zero = replace(load_info(run), mean=(0.0,) * 3, std=(1.0,) * 3)
    save_model(spoilt, from_zero, load_model(spoilt).state_dict())
    report = predict(spoilt, [tmp_path / "black.png", tmp_path / "white.png"], tmp_path / "p.csv")
    assert [row["path"] for row in _rows(report.output)] == [str(tmp_path / "black.png")]
    assert list(report.unreadable) == [str(tmp_path / "white.png")]
    assert "not finite" in report.unreadable[str(tmp_path / "white.png")]
    with pytest.raises(InputError, match="All its weights are finite"):
        predict(spoilt, tmp_path / "white.png", tmp_path / "q.csv")
    assert not (tmp_path / "q.csv").exists()


def test_a_name_that_is_not_unicode(run: Path, photos: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        Path(os.fsdecode(name)).write_bytes((photos / "test/ash/00.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes Unicode names alone")
    report = predict(run, [str(tmp_path)], tmp_path / "p.csv")
    assert (report.rows, list(report.unreadable.values())) == (
        0,
        ["has a name that is not valid Unicode: rename it"],
    )
    assert next(iter(report.unreadable)).isprintable()


def test_gray_and_color_work_both_ways(run: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(values[..., None], 3, 2)).save(tmp_path / "colour.png")
    grey = ModelInfo(1, ("x", "y"), "gn", "A", 1, 16, (0.4,), (0.3,))
    save_model(tmp_path / "grey", grey, grey.build(seed=0).state_dict())
    for model in (run, tmp_path / "grey"):
        report = predict(model, [str(tmp_path / "*.png")], tmp_path / "p.csv")
        rows = _rows(report.output)
        assert report.rows == 2
        assert rows[0]["probability"] == rows[1]["probability"]


def test_classes_that_are_not_in_the_order_of_the_alphabet(photos: Path, tmp_path: Path) -> None:
    """As those of CIFAR-10 and of IDX files with ten classes and more."""
    info = ModelInfo(1, ("zebra", "ant", "moth"), "gn", "A", 3, 16, (0.4,) * 3, (0.3,) * 3)
    weights = info.build(seed=0).state_dict()
    image, output = str(photos / "test/ash/00.png"), tmp_path / "p.csv"
    for answer in range(3):
        weights["fc.weight"].zero_()
        weights["fc.bias"].copy_(torch.eye(3)[answer])
        save_model(tmp_path / str(answer), info, weights)
        report = predict(tmp_path / str(answer), [image], output, probabilities=True)
        (row,) = _rows(report.output)
        assert row["class"] == info.classes[answer]
        assert row[f"probability of {info.classes[answer]}"] == row["probability"]


def test_nothing_is_written_when_a_thing_asked_is_bad(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    good = str(photos / "test")
    out = tmp_path / "p.csv"
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    record = json.loads((run / "run.json").read_text())
    write_json(unfinished / "run.json", {**record, "status": "interrupted"})
    (tmp_path / "empty").mkdir()
    for where, images, message in (
        (unfinished, [good], "has no model: its status is 'interrupted'"),
        (photos, [good], "does not contain a model"),
        (run, [str(tmp_path / "gone.png")], "gone.png does not exist"),
        (run, [str(tmp_path / "*.png"), str(tmp_path / "gone.png")], "matches nothing"),
        (run, [str(photos / "te*")], "matches no images, only"),
        (run, [str(tmp_path / "empty")], "contains no images"),
        (run, [""], "A name is empty"),
        (run, [], "No images given"),
    ):
        with pytest.raises(InputError, match=message):
            predict(where, images, out)
        assert not out.exists()
    with pytest.raises(InputError, match="batch_size must be a whole number of at least 1"):
        predict(run, [good], out, batch_size=0)


def test_a_stop_in_the_middle_leaves_the_older_file(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.csv"
    out.write_text("older")

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(run, [str(photos / "test")], out, batch_size=4, progress=stop)
    assert out.read_text() == "older"
    assert list(tmp_path.iterdir()) == [out]


def test_an_image_is_never_overwritten(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "test/ash/00.png", tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(InputError, match="is one of the images"):
        predict(run, [str(tmp_path)], tmp_path / "a.png")
    with pytest.raises(InputError, match=r"is a folder\. Name a file"):
        predict(run, [str(tmp_path)], tmp_path)
    assert (tmp_path / "a.png").read_bytes() == before


def test_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b/2.png", "b/10.JPG", "b/notes.txt", "b/.hidden.png", "b/.git/x.png", "a/c/1.webp", "a.png"
    ):  # fmt: skip
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("b[1].png").touch()
    Path("b/up").symlink_to("..", target_is_directory=True)
    linked = ["b/10.JPG", "b/2.png", "b/up/a/c/1.webp", "b/up/a.png", "b/up/b[1].png"]
    assert find_images(["b"]) == linked, "a link back to the folder above is not entered twice"
    Path("b/up").unlink()
    assert find_images(["."]) == ["./a/c/1.webp", "./a.png", "./b/10.JPG", "./b/2.png",
                                  "./b[1].png"]  # fmt: skip
    assert find_images("b") == ["b/10.JPG", "b/2.png"]
    assert find_images(["b/*", "a.png", "b/2.png"]) == ["b/10.JPG", "b/2.png", "a.png", "b/2.png"]
    assert find_images(["**/*.png"]) == ["a.png", "b/2.png", "b[1].png"]
    assert find_images([str(tmp_path / "a/**")]) == [str(tmp_path / "a/c/1.webp")]
    assert find_images(["b[1].png"]) == ["b[1].png"], "a file of that name comes before the pattern"
    assert find_images(["b/notes.txt"]) == ["b/notes.txt"], "what is named is taken"


def test_a_path_that_begins_like_a_formula_is_text_to_a_spreadsheet(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = next((photos / "test").rglob("*.png"))
    names = ["=1+1.png", "-cmd.png", "@x.png", "plain.png"]
    for name in names:
        (tmp_path / name).write_bytes(source.read_bytes())
    rows = _rows(predict(run, names, tmp_path / "p.csv").output)
    assert [row["path"] for row in rows] == ["'=1+1.png", "'-cmd.png", "'@x.png", "plain.png"]
    assert [csv_plain(row["path"]) for row in rows] == names
    assert all(float(row["probability"]) > 0 for row in rows)
