"""The main job, in real processes: paired runs, the study's folder, going on with it."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import signal
import statistics
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import normlab
from normlab.data.sources import folder
from normlab.errors import InputError
from normlab.report.terminal import finding_lines
from normlab.results import read_curves, read_results
from normlab.studies import Request, estimate, make_plan
from normlab.training import train_step
from normlab.workflow import Comparison, Estimate

SMALL: dict[str, Any] = {"limit_per_class": 12, "n": 1, "epochs": 1, "workers": 2}


def _compare(out: Path, **options: Any) -> Comparison:
    done = normlab.compare(**{**SMALL, "out": out, **options})
    assert isinstance(done, Comparison)
    return done


def _weights(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("weights.safetensors"))
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "two"
    assert _compare(folder, arms="bn,gn:groups=4", seeds=2).runs_made == 4
    return folder


def test_the_folder_is_that_of_the_contract(study: Path) -> None:
    for name in ("study.toml", "data.json", "results.csv", "results.md", "results.tex"):
        assert (study / name).is_file()
    assert (study / "report.html").stat().st_size < 8_000_000
    assert sorted(p.name for p in (study / "runs").iterdir()) == ["bn", "gn,groups=4"]
    question = tomllib.loads((study / "study.toml").read_text())
    assert question["calls"][0]["command"] == (
        "normlab compare --arms bn,gn:groups=4 --seeds 2 --limit-per-class 12 --n 1 --epochs 1 "
        f"--out {study}"
    )
    assert question["seeds"] == [0, 1]
    assert question["arms"]["gn:groups=4"] == {"norm": "gn:groups=4"}
    assert len(list((study / "figures").glob("*.svg"))) >= 9


def test_the_table_is_what_the_runs_say(study: Path) -> None:
    with (study / "results.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 2 * 2 * 3
    for row in rows:
        folder = study / "runs" / row["arm"].replace(":", ",") / f"seed-{row['seed']}"
        record = json.loads((folder / "run.json").read_text())
        for name in ("loss", "accuracy", "micro_f1", "macro_f1"):
            assert float(row[name]) == record["metrics"][row["split"]][name]
        assert row["status"] == "complete"
    results = read_results(study)
    values = [float(r["accuracy"]) for r in rows if r["arm"] == "bn" and r["split"] == "test"]
    spread = results.spread("bn", "test", "accuracy")
    assert spread is not None
    assert (spread.mean, spread.sd) == pytest.approx(
        (statistics.mean(values), statistics.stdev(values))
    )


def test_the_number_of_workers_changes_nothing_and_seeds_pair_the_arms(
    study: Path, tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    _compare(tmp_path / "one", arms=["bn", "gn:groups=4"], seeds=2, workers=1)
    assert signal.getsignal(signal.SIGINT) is handler  # Ctrl-C still works afterwards
    assert _weights(tmp_path / "one") == _weights(study)
    assert len(set(_weights(study).values())) == 4


def test_again_runs_nothing_and_more_runs_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "s"
    assert _compare(out, arms="bn", seeds=1).runs_made == 1
    before = _weights(out)
    assert _compare(out, arms="bn", seeds=1).runs_made == 0
    assert _compare(out, arms="bn", seeds=2).runs_made == 1
    more = _compare(out, arms="none", seeds=2)
    assert more.runs_made == 2
    assert more.results.arms == ("bn", "none")
    assert before.items() <= _weights(out).items()
    (out / "runs/bn/seed-0/run.json").unlink()  # as if it had been stopped
    assert _compare(out, arms="bn", seeds=1).runs_made == 1
    assert before.items() <= _weights(out).items()


def test_another_question_in_the_folder_is_refused(study: Path) -> None:
    before = (study / "study.toml").read_bytes()
    with pytest.raises(InputError, match=r"another question.*epochs \(1 there, 2 asked\)"):
        _compare(study, arms="bn", seeds=1, epochs=2)
    with pytest.raises(InputError, match=r"another question.*the data"):
        _compare(study, arms="bn", seeds=1, limit_per_class=10)
    assert (study / "study.toml").read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and does not contain a study"):
        _compare(tmp_path, arms="bn", seeds=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_divergence_is_shown_and_does_not_end_the_study(tmp_path: Path) -> None:
    done = _compare(tmp_path / "s", arms="none,bn", seeds=1, lr=1e8, warmup=0.0)
    assert done.runs_made == 2
    none, _ = done.results.of_arm("none"), done.results.of_arm("bn")
    assert none[0].status.startswith("diverged at step")
    for text in (str(done), (tmp_path / "s/report.html").read_text()):
        assert "seed 0 diverged at step" in text
    assert "diverged at step" in (tmp_path / "s/results.csv").read_text()
    assert read_curves(done.results, "none").trend == "no run of this arm ended with a model"


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    found = normlab.compare(**SMALL, arms="bn,gn", seeds=2, out=tmp_path / "s", dry_run=True)
    assert isinstance(found, Estimate)
    assert (found.runs, found.already) == (4, 0)
    assert found.seconds > 0
    assert not (tmp_path / "s").exists()


def test_timing_steps_takes_a_small_share_of_what_they_are_timed_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def step(*given: Any) -> Any:
        made.append(given)
        return train_step(*given)

    monkeypatch.setattr(estimate, "train_step", step)
    counts = []
    for epochs in (1, 500):
        made.clear()
        asked = {**SMALL, "limit_per_class": 4, "epochs": epochs, "seeds": 1}
        found = normlab.compare(**asked, arms="bn,none", out=tmp_path / "s", dry_run=True)
        assert isinstance(found, Estimate)
        assert found.seconds > estimate.AROUND
        counts.append(len(made))
    assert counts == [2 * 2, 2 * estimate.MOST]  # of 2 and of 1,000 updates of each arm


@pytest.mark.parametrize("command", ["compare", "compare a clean split", "check"])
def test_a_source_is_listed_once(
    command: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large source that takes seconds, and what a second listing finds may be something else
    than what was loaded."""
    listed = []

    def noted(root: Path, true: Any = folder.find) -> Any:
        listed.append(root)
        return true(root)

    monkeypatch.setattr(folder, "find", noted)
    if command == "check":
        normlab.check_data(photos, out=tmp_path / "check", quick=True)
    else:
        clean = command != "compare"
        normlab.compare(data=photos, arms="none", n=1, clean_split=clean, dry_run=True)
    assert listed == [photos]


