"""The gallery from a run's or study's folder: numbers, files, and what is refused."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from normlab.data import DeviceSplit, load
from normlab.errors import InputError
from normlab.explain import Axis, page, pictures, write_gallery
from normlab.explain.exhibit import QUANTILE, Exhibit, ExplainedModel, Seen, look
from normlab.explain.selection import choose
from normlab.files import write_json
from normlab.models import load_info, load_model, save_model
from normlab.runs import read_record, write_record
from normlab.studies import Request, Study, make_plan, prepare_study
from normlab.training import train
from normlab.workflow.explanation import Explanation, explain

from .conftest import COLOURS, HEIGHT, IMAGE_SIZE, WIDTH

CLASSES = list(COLOURS)


def _quiet(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="session")
def disc_run(disc_study: Study) -> Path:
    return disc_study.run_folder("bn", 0)


@pytest.fixture(scope="session")
def gallery(disc_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    return explain(disc_run, right=3, wrong=2, out=tmp_path_factory.mktemp("gallery") / "explain")


def _chosen(made: Explanation) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(made.chosen.read_text(encoding="utf-8"))
    return content


def _opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def _exhibit(study: Study, method: str = "grad-cam", site: str = "last") -> Exhibit:
    models = []
    for arm, _, folder in study.runs():
        model = load_model(folder)
        with torch.no_grad():
            x, _ = DeviceSplit(study.data, "val").batch(np.arange(len(study.data.splits["val"])))
            probabilities = model(x).softmax(1).numpy()
        models.append(ExplainedModel(arm, model, probabilities, {}))
    part = study.data.splits["val"]
    selection = choose(
        part.names.tolist(), part.labels, models[0].probabilities, study.data.classes
    )
    return look(models, study.data, "val", selection, method, site, _quiet)


def test_a_map_adds_up_to_the_logit_less_the_bias(disc_study: Study) -> None:
    exhibit = _exhibit(disc_study)
    assert exhibit.logits
    assert exhibit.unit == "logits per cell"
    batches = DeviceSplit(disc_study.data, "val")
    for chosen, by_model in zip(exhibit.selection.images, exhibit.looked, strict=True):
        x, _ = batches.batch([chosen.row])
        for explained, looked in zip(exhibit.models, by_model, strict=True):
            with torch.no_grad():
                logits = (explained.model(x) - explained.model.fc.bias)[0].numpy()
            targets = [seen.target for seen in looked.maps]
            assert targets == list(dict.fromkeys([chosen.label, looked.predicted]))
            for seen in looked.maps:
                np.testing.assert_allclose(seen.cells.sum(), logits[seen.target], atol=1e-4)


class _Pooled(nn.Module):
    """Somebody else's network: convolutions without padding, and 2 x 2 pooling."""

    def __init__(self, spread: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)
        )
        self.mixed, self.spread = nn.Identity(), spread
        self.fc = nn.Linear(6, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x).relu()
        x = self.mixed(x.transpose(2, 3) if self.spread else x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_a_network_of_somebody_else_says_where_its_maps_are(
    disc_study: Study, tmp_path: Path
) -> None:
    models = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, model in (("pooled", _Pooled()), ("spread", _Pooled(spread=True))):
            rows = np.arange(len(disc_study.data.splits["val"]))
            x, _ = DeviceSplit(disc_study.data, "val").batch(rows)
            probabilities = model.eval()(x).softmax(1).detach().numpy()
            models.append(ExplainedModel(name, model, probabilities, {}, lambda _seed: _Pooled()))
    part = disc_study.data.splits["val"]
    selection = choose(part.names.tolist(), part.labels, models[0].probabilities,
                       disc_study.data.classes, None, 1, 1)  # fmt: skip
    made = write_gallery(
        tmp_path / "gallery", models, disc_study.data, "val", selection, title="Theirs",
        record={}, with_faithfulness=True, with_randomization=True,
    )  # fmt: skip
    first, second, third, *_ = made.notes
    assert first.startswith("pooled: Maps are taken at the output of mixed: 5 × 5 cells")
    assert "(body.3)" in first
    assert second.startswith("spread: Maps are taken")
    assert third.startswith("spread: Where the cells of mixed are on an image could not be")
    told = html.unescape(made.page.read_text(encoding="utf-8"))
    for said in (first, second, third, "add up to the class's logit minus its bias"):
        assert said in told
    content = json.loads(made.chosen.read_text(encoding="utf-8"))
    assert content["sites"] == {"pooled": ["mixed"], "spread": ["mixed"]}
    assert content["units"] == "logits per cell"
    assert [step["layer"] for step in content["randomization"]] == ["", "fc", "body.3", "body.0"]
    exhibit = look(models, disc_study.data, "val", selection, "grad-cam", "last", _quiet)
    # A cell sees 3 pixels, twice as many pooled, and then 3 of those: its centre is at 3.5 + 2 i.
    assert exhibit.grids[0].rows == Axis(3.5, 2.0)
    seen = exhibit.looked[0][0].maps[0]
    lit = np.zeros((5, 5), np.float32)
    lit[2, 2] = 1
    assert replace(seen, cells=lit).strongest(IMAGE_SIZE) == "centre"


def test_full_color_is_one_value_in_logits_and_one_per_model_elsewhere(disc_study: Study) -> None:
    for site, together in (("last", True), ("mean", False)):
        exhibit = _exhibit(disc_study, site=site)
        assert exhibit.logits is together
        cells = [
            np.concatenate(
                [abs(seen.cells.ravel()) for by in exhibit.looked for seen in by[place].maps]
            )
            for place in range(2)
        ]
        expected = [np.quantile(np.concatenate(cells), QUANTILE)] * 2
        if not together:
            expected = [np.quantile(values, QUANTILE) for values in cells]
            assert expected[0] != expected[1]
        np.testing.assert_allclose(exhibit.scales, expected, rtol=1e-6)


def test_chosen_says_what_the_run_predicted(gallery: Explanation, disc_run: Path) -> None:
    content = _chosen(gallery)
    stored = np.load(disc_run / "predictions.npz")
    record = json.loads((disc_run / "run.json").read_text())
    assert content["data"]["fingerprint"] == record["data"]["fingerprint"]
    assert (content["method"], content["site"], content["units"]) == (
        "grad-cam", "last", "logits per cell",
    )  # fmt: skip
    assert content["sites"] == {"bn": ["stages.2.0.relu2"]}
    names = stored["val_image"].tolist()
    kinds = set()
    for image in content["images"]:
        row = names.index(image["name"])
        label = stored["val_label"][row]
        said = image["models"]["bn"]
        np.testing.assert_allclose(
            said["probabilities"], stored["val_probabilities"][row], atol=1e-5
        )
        assert image["class"] == CLASSES[label]
        assert said["predicted"] == CLASSES[stored["val_probabilities"][row].argmax()]
        assert (image["kind"] == "right") == (said["predicted"] == image["class"])
        kinds.add(image["kind"])
        assert (gallery.folder / image["file"]).is_file()
    assert kinds == {"right", "wrong"}
    assert len(content["images"]) == len(list((gallery.folder / "images").rglob("*.png")))


def test_files_show_the_source_at_its_resolution(gallery: Explanation, discs: Path) -> None:
    content = _chosen(gallery)
    factor = 6  # the least that brings 40 pixels to 224
    side = HEIGHT * factor
    for image in content["images"]:
        drawn = _opened(gallery.folder / image["file"])
        panels = 2 if image["kind"] == "right" else 3
        assert drawn.width == panels * (side + 8) + 8
        source = _opened(discs / image["name"])
        left = (WIDTH - HEIGHT) // 2
        square = source.crop((left, 0, left + HEIGHT, HEIGHT))
        shown = drawn.crop((8, 8, 8 + side, 8 + side))
        assert shown.tobytes() == square.resize((side, side), Image.Resampling.NEAREST).tobytes()
    assert _opened(gallery.contact_sheet).width > 96 * 5


def test_an_overlay_is_gray_at_zero_and_colored_by_sign() -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    values = rng.normal(size=(6, 6)).astype(np.float32)
    values[0, 0] = 0
    values[1, 1], values[2, 2] = 9, -9
    drawn = np.asarray(pictures.overlay(picture, values, 2.0)).astype(float)
    grey = np.asarray(picture.convert("L"))
    for y in range(6):
        for x in range(6):
            t = min(1.0, abs(values[y, x]) / 2.0)
            weak, strong = pictures.FOR if values[y, x] > 0 else pictures.AGAINST
            alpha = pictures.STRENGTH * t**0.5
            below = 0.75 * grey[y, x] + 32
            for c in range(3):
                over = weak[c] + t * (strong[c] - weak[c])
                assert drawn[y, x, c] == pytest.approx(below + alpha * (over - below), abs=0.51)
    assert np.ptp(drawn[0, 0]) == 0
    assert drawn[1, 1, 0] > drawn[1, 1, 2]
    assert drawn[2, 2, 2] > drawn[2, 2, 0]


def test_an_embedded_map_keeps_its_values_and_its_zeros() -> None:
    values = np.linspace(-0.3, 0.2, 48 * 48, dtype=np.float32).reshape(48, 48)
    values[3, 3] = 0
    uri = pictures.embedded_map(values, 0.3)
    bytes_ = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    read = (bytes_.astype(float) - 128) / 127 * 0.3
    np.testing.assert_allclose(read, values, atol=0.3 / 127 / 2 + 1e-6)
    assert read[3, 3] == 0
    assert read.min() == pytest.approx(-0.3)


def test_says_where_the_evidence_is_and_where_there_is_none() -> None:
    cells = np.full((8, 8), -1.0, dtype=np.float32)
    assert Seen(0, cells, 1.0).note == "no positive evidence"
    assert Seen(0, np.zeros((8, 8), np.float32), 1.0).note == "no positive evidence"
    for (y, x), words in {
        (0, 0): "top left", (0, 4): "top centre", (4, 7): "centre right",
        (4, 4): "centre", (7, 0): "bottom left", (7, 7): "bottom right",
    }.items():  # fmt: skip
        planted = cells.copy()
        planted[y, x] = 1
        assert Seen(0, planted, 1.0).note == ""
        assert Seen(0, planted, 1.0).strongest(32) == words
    assert Seen(0, planted * 0.019, 1.0).note == "almost no evidence"
    assert Seen(0, planted * 0.021, 1.0).note == ""


def test_a_study_shows_the_same_images_for_every_arm(disc_study: Study, tmp_path: Path) -> None:
    arms = list(disc_study.plan.arms)
    made = explain(disc_study.folder, out=tmp_path / "both", classes=["red"])
    content = _chosen(made)
    assert all(list(image["models"]) == arms for image in content["images"])
    assert f"selected by {arms[0]}. All models have seed 0" in made.notes[0]
    assert made.notes[0] in made.page.read_text(encoding="utf-8")
    alone = explain(disc_study.run_folder(arms[1], 0), out=tmp_path / "alone", classes=["red"])
    turned = explain(
        disc_study.folder, out=tmp_path / "turned", classes=["red"], arms=arms[::-1], seed=0
    )
    names = [[image["name"] for image in _chosen(one)["images"]] for one in (alone, turned)]
    assert names[0] == names[1]


def test_the_same_again_gives_the_same_bytes(
    gallery: Explanation, disc_run: Path, tmp_path: Path
) -> None:
    again = explain(disc_run, right=3, wrong=2, out=tmp_path / "again")
    there = sorted(p.relative_to(gallery.folder) for p in gallery.folder.rglob("*.*"))
    assert there == sorted(p.relative_to(again.folder) for p in again.folder.rglob("*.*"))
    for name in there:
        assert (gallery.folder / name).read_bytes() == (again.folder / name).read_bytes(), name


def test_replaces_a_gallery_and_nothing_else(
    disc_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(disc_run, tmp_path / "run")
    made = explain(run, classes=["red"], right=1, wrong=0)
    assert made.folder == run / "explain"
    (made.folder / "old.txt").touch()

    def fail(*_: object) -> str:
        raise RuntimeError("no page")

    with monkeypatch.context() as patch:
        patch.setattr(page, "render", fail)
        with pytest.raises(RuntimeError, match="no page"):
            explain(run, classes=["blue"], right=1, wrong=0)
    assert (made.folder / "old.txt").exists()
    assert sorted(p.name for p in run.iterdir() if p.name.startswith(".")) == []

    explain(run, classes=["blue"], right=1, wrong=0)
    assert not (made.folder / "old.txt").exists()
    assert _chosen(made)["images"][0]["class"] == "blue"

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"mine already exists and is not a gallery.*--out"):
        explain(run, out=mine)
    assert [p.name for p in mine.iterdir()] == ["thesis.txt"]


def _ended() -> int:
    """The id of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_gallery_that_a_killed_process_moved_aside_comes_back(
    gallery: Explanation, disc_run: Path, tmp_path: Path
) -> None:
    """Between the two renames the old gallery has no name, and the new one is complete aside."""
    folder, process = tmp_path / "shown", _ended()
    shutil.copytree(gallery.folder, tmp_path / f".shown.{process}.old")
    shutil.copytree(gallery.folder, tmp_path / f".shown.{process}.part")
    (tmp_path / f".shown.{os.getppid()}.part").mkdir()  # of one that is at work
    with pytest.raises(InputError, match="no split"):
        explain(disc_run, out=folder, split="vall")
    assert (folder / "chosen.json").read_bytes() == gallery.chosen.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"shown", f".shown.{os.getppid()}.part"}


def test_the_folder_that_one_works_in_stays(
    disc_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = folder.stat().st_ino
    made = explain(disc_run, out=".", right=1, wrong=0)
    assert folder.stat().st_ino == before
    assert Path("chosen.json").is_file()
    assert Path(made.page).is_file()
    with pytest.raises(InputError, match=r"the working folder.*from another folder"):
        explain(disc_run, out=".", right=1, wrong=0)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_moved_data_is_the_same_data(
    gallery: Explanation, disc_run: Path, discs: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(discs, tmp_path / "moved")
    made = explain(disc_run, data=str(moved), right=3, wrong=2, out=tmp_path / "out")
    assert _chosen(made)["images"] == _chosen(gallery)["images"]
    assert not any("not from the run's data" in note for note in made.notes)


def test_other_data_is_run_through_the_model(disc_run: Path, discs: Path, tmp_path: Path) -> None:
    other = shutil.copytree(discs, tmp_path / "other")
    for name in CLASSES:
        (other / "val" / name / "00.png").unlink()
        for path in (other / "train" / name).iterdir():
            # Their mean and deviation would give other probabilities.
            Image.new("RGB", (WIDTH, HEIGHT), (250, 250, 250)).save(path)
    made = explain(disc_run, data=str(other), out=tmp_path / "out")
    assert any("not from the run's data" in note for note in made.notes)
    stored = np.load(disc_run / "predictions.npz")
    known = dict(zip(stored["val_image"].tolist(), stored["val_probabilities"], strict=True))
    images = _chosen(made)["images"]
    assert len(images) == 18
    for image in images:
        np.testing.assert_allclose(
            image["models"]["bn"]["probabilities"], known[image["name"]], atol=1e-5
        )

    for split in ("train", "val", "test"):
        (other / split / "red").rename(other / split / "crimson")
    with pytest.raises(InputError, match=r"lacks red; the model does not know crimson"):
        explain(disc_run, data=str(other), out=tmp_path / "out")


def test_data_that_changed_or_vanished_is_told(
    disc_study: Study, discs: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(disc_study.run_folder("bn", 0), tmp_path / "run")
    mine = shutil.copytree(discs, tmp_path / "mine")
    record = json.loads((run / "run.json").read_text())
    record["data"]["config"]["source"] = str(mine)
    write_json(run / "run.json", record)
    (mine / "val" / "red" / "00.png").unlink()
    with pytest.raises(InputError, match=r"has changed since the run.*--data"):
        explain(run)
    shutil.rmtree(mine)
    with pytest.raises(InputError, match=r"cannot be loaded.*mine.*--data"):
        explain(run)
    assert not (run / "explain").exists()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("interrupted", "has not finished"),
        ("diverged at step 7", "diverged at step 7 and has no model"),
    ],
)
def test_an_unfinished_run_is_refused(
    disc_run: Path, tmp_path: Path, status: str, said: str
) -> None:
    run = shutil.copytree(disc_run, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**record, "status": status, "metrics": None})
    with pytest.raises(InputError, match=said):
        explain(run)


def test_an_unfinished_arm_is_left_out_or_refused(disc_study: Study, tmp_path: Path) -> None:
    study = shutil.copytree(disc_study.folder, tmp_path / "study")
    path = study / "runs" / "gn,groups=4" / "seed-0" / "run.json"
    record = json.loads(path.read_text())
    write_json(path, {**record, "status": "diverged at step 3", "metrics": None})
    made = explain(study, classes=["red"], right=1, wrong=0)
    assert made.folder == study / "explain"
    assert made.notes[0] == "No complete run with seed 0, so not shown: gn:groups=4."
    assert list(_chosen(made)["images"][0]["models"]) == ["bn"]
    with pytest.raises(InputError, match="gn:groups=4 seed 0: diverged at step 3"):
        explain(study, arms=["bn", "gn:groups=4"])


def test_what_is_no_run_is_refused(disc_study: Study, disc_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for run, options, said in (
        (tmp_path / "none", {}, r"does not exist\. Give the folder of a run or a study"),
        (tmp_path / "file", {}, r"is a file\. Give"),
        (tmp_path / "empty", {}, "neither a run"),
        (disc_run, {"arms": ["bn"]}, "arms applies to a study"),
        (disc_run, {"split": "vall"}, "no split 'vall'.*did you mean val"),
        (disc_run, {"classes": ["rad"]}, "did you mean red"),
        (disc_run, {"method": "gradcam"}, "did you mean grad-cam"),
        (disc_run, {"site": "nowhere"}, "no site 'nowhere'"),
        (
            disc_study.folder,
            {"arms": ["gn:group=4"]},
            "no arm 'gn:group=4'.*did you mean gn:groups=4",
        ),
        (disc_study.folder, {"seed": 4}, r"no seed 4\. The seeds are 0"),
    ):
        asked: dict[str, Any] = {"out": tmp_path / "out", **options}
        with pytest.raises(InputError, match=said):
            explain(run, **asked)
        assert not (tmp_path / "out").exists()


def test_a_source_that_can_no_longer_be_read_is_named(disc_study: Study, tmp_path: Path) -> None:
    data = replace(disc_study.data, source=str(tmp_path))
    with pytest.raises(InputError, match=r"00\.png does not exist.*--data"):
        pictures.source_picture(data, "val", 0)


def test_pictures_without_files_are_the_cached_pixels(disc_study: Study) -> None:
    data = replace(disc_study.data, kind="cifar")
    picture = pictures.source_picture(data, "val", 3)
    assert picture.size == (IMAGE_SIZE, IMAGE_SIZE)
    np.testing.assert_array_equal(np.asarray(picture), data.splits["val"].images([3])[0])


def test_arms_of_different_depth_are_shown_at_their_own_last_site(
    discs: Path, tmp_path: Path
) -> None:
    plan = make_plan(
        Request.of("depth", discs, image_size=16, seeds=1, n=[2, 1], epochs=1, batch_size=6)
    )
    study = prepare_study(tmp_path / "study", plan, load(plan.data), "normlab compare depth")
    study.write()
    for _, config, where in study.runs():
        train(config, study.data, where)
    made = explain(study.folder, right=1, wrong=0)
    content = json.loads(made.chosen.read_text())
    assert content["sites"] == {"bn,n=2": ["stages.2.1.relu2"], "bn,n=1": ["stages.2.0.relu2"]}
    assert content["units"] == "logits per cell"


def test_a_run_that_does_not_name_its_data(disc_run: Path, tmp_path: Path) -> None:
    old = tmp_path / "run"
    shutil.copytree(disc_run, old)
    record = json.loads((old / "run.json").read_text())
    del record["data"]["config"]
    write_json(old / "run.json", record)
    with pytest.raises(InputError, match="does not say which data was used"):
        explain(old)


def test_a_link_to_a_gallery_stays_a_link(disc_run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o750)
    (tmp_path / "gallery").symlink_to("elsewhere")
    for _ in range(2):
        made = explain(disc_run, classes="red", right=1, wrong=0, out=tmp_path / "gallery")
        assert (tmp_path / "gallery").is_symlink()
        assert (tmp_path / "elsewhere/index.html").is_file()
        assert made.page == tmp_path / "gallery/index.html"
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "gallery"]


def test_a_model_whose_maps_are_not_finite_is_not_explained(
    disc_run: Path, discs: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(disc_run, tmp_path / "run")
    weights = dict(load_model(run).state_dict())
    weights["fc.weight"].fill_(3e38)
    save_model(run, load_info(run), weights)
    write_record(run, read_record(run))
    with pytest.raises(InputError, match=r"not finite"):
        explain(run, right=1, wrong=0)
    other = shutil.copytree(discs, tmp_path / "discs")
    shutil.rmtree(other / "test")
    with pytest.raises(InputError, match=r"probabilities that are not finite"):
        explain(run, data=other, right=1, wrong=0)
    assert not (run / "explain").exists()
