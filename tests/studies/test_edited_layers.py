"""A layer of one's own that is edited: its runs are made again, and no number is mixed."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import normlab
from normlab.cli import main
from normlab.data import DataConfig, load
from normlab.errors import InputError
from normlab.files import write_json
from normlab.foreign import load as load_code
from normlab.report import write_report
from normlab.results import read_results, read_tunings
from normlab.runs import RunConfig
from normlab.runs.same_function import read_same_function
from normlab.studies import Request, make_plan, prepare_study
from normlab.training import train
from normlab.workflow import Comparison

SMALL: dict[str, Any] = {"limit_per_class": 12, "n": 1, "epochs": 1, "seeds": 1}
LAYER = """
import torch
from factors import EPS

class Layer(torch.nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels, eps=EPS)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(LAYER)
    (tmp_path / "factors.py").write_text("EPS = 0.5\n")
    return tmp_path


def _compare(**options: Any) -> Comparison:
    done = normlab.compare(**{**SMALL, "out": "s", **options})
    assert isinstance(done, Comparison)
    return done


def _loss(done: Comparison, arm: str = "mine:Layer") -> float:
    value = done.results.of_arm(arm)[0].metric("test", "loss")
    assert value is not None
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_edited_code_gives_new_runs_and_keeps_the_old_ones(here: Path, workers: int) -> None:
    arms = "mine:Layer,bn"
    broken = _compare(arms=arms, workers=workers)
    assert broken.runs_made == 2
    record = broken.results.of_arm("mine:Layer")[0].record
    assert sorted(record["code"]) == ["factors.py", "mine.py"]
    assert _compare(arms=arms, workers=workers).runs_made == 0
    # The same processes go on, and the imported file is not the layer's own.
    (here / "factors.py").write_text("EPS = 1e-5\n")
    fixed = _compare(arms=arms, workers=workers)
    assert fixed.runs_made == 1  # bn is ours and stays
    assert _loss(fixed) != _loss(broken)
    assert _loss(fixed, "bn") == _loss(broken, "bn")
    (kept,) = (here / "s/superseded").glob("*/*/run.json")
    assert json.loads(kept.read_text())["metrics"]["test"]["loss"] == _loss(broken)
    # And what the right code gives, it gives in a fresh folder too.
    assert _loss(_compare(arms=arms, workers=1, out="t")) == _loss(fixed)
    assert _compare(arms=arms, workers=workers).runs_made == 0


def test_a_run_that_was_stopped_does_not_resume_with_other_code(here: Path) -> None:
    done = _compare(arms="mine:Layer", workers=1)
    path = done.results.runs[0].folder / "run.json"
    record = json.loads(path.read_text())
    write_json(path, {**record, "status": "interrupted"})
    (here / "factors.py").write_text("EPS = 1e-5\n")
    again = _compare(arms="mine:Layer", workers=1)
    assert again.runs_made == 1
    assert _loss(again) != record["metrics"]["test"]["loss"]
    run = again.results.runs[0]
    config = RunConfig.from_dict(run.record["config"])
    data = load(DataConfig(**run.record["data"]["config"]))
    (here / "factors.py").write_text("EPS = 0.1\n")
    with pytest.raises(InputError, match="its layer's code differs"):
        train(config, data, run.folder)


def test_a_fixed_layer_is_asked_again_whether_it_is_the_same_function(here: Path) -> None:
    arms = {"what": "sanity", "arms": "torch_bn,mine:Layer", "workers": 2}
    _compare(**arms)
    found = read_same_function(here / "s", "mine:Layer")
    assert found is not None
    assert found.outcome == "different"
    (here / "factors.py").write_text("EPS = 1e-5\n")
    _compare(**arms)
    found = read_same_function(here / "s", "mine:Layer")
    assert found is not None
    assert found.outcome == "same"
    results = read_results(here / "s")
    ours, theirs = (results.of_arm(arm)[0].metric("test", "loss") for arm in results.arms)
    assert ours == theirs


def test_a_model_is_not_loaded_with_other_code(here: Path) -> None:
    run = _compare(arms="mine:Layer", workers=1).results.runs[0].folder
    x = torch.randn(2, 1, 8, 8)
    answers = normlab.load_model(run, trust=True)(x)
    (here / "factors.py").write_text("EPS = 1e-5\n")
    with pytest.raises(InputError, match=r"has changed since the model in .*\(factors\.py\)"):
        normlab.load_model(run, trust=True)
    (here / "factors.py").write_text("EPS = 0.5\n")
    assert torch.equal(normlab.load_model(run, trust=True)(x), answers)