def test_the_default_folder_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = normlab.compare(**SMALL, arms="bn", seeds=1)
    again = normlab.compare(**SMALL, arms="bn", seeds=1)
    assert isinstance(first, Comparison)
    assert isinstance(again, Comparison)
    assert first.folder == again.folder
    assert again.runs_made == 0
    assert len(list((tmp_path / "studies").iterdir())) == 1


def test_a_layer_of_ones_own_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text(
        "import torch\n"
        "class Scaled(torch.nn.Module):\n"
        "    conv_bias = True\n"
        "    def __init__(self, channels, start=1.0):\n"
        "        super().__init__()\n"
        "        self.start = start\n"
        "        self.scale = torch.nn.Parameter(torch.full((1, channels, 1, 1), start))\n"
        "    def forward(self, x):\n"
        "        return x * self.scale\n"
        "    def extra_repr(self):\n"
        "        return f'start={self.start}'\n"
    )
    monkeypatch.chdir(tmp_path)
    done = _compare(Path("s"), arms="mine.layers:Scaled:start=0.5", seeds=1)
    (run,) = done.results.runs
    assert {site["layer"] for site in run.record["sites"]} == {"Scaled(start=0.5)"}
    assert normlab.load_model(run.folder, trust=True).conv.bias is not None


def test_a_grid_from_a_file_names_arms_by_what_varies(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'title = "Mine"\nseeds = 1\n[run]\nn = 1\n[grid]\nnorm = ["bn"]\nbatch_size = [8, 32]\n'
    )
    plan = make_plan(Request.of(str(path), epochs=1))
    assert list(plan.arms) == ["bn,batch_size=8", "bn,batch_size=32"]
    assert [c.batch_size for c in plan.arms.values()] == [8, 32]
    assert {c.epochs for c in plan.arms.values()} == {1}
    assert plan.title == "Mine"


def test_a_file_may_ask_for_more_seeds_on_the_digits(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('seeds = 2\nseeds_on_digits = 4\n[grid]\nnorm = ["bn"]\n')
    assert make_plan(Request.of(str(path))).seeds == (0, 1, 2, 3)
    assert make_plan(Request.of(str(path), "photos")).seeds == (0, 1)
    assert make_plan(Request.of(str(path), seeds=1)).seeds == (0,)


def test_the_preset_of_the_course_experiment_is_its_recipe() -> None:
    plan = make_plan(Request.of("experiment"))
    assert list(plan.arms) == ["torch_bn", "bn", "in", "bin", "ln", "gn", "none"]
    config = plan.config("bn", 0)
    assert (config.optimizer, config.momentum, config.weight_decay) == ("sgd", 0.0, 0.0)
    assert (config.lr, config.batch_size, config.epochs, config.n) == (1e-3, 32, 50, 2)
    assert (config.schedule, config.warmup, config.crop_pad, config.flip) == (
        "constant", 0.0, 0, False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\nnrm = ['bn']\n", r"'nrm' is not a field.*did you mean norm"),
        ("[gird]\n", r"has 'gird' \(did you mean grid"),
        ("[grid]\nnorm = 'bn'\n", "needs a list of values for norm"),
        ("[grid]\nnorm = ['bn', 'bn']\n", "The arm bn is given more than once"),
        ("[grid]\nseed = [1, 2]\n", "seed cannot be varied"),
        ("[grid\n", "cannot be read"),
        ("[data]\nsize = 3\n", r"'size' in \[data\]"),
        ("seeds = 0\n", "seeds must be a whole number of at least 1"),
        ("seeds_on_digits = 0\n", "seeds must be a whole number of at least 1"),
    ],
)
def test_study_files_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        make_plan(Request.of(str(path)))


