"""A study with folds from the call to the page, and what is done with its runs afterwards."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import normlab
from normlab.cli import main
from normlab.data import DataConfig, load
from normlab.errors import InputError
from normlab.models import load_card, load_info
from normlab.results import answers, hardest, read_results
from normlab.results.statistics import judge
from normlab.runs import read_predictions, read_record
from normlab.runs.pictures import read_pictures
from normlab.studies import Request, make_plan
from normlab.workflow import Comparison, Estimate, compare_models, explain, inspect
from normlab.workflow.exporting import _own_images

SMALL: dict[str, Any] = {
    "arms": "bn,none", "folds": 3, "image_size": 8, "n": 1, "epochs": 1, "batch_size": 16,
    "workers": 1,
}  # fmt: skip


def _compare(data: Path, out: Path, **options: Any) -> Comparison:
    done = normlab.compare(data=data, out=out, **{**SMALL, **options})
    assert isinstance(done, Comparison)
    return done


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real files: 13 of one class and 20 of another, in splits of their own."""
    root = tmp_path_factory.mktemp("birds") / "birds"
    drawn = np.random.default_rng(0)
    for folder, tint, count in (("train/Robin", 200, 9), ("test/Robin", 200, 4),
                                ("train/Wren", 90, 15), ("test/Wren", 90, 5)):  # fmt: skip
        (root / folder).mkdir(parents=True)
        for index in range(count):
            pixels = drawn.integers(0, 60, (12, 14, 3)) + np.array([tint, 90, 120])
            kept = root / folder / f"{index:02}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(kept)
    return root