def test_tuned_runs_follow_the_code_too(here: Path) -> None:
    asked = {"arms": "mine:Layer", "tune": "lr=0.01,0.05", "tune_seeds": 1, "workers": 1}
    first = _compare(**asked)
    (here / "factors.py").write_text("EPS = 1e-5\n")
    again = _compare(**asked)
    assert again.runs_made >= 1
    (tuning,) = read_tunings(again.results)
    runs = [*again.results.runs, *tuning.trials.runs, *tuning.tuned.runs]
    assert len({json.dumps(run.record["code"]) for run in runs}) == 1
    assert runs[0].record["code"] != first.results.runs[0].record["code"]
    assert first.folder == again.folder


def test_what_was_found_of_the_old_code_is_not_said_of_the_new(here: Path) -> None:
    asked = {"what": "sanity", "arms": "torch_bn,mine:Layer", "workers": 1}
    tuned = {"tune": "lr=0.01,0.05", "tune_seeds": 1}
    _compare(**asked, **tuned)
    (here / "factors.py").write_text("EPS = 1e-5\n")
    # Stopped before the check is made again: the old answer is not there any more.
    plan = make_plan(Request.of("sanity", arms=asked["arms"], device="cpu", **SMALL))
    study = prepare_study(here / "s", plan, load(plan.data))
    study.set_superseded_aside()
    results = read_results(here / "s")
    assert (results.checks, len(results.runs)) == ((), 1)
    assert (here / "s/superseded/mine,Layer/same-function.json").is_file()
    # Without --tune nothing is tuned again, and the old table is not shown beside the new runs.
    done = _compare(**asked)
    assert read_tunings(done.results) == ()
    said = "out of date: the code of mine:Layer has changed since. Call --tune lr again."
    assert said in done.report.html.read_text()
    again = _compare(**asked, **tuned)
    assert len(read_tunings(again.results)) == 1
    assert "out of date" not in again.report.html.read_text()


def test_a_layer_edited_after_a_verdict_counts_as_a_look(here: Path) -> None:
    asked = {"arms": "bn,mine:Layer", "workers": 1, "limit_per_class": 4}
    _compare(**asked, seeds=2)
    (here / "factors.py").write_text("EPS = 0.4\n")
    assert "could already be judged" not in _compare(**asked, seeds=3).report.html.read_text()
    for eps in ("0.1", "1e-5"):  # three seeds give a verdict
        (here / "factors.py").write_text(f"EPS = {eps}\n")
        done = _compare(**asked, seeds=3)
    assert done.results.question["verdict"]["edited"] == ["mine:Layer", "mine:Layer"]
    page = done.report.html.read_text()
    assert "already be judged with 2 earlier versions of the code of mine:Layer" in page
    assert "up to 15 % of such studies" in page
    assert (
        _compare(**asked, seeds=3).results.question["verdict"] == (done.results.question["verdict"])
    )


def test_runs_that_would_be_made_otherwise_now_are_made_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those with label smoothing were, whose history had another training loss."""
    call = ["compare", "--arms", "bn", "--n", "1", "--epochs", "1", "--seeds", "1"]
    call += ["--limit-per-class", "4", "--label-smoothing", "0.1", "--workers", "1", "--out", "s"]
    assert main(call) == 0
    path = here / "s/runs/bn/seed-0/run.json"
    record = json.loads(path.read_text())
    write_json(path, {**record, "identity": "0" * 64})
    report = write_report(read_results(here / "s"))
    assert "training loss includes label smoothing" in report.html.read_text()
    capsys.readouterr()
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "What normlab makes of the settings of bn changed after 1 run had been made." in said
    assert (here / "s/superseded/bn/seed-0-00000000/run.json").is_file()
    assert json.loads(path.read_text())["identity"] == record["identity"]
    assert "training loss includes label smoothing" not in (here / "s/report.html").read_text()


def test_a_notebook_that_reloads_and_one_that_does_not(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(here)  # as a notebook has its folder
    before = _compare(arms="mine:Layer", workers=1)
    module = load_code("mine")
    (here / "mine.py").write_text(LAYER.replace("eps=EPS", "eps=EPS / 1000"))
    forgot = _compare(arms="mine:Layer", workers=1)
    assert forgot.runs_made == 1
    (here / "mine.py").write_text(LAYER.replace("eps=EPS", "eps=EPS / 2000"))
    importlib.reload(module)
    reloaded = _compare(arms="mine:Layer", workers=1)
    assert reloaded.runs_made == 1
    assert len({_loss(before), _loss(forgot), _loss(reloaded)}) == 3


def test_study_toml_keeps_every_call(here: Path) -> None:
    _compare(arms="bn", workers=1, call="normlab compare --arms bn")
    _compare(arms="bn", workers=1, call="normlab compare --arms bn")
    _compare(arms="none", workers=1, call="normlab compare --arms none")
    calls = tomllib.loads((here / "s/study.toml").read_text())["calls"]
    assert [call["command"] for call in calls] == [
        "normlab compare --arms bn", "normlab compare --arms none",
    ]  # fmt: skip