def test_the_curves_are_read_by_the_written_rules(study: Path) -> None:
    results = read_results(study)

    def reading(values: list[float]) -> Any:
        history = [
            {"epoch": i, "split": "val", "accuracy": v, "loss": 1.0} for i, v in enumerate(values)
        ]
        runs = tuple(replace(run, history=history) for run in results.of_arm("bn"))
        return read_curves(replace(results, runs=runs), "bn")

    assert reading([0.1, 0.2, 0.3]).trend.startswith("too few epochs (3)")
    rising = reading([0.1 * i for i in range(1, 9)])
    assert "rose by 20.0 points in the last 2 epochs" in rising.trend
    assert rising.oscillation == "steady in the last epochs"
    flat = reading([0.2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    assert flat.trend == "flat at the end (+0.0 points in the last 2 epochs)"
    jumping = reading([0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.8])
    assert "falls of 10.0 points" in jumping.oscillation


def test_a_gap_is_overfitting_only_where_validation_loss_rises_again(study: Path) -> None:
    results = read_results(study)

    def reading(losses: list[float], train: float, val: float) -> str:
        history = [
            {"epoch": i, "split": "val", "accuracy": val, "loss": v} for i, v in enumerate(losses)
        ]
        reached = {"train": train, "val": val}
        runs = tuple(
            replace(
                run,
                history=history,
                record={
                    **run.record,
                    "metrics": {
                        split: {**found, "accuracy": reached.get(split, val)}
                        for split, found in run.record["metrics"].items()
                    },
                },
            )
            for run in results.of_arm("bn")
        )
        return read_curves(replace(results, runs=runs), "bn").gap

    falling, rising = [3.0, 2.5, 2.2, 2.0, 1.9], [3.0, 1.5, 1.0, 1.2, 1.4]
    assert reading(falling, 0.31, 0.2) == "training accuracy is 11.0 points above validation"
    assert reading(rising, 0.9, 0.6) == (
        "it overfits: validation loss rises again, and training accuracy is 30.0 points above "
        "validation"
    )
    assert reading(rising, 0.61, 0.6) == "training and validation accuracy are 1.0 points apart"


def test_a_study_in_which_nothing_was_learned_says_so(study: Path) -> None:
    results = read_results(study)
    counts = results.data["counts"]["test"]
    chance = max(counts.values()) / sum(counts.values())

    def said(accuracies: dict[Any, float]) -> list[str]:
        runs = tuple(
            replace(
                run,
                record={
                    **run.record,
                    "metrics": {
                        split: {
                            **found,
                            "accuracy": accuracies.get((run.arm, run.seed), accuracies[run.arm]),
                        }
                        for split, found in run.record["metrics"].items()
                    },
                },
            )
            for run in results.runs
        )
        lines = finding_lines(replace(results, runs=runs))
        return [line for line in lines if "No arm learned anything" in line]

    both: dict[Any, float] = {"bn": chance, "gn:groups=4": chance + 0.01}
    assert len(said(both)) == 1
    assert f"right on {100 * chance:.1f} %" in said(both)[0]
    assert said({**both, "bn": 0.9}) == []
    assert said({**both, ("bn", 1): 0.9}) == []  # a run that learned is one of its arm


class _Deletes:
    """Deletes the whole cache whenever it is told anything about runs."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.deleted = cache, 0

    def reading(self, *_: object) -> None:
        """What is deleted again and again while it is written cannot be read."""

    def __getattr__(self, _: str) -> Any:
        def delete(*_: object) -> None:
            self.deleted += self.cache.exists()
            shutil.rmtree(self.cache, ignore_errors=True)

        return delete


def test_the_cache_may_be_deleted_while_a_study_runs(
    photos: Path, cache: Path, tmp_path: Path
) -> None:
    watcher = _Deletes(cache.parent)
    options = {"data": photos, "arms": "bn,none", "seeds": 1, "limit_per_class": None}
    made = _compare(tmp_path / "study", clean_split=True, watcher=watcher, **options)
    assert watcher.deleted
    assert [run.status for run in made.results.runs] == ["complete", "complete"]
    assert made.report.html.is_file()
    assert (tmp_path / "study/split.json").is_file()