@pytest.fixture(scope="module")
def study(birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "folds"
    assert _compare(birds, folder).runs_made == 6
    return folder


def _run(study: Path, arm: str, seed: int) -> Path:
    return study / "runs" / arm / f"seed-{seed}"


def _other(birds: Path, where: Path) -> Path:
    """Other data with splits of its own, too few images for folds: two of each class to test."""
    other = where / "other"
    for split in ("train", "val", "test"):
        for name in ("Robin", "Wren"):
            (other / split / name).mkdir(parents=True)
            for index in range(1 + (split == "test")):
                shutil.copy(birds / "train" / name / f"0{index}.png", other / split / name)
    return other


def test_all_images_are_tested_and_all_arms_see_the_same(birds: Path, study: Path) -> None:
    names = {str(path.relative_to(birds)) for path in birds.rglob("*.png")}
    seen: list[str] = []
    for seed in range(3):
        bn, none = (read_predictions(_run(study, arm, seed), "test") for arm in ("bn", "none"))
        assert bn.images.tolist() == none.images.tolist()
        seen += bn.images.tolist()
        trained, validated = (
            set(read_predictions(_run(study, "bn", seed), split).images.tolist())
            for split in ("train", "val")
        )
        assert not trained & validated
        assert trained | validated == names - set(bn.images.tolist())
    assert sorted(seen) == sorted(names)
    records = [read_record(_run(study, "bn", seed)) for seed in range(3)]
    assert len({record["identity"] for record in records}) == 3
    assert {record["data"]["config"]["folds"] for record in records} == {3}


def test_what_the_study_and_its_page_say(study: Path) -> None:
    data = json.loads((study / "data.json").read_text())
    assert data["folds"] == {
        "number": 3, "images": 33, "counts": {"Robin": 13, "Wren": 20},
        "sizes": data["folds"]["sizes"],
    }  # fmt: skip
    assert sorted(data["folds"]["sizes"]["test"]) == [11, 11, 11]
    question = tomllib.loads((study / "study.toml").read_text())
    assert question["data"]["folds"] == 3
    assert "--seeds 3" in question["commands"][0]
    assert "--folds 3" in question["commands"][0]
    results = read_results(study)
    (none,) = judge(results).comparisons
    assert none.difference is not None
    assert none.interval is not None
    sizes = data["folds"]["sizes"]
    shared = np.mean(sizes["test"]) / np.mean(sizes["train"])
    assert none.difference.shared == pytest.approx(shared)
    assert len(answers(results).of_arm["bn"]) == 1
    for file in ("results.md", "report.html"):
        text = (study / file).read_text()
        assert "Nadeau and Bengio 2003" in text
        assert "Split and images are the same" not in text
        assert "--tune lr gives" not in text
        assert "tested on all 33 images" in text
        assert "for other seeds and other test images" not in text
        assert "these test images" not in text
    page = (study / "report.html").read_text()
    assert "33 in 3 folds" in page
    assert "1 repetition of 3 folds" in page
    assert "All 33 images, each tested once in every 3 runs" in page
    # The hardest images are shown, whichever fold they were in.
    assert set(read_pictures(study)) == {image.name for image in hardest(results)}


def test_a_study_goes_on_where_it_stopped(birds: Path, study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    shutil.rmtree(_run(copy, "none", 2))
    assert _compare(birds, copy).runs_made == 1
    weights = [(_run(one, "none", 2) / "weights.safetensors").read_bytes() for one in (study, copy)]
    assert weights[0] == weights[1]
    # Another repetition joins; the first is as it was.
    more = _compare(birds, copy, seeds=6)
    assert more.runs_made == 6
    found = answers(more.results)
    assert list(found.of_arm["bn"]) == [0, 1]
    assert "(2 repetitions of 3 folds)" in (copy / "report.html").read_text()
    first, second = ([set(read_predictions(_run(copy, "bn", seed), "test").images.tolist())
                      for seed in seeds] for seeds in (range(3), range(3, 6)))  # fmt: skip
    assert set.union(*second) == set.union(*first)
    assert first != second
    with pytest.raises(InputError, match="folds: 3 there, not given asked"):
        _compare(birds, copy, folds=None)
    with pytest.raises(InputError, match="folds: 3 there, 4 asked"):
        _compare(birds, copy, folds=4)


def test_a_run_can_be_made_again_alone(
    birds: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = _run(study, "bn", 2)
    found = inspect(run)
    words = shlex.split(found.command)
    assert words[words.index("--folds") + 1] == "3"
    assert main([*words[1:], "--out", "again"]) == 0
    weights = "weights.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (run / weights).read_bytes()
    card = load_card(run)
    assert card["data"]["fold"] == "fold 3 of 3, repetition 1"
    assert card["data"]["images"]["test"] == 11
    assert main(["inspect", str(run)]) == 0


def test_what_is_made_of_a_run_uses_its_own_images(
    birds: Path, study: Path, tmp_path: Path
) -> None:
    run = _run(study, "bn", 1)
    own = set(read_predictions(run, "test").images.tolist())
    for where, options in ((run, {}), (study, {"seed": 1})):
        made = explain(
            where, split="test", right=30, wrong=30, out=tmp_path / where.name, **options
        )
        chosen = json.loads(made.chosen.read_text())
        assert {image["name"] for image in chosen["images"]} == own
    data = load(DataConfig(str(birds), folds=3, image_size=8)).of_seed(1)
    np.testing.assert_array_equal(_own_images(run, load_info(run)), data.splits["test"].images())
    assert compare_models(run, _run(study, "none", 1)).images == 11
    with pytest.raises(InputError, match="with folds, two runs with the same seed"):
        compare_models(run, _run(study, "none", 0))


def test_other_images_are_explained_with_their_own_splits(
    birds: Path, study: Path, tmp_path: Path
) -> None:
    run = _run(study, "bn", 1)
    moved = Path(shutil.copytree(birds, tmp_path / "moved"))
    made = explain(run, split="test", right=30, wrong=30, data=moved, out=tmp_path / "one")
    assert not any("not from the run's data" in note for note in made.notes)
    other = _other(birds, tmp_path)
    made = explain(run, split="test", right=9, wrong=9, data=other, out=tmp_path / "two")
    chosen = json.loads(made.chosen.read_text())
    assert len(chosen["images"]) == 4
    assert all(image["name"].startswith("test/") for image in chosen["images"])


def test_a_clean_split_of_folds_lasts_with_the_study(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(birds, tmp_path / "birds"))
    pixels = np.asarray(Image.open(root / "train/Robin/00.png")).copy()
    pixels[0, 0] += 1  # of which nothing is left at 8 pixels
    Image.fromarray(pixels).save(root / "test/Robin/again.png")
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    options = {"arms": "bn", "clean_split": True}
    out = tmp_path / "study"
    assert _compare(root, out, **options).runs_made == 3
    assert _compare(root, out, **options).runs_made == 0
    pair = {"train/Robin/00.png", "test/Robin/again.png"}
    for seed in range(3):
        tested = read_predictions(_run(out, "bn", seed), "test").images.tolist()
        assert len(pair & set(tested)) in (0, 2)
    assert "several images. All images of a photograph are in one fold" in (
        (out / "report.html").read_text()
    )
    # Without the cache, the copy in the study says what stays together.
    shutil.rmtree(tmp_path / "cache")
    run = _run(out, "bn", 1)
    made = explain(run, split="test", right=30, wrong=30)
    own = read_predictions(run, "test").images.tolist()
    assert len(json.loads(made.chosen.read_text())["images"]) == len(own)
    # Other images have splits of their own, and no file says where they belong.
    made = explain(run, split="test", right=1, wrong=1, data=_other(birds, tmp_path),
                   out=tmp_path / "gallery")  # fmt: skip
    assert any("not from the run's data" in note for note in made.notes)


def test_what_is_asked_before_any_run(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--folds", "3", "--arms", "bn,none", "--image-size", "8", "--n", "1", "--epochs", "1"]
    where = ["--data", str(birds), "--out", str(tmp_path / "none")]
    assert main(["compare", *where, *given, "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 classes, 33 images in 3 folds, of seed 0 " in said
    assert "6 to run (2 arms, 3 seeds)" in said
    assert "own splits (training and test) are not used" in said
    assert not (tmp_path / "none").exists()
    assert main(["compare", *where, *given, "--seeds", "4"]) == 2
    assert "Give --seeds 3 or 6." in " ".join(capsys.readouterr().err.split())
    looks = normlab.compare(
        data=birds, out=tmp_path / "none", dry_run=True, until_decided=True, **SMALL
    )
    assert isinstance(looks, Estimate)
    assert (looks.runs, looks.added) == (6, 36)


# ------------------------------------------------------------------ the number of seeds


@pytest.mark.parametrize(("folds", "seeds"), [(2, 4), (3, 3), (5, 5), (20, 20)])
def test_seeds_by_default(folds: int, seeds: int) -> None:
    plan = make_plan(Request.of("norms", arms="bn,gn", folds=folds))
    assert plan.seeds == tuple(range(seeds))
    assert make_plan(Request.of("norms", arms="bn,gn")).seeds == tuple(range(6))
    assert make_plan(Request.of("norms", arms="bn,gn", data="photos")).seeds == tuple(range(3))


def test_seeds_that_leave_folds_untested(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"they must be a multiple of 5. Give --seeds 5 or 10\."):
        make_plan(Request.of("norms", arms="bn,gn", folds=5, seeds=7))
    with pytest.raises(InputError, match=r"multiple of 5. Give --seeds 5\."):
        make_plan(Request.of("norms", arms="bn,gn", folds=5, seeds=3, until_decided=True))
    grid = tmp_path / "grid.toml"
    grid.write_text('seeds = 4\n[grid]\nnorm = ["bn", "gn"]\n[data]\nfolds = 3\n')
    with pytest.raises(InputError, match=r"4 seeds cannot .* with 3 folds.*--seeds 3 or 6"):
        make_plan(Request.of(str(grid)))
    assert len(make_plan(Request.of(str(grid), seeds=6)).seeds) == 6


def test_looks_of_folds() -> None:
    plan = make_plan(Request.of("norms", arms="bn,gn", folds=5, until_decided=True))
    assert plan.rule.looks == (5, 10, 15, 20)
    assert plan.seeds == tuple(range(5))
    plan = make_plan(Request.of("norms", arms="bn,gn", folds=5, until_decided=True, seeds=10))
    assert plan.rule.looks == (5, 10)


def test_tuning_would_choose_on_test_images_of_other_runs() -> None:
    with pytest.raises(InputError, match="Give --tune or --folds, not both"):
        make_plan(Request.of("norms", arms="bn,gn", folds=5, tune="lr"))


def test_a_repetition_that_cannot_be_dealt_stops_before_any_run(
    birds: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"Class Robin has 13 images\. 14 folds need at least 14"):
        _compare(birds, tmp_path / "none", folds=14)
    assert not (tmp_path / "none").exists()


def test_records_of_folds_that_contradict_themselves(study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    path = copy / "data.json"
    data = json.loads(path.read_text())
    data.pop("sha256", None)
    for change, said in (
        ({"number": 4}, "the number of entries in folds.sizes"),
        ({"images": 40}, "the sum of its parts"),
        ({"counts": {"Robin": 13, "Owl": 20}}, "a name in folds.counts"),
    ):
        path.write_text(json.dumps({**data, "folds": {**data["folds"], **change}}))
        with pytest.raises(InputError) as caught:
            read_results(copy)
        assert said in str(caught.value)
