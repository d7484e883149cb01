"""How layers are computed where nobody says it: as fast as the machine can, and as in the study
that is continued."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import normlab
from normlab.console import ConsoleWatcher, print_run
from normlab.errors import InputError
from normlab.norms import kernels
from normlab.runs import read_record
from normlab.runs.study_file import read_question
from normlab.workflow import Comparison, compare
from normlab.workflow.running import train_one
from normlab.workflow.watching import Estimate

QUICK: dict[str, Any] = {"n": 1, "epochs": 1, "batch_size": 16}
DATA: dict[str, Any] = {"limit_per_class": 4}
ONE: dict[str, Any] = {"arms": "bn", "seeds": 1, "device": "cpu", "workers": 1, **QUICK, **DATA}
NO_COMPILER = "by operations of PyTorch: the compiler no-such-compiler (CC) was not found"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lose_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    kernels.load.cache_clear()


def made(**options: Any) -> Comparison:
    outcome = compare(**{**ONE, **options})
    assert isinstance(outcome, Comparison)
    return outcome


def planned(**options: Any) -> tuple[Estimate, str]:
    """What a call would do, and the lines that it prints."""
    page = io.StringIO()
    with ConsoleWatcher(Console(file=page, width=200)) as watcher:
        outcome = compare(**{**ONE, **options}, dry_run=True, watcher=watcher)
    assert isinstance(outcome, Estimate)
    return outcome, page.getvalue()


def ways(study: Path) -> set[str]:
    return {
        read_record(path.parent)["config"]["kernels"] for path in study.glob("runs/*/*/run.json")
    }


def test_layers_are_compiled_where_they_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    study = made(arms="bn,none").folder
    question = read_question(study)
    assert ways(study) == {"compiled"} == {question["run"]["kernels"]}
    assert all("--kernels compiled" in command for command in question["commands"])
    assert "kernels_note" not in read_record(study / "runs/bn/seed-0")
    assert "--kernels compiled" in (study / "runs/bn/seed-0/model.json").read_text()
    estimate, said = planned(arms="bn,none")
    assert (estimate.runs, estimate.already) == (0, 2)
    assert "compiled layers" in said
    # A machine without a compiler does not go on with it, and leaves it alone.
    lose_compiler(monkeypatch)
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    with pytest.raises(InputError, match=r"has compiled layers, which this machine .*no-such-comp"):
        made(seeds=2)
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before


def test_without_a_compiler_operations_of_pytorch_and_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as without:
        lose_compiler(without)
        _, said = planned()
        assert f"Layers   {NO_COMPILER}" in said
        assert not Path("studies").exists()
        study = made().folder
    assert ways(study) == {"torch"}
    assert read_record(study / "runs/bn/seed-0")["kernels_note"] == NO_COMPILER
    # Back where there is one, the study goes on as it is, also by its name alone.
    estimate, said = planned(seeds=2)
    assert (estimate.runs, estimate.already) == (1, 1)
    assert "Layers   by operations of PyTorch, as in what is continued" in said
    assert planned(out=study, seeds=2)[0].already == 1
    with pytest.raises(InputError, match="another question: it differs in kernels"):
        made(out=study, kernels="compiled")


def test_a_study_of_this_machine_s_choice_comes_first() -> None:
    first = made(kernels="torch", epochs=1).folder
    second = made(kernels="compiled").folder
    assert first != second
    assert made(kernels="auto").runs_made == 0
    assert ways(first) == {"torch"}
    (second / "study.toml").unlink()
    assert planned()[0].already == 1  # the other one


@pytest.mark.parametrize(("asked", "way"), [("auto", "compiled"), ("torch", "torch")])
def test_a_study_file_may_state_it(asked: str, way: str) -> None:
    file = Path("mine.toml")
    file.write_text(f'[grid]\nnorm = ["bn"]\n[run]\nkernels = "{asked}"\n')
    _, said = planned(what=file, arms=None)
    assert ("compiled layers" in said) == (way == "compiled")
    assert "Layers" not in said
    _, said = planned(what=file, arms=None, kernels="compiled")  # the call comes first
    assert "compiled layers" in said


def test_both_precisions_are_compiled() -> None:
    _, said = planned(precision=["float32", "bfloat16"])
    assert "compiled layers" in said
    assert "Layers" not in said


def test_a_study_in_bfloat16_from_before_goes_on_as_it_is() -> None:
    made(precision="bfloat16", kernels="torch")
    estimate, said = planned(precision="bfloat16", seeds=2)
    assert (estimate.runs, estimate.already) == (1, 1)
    assert "Layers   by operations of PyTorch, as in what is continued" in said


def test_tuning_computes_as_the_study() -> None:
    study = made(tune="lr=0.01,0.02", tune_seeds=1).folder
    records = list(study.rglob("run.json"))
    assert len(records) > 2
    assert {read_record(path.parent)["config"]["kernels"] for path in records} == {"compiled"}


def test_a_damaged_study_is_repaired_as_it_was() -> None:
    study = made(kernels="torch").folder
    (study / "study.toml").write_text("")
    assert made(out=study, repair=True).runs_made == 0
    assert read_question(study)["run"]["kernels"] == "torch"


def test_a_single_run_is_continued_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"norm": "bn", **QUICK}
    first = train_one(DATA, settings, device="cpu", kernels="torch")
    written = first.record["written"]
    again = train_one(DATA, settings, device="cpu")
    assert (again.folder, again.record["written"]) == (first.folder, written)
    fresh = train_one(DATA, {**settings, "seed": 1}, device="cpu")
    assert fresh.record["config"]["kernels"] == "compiled"
    study = made(kernels="torch").folder
    inside = train_one(DATA, {**settings, "seed": 1}, study / "runs/bn/seed-1", device="cpu")
    assert inside.record["config"]["kernels"] == "torch"
    assert normlab.compare(**{**ONE, "seeds": 2}).runs_made == 0  # type: ignore[union-attr]
    lose_compiler(monkeypatch)
    alone = train_one(DATA, {**settings, "seed": 2}, device="cpu")
    assert alone.record["kernels_note"] == NO_COMPILER
    page = io.StringIO()
    print_run(Console(file=page, width=200), alone)
    assert f"Layers computed {NO_COMPILER}" in page.getvalue()
    with pytest.raises(InputError, match="cannot be compiled on this machine"):
        train_one(DATA, {**settings, "seed": 1}, fresh.folder, device="cpu")
