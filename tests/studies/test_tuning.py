"""Tuning: the same values and trials for every arm, chosen on validation, grown for all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import normlab
from normlab.errors import InputError
from normlab.files import write_json
from normlab.report import write_report
from normlab.report.sections.scores import spread_text
from normlab.report.sections.tuned import shared_and_tuned
from normlab.report.terminal import verdict_lines
from normlab.results import Results, Run, read_results, read_run, read_tunings
from normlab.results.statistics import mcnemar
from normlab.results.tuning import choose
from normlab.runs import RunConfig
from normlab.runs.tuning import ChosenValue, Search
from normlab.studies import Request, make_plan
from normlab.studies.tuning import grown, make_search
from normlab.workflow import Comparison, Estimate

SMALL: dict[str, Any] = {"limit_per_class": 12, "n": 1, "epochs": 1, "workers": 2}
LR = Search("lr", 0.02, (0.01, 0.02, 0.04), (1000, 1001))


def _trials(reached: Mapping[tuple[str, Any], list[tuple[float, float] | None]]) -> Results:
    """(arm, value) to validation accuracy and loss of each trial, None for one that diverged."""
    runs = []
    for (arm, value), trials in reached.items():
        for seed, found in enumerate(trials, 1000):
            metrics = None if found is None else {"val": dict(zip(("accuracy", "loss"), found))}  # noqa: B905
            status = "diverged at step 3" if found is None else "complete"
            name = LR.trial(arm, value)
            runs.append(Run(name, seed, Path("x"), {"status": status, "metrics": metrics}, []))
    arms = tuple(dict.fromkeys(run.arm for run in runs))
    return Results(Path("x"), {"arms": {a: {} for a in arms}, "seeds": [1000, 1001]}, {}, arms,
                   tuple(runs))  # fmt: skip


def test_the_grid_is_logarithmic_about_the_shared_value() -> None:
    plan = make_plan(Request.of("norms"))
    assert make_search("lr", plan).values == (0.002, 0.0063, 0.02, 0.063, 0.2)
    assert make_search("batch-size", plan).values == (8, 16, 32, 64, 128)
    assert make_search("n", plan).values == (1, 2, 4, 8)
    assert make_search("weight_decay", plan).values[2] == 5e-4
    search = make_search("momentum=0.9,0,0.5", plan, 3)
    assert search.values == (0.0, 0.5, 0.9)
    assert search.seeds == (1000, 1001, 1002)
    assert set(search.seeds).isdisjoint(plan.seeds)
    assert make_search("optimizer=sgd,adamw", plan).values == ("sgd", "adamw")
    assert make_search("clip_norm=none,1", plan).values == (None, 1.0)
    assert make_search("nesterov=yes,no", plan).values == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr", r"'lrr' is not a setting that can be tuned \(did you mean lr\?\)"),
        ("norm", "norm cannot be tuned: the study varies it"),
        ("seed", "seed cannot be tuned"),
        ("clip_norm", r"clip_norm is None here.*--tune clip_norm="),
        ("label_smoothing", "no logarithmic grid"),
        ("lr=0.1", r"^--tune lr=0\.1 names fewer than two values\. Give at least two"),
        ("lr=0.1,0.1", r"^--tune lr=0\.1,0\.1 repeats a value\."),
        ("lr=0.1,-1", "lr must be > 0"),
        ("optimizer=sgd,lion", "optimizer must be one of"),
    ],
)
def test_what_cannot_be_tuned(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_search(text, make_plan(Request.of("norms")))


def test_validation_chooses_by_accuracy_then_loss_and_not_what_diverged() -> None:
    trials = _trials(
        {
            ("bn", 0.01): [(0.90, 0.5), (0.92, 0.5)],
            ("bn", 0.02): [(0.91, 0.4), (0.91, 0.4)],
            ("bn", 0.04): [(0.99, 0.1), None],
            ("gn", 0.01): [(0.5, 1.0), (0.5, 1.0)],
            ("gn", 0.02): [(0.6, 1.0), (0.6, 1.0)],
            ("gn", 0.04): [(0.8, 1.0), (0.5, 1.0)],
            ("in", 0.01): [None, None],
            ("in", 0.02): [None, None],
            ("in", 0.04): [None, None],
        }
    )
    assert choose(trials, ("bn", "gn", "in"), LR, LR.values) == (
        ChosenValue("bn", 0.02, "bn,lr=0.02"),
        ChosenValue("gn", 0.04, "gn,lr=0.04", "highest"),
        ChosenValue("in", 0.02, "in,lr=0.02", failed=True),
    )


def test_settings_that_can_be_tuned_are_the_ones_that_are_listed() -> None:
    plan = make_plan(Request.of("norms", batch_size=[8, 32]))
    with pytest.raises(InputError, match=r"There are .*lr") as refused:
        make_search("foo", plan)
    listed = str(refused.value).split("There are ")[1].rstrip(".").split(", ")
    others = {"norm", "seed", "device", "threads", "kernels", "batch_size"}
    others |= {"processes", "statistics"}
    assert set(listed) == set(RunConfig().to_dict()) - others


def test_the_grid_grows_at_the_edge_until_its_limit() -> None:
    base = make_plan(Request.of("norms")).arms["bn"]
    inside, high = ChosenValue("bn", 0.02, ""), ChosenValue("gn", 0.04, "", "highest")
    low = ChosenValue("ln", 0.01, "", "lowest")
    assert grown(LR, LR.values, [inside], base) == (LR.values, "")
    assert grown(LR, LR.values, [inside, high, low], base) == ((0.005, *LR.values, 0.08), "")
    values = LR.values
    for _ in range(3):
        values, said = grown(LR, values, [inside, high], base)
        assert not said
    assert values == (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
    stopped, said = grown(LR, values, [inside, high], base)
    assert stopped == values
    assert said == (
        "The learning rate 0.32 is the highest value that was tried, and the best for gn; a better "
        "one may be beyond it."
    )
    # A bound of the field, and values without an order.
    momentum = Search("momentum", 0.9, (0.5, 0.9), (1000,))
    assert (
        "highest" in grown(momentum, (0.5, 0.9), [ChosenValue("bn", 0.9, "", "highest")], base)[1]
    )
    zero = Search("momentum", 0.9, (0.0, 0.9), (1000,))
    assert grown(zero, (0.0, 0.9), [ChosenValue("bn", 0.0, "", "lowest")], base) == ((0.0, 0.9), "")
    words = Search("optimizer", "sgd", ("sgd", "adamw"), (1000,))
    assert grown(words, words.values, [ChosenValue("bn", "adamw", "")], base) == (words.values, "")


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("weights.safetensors"))
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared rate is far too small, so that the best one lies at the upper edge."""
    out = tmp_path_factory.mktemp("tuned") / "s"
    plain = normlab.compare(**SMALL, arms="bn,none", seeds=2, lr=1e-6, out=out)
    assert isinstance(plain, Comparison)
    done = normlab.compare(
        **SMALL, arms="bn,none", seeds=2, lr=1e-6, tune="lr=1e-6,1e-3", tune_seeds=1, out=out
    )
    assert isinstance(done, Comparison)
    return out


def test_every_arm_gets_the_same_trials_and_the_test_split_is_not_read(study: Path) -> None:
    stated = json.loads((study / "tuning/lr/tuning.json").read_text())
    assert stated["grid"] == [1e-6, 1e-3]
    assert len(stated["values"]) > 2  # it grew, for both arms
    trials = read_results(study / "tuning/lr/trials")
    of_arm = {
        arm: {(run.arm.removeprefix(arm), run.seed) for run in trials.runs
              if run.arm.startswith(f"{arm},")}
        for arm in ("bn", "none")
    }  # fmt: skip
    assert of_arm["bn"] == of_arm["none"]
    assert len(of_arm["bn"]) == len(stated["values"])
    for run in trials.runs:
        assert run.seed == 1000
        assert set(run.record["metrics"] or {}) <= {"val"}
        assert {p.name for p in run.folder.iterdir()} <= {"run.json", "history.csv"}


def test_trials_are_reported_by_their_study_alone(study: Path) -> None:
    with pytest.raises(InputError, match="contains the trials of a tuning"):
        write_report(read_results(study / "tuning/lr/trials"))
    assert not (study / "tuning/lr/trials/report.html").exists()
    run = read_run(study / "tuning/lr/trials/runs/bn,lr=1e-06/seed-1000")
    with pytest.raises(InputError, match=r"seed-1000 cannot be tested: predictions\.npz is miss"):
        mcnemar(run, run)
    assert write_report(read_results(study / "tuning/lr/tuned")).html.is_file()


def test_the_tuned_runs_are_the_studys_seeds_at_the_chosen_values(study: Path) -> None:
    results = read_results(study)
    (tuning,) = read_tunings(results)
    assert tuning.search.shared == 1e-6
    for choice in tuning.choices:
        reached = {v: s.mean for v, s, _ in tuning.reached(choice.arm) if s is not None}
        assert reached[choice.value] == max(reached.values())
        runs = tuning.tuned.of_arm(choice.name)
        assert [run.seed for run in runs] == [0, 1]
        assert {run.record["config"]["lr"] for run in runs} == {choice.value}
        assert {run.record["config"]["norm"] for run in runs} == {choice.arm}
    (comparison,) = tuning.judgement.comparisons
    assert (comparison.reference, comparison.arm) == tuple(c.name for c in tuning.choices)
    assert tuning.seconds > 0
    assert {run.record["config"]["lr"] for run in results.runs} == {1e-6}


def test_what_joined_after_the_tuning_is_told_and_left_out(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    shutil.copytree(study, out)
    normlab.compare(**SMALL, arms="bn,none,in", seeds=3, lr=1e-6, out=out)
    results = read_results(out)
    (tuning,) = read_tunings(results)
    assert (tuning.later_arms, tuning.later_seeds) == (("in",), (2,))
    # Both halves of the table have the same arms and seeds.
    assert [run.seed for run in tuning.shared.of_arm("bn")] == [0, 1]
    rows = shared_and_tuned.rows(tuning)
    assert [row[0] for row in rows] == ["bn", "none"]
    before = read_results(study).spread("bn", "test", "accuracy")
    assert (
        rows[0][1] == spread_text(before) != spread_text(results.spread("bn", "test", "accuracy"))
    )
    said = " ".join(shared_and_tuned.sentences(tuning))
    assert "Every arm" not in said
    assert said.startswith("bn and none were each tried")
    assert (
        "With bn and none (2 seeds) at their own learning rate, there is still no verdict" in said
    )
    line = verdict_lines(results)[-1]
    assert "With bn and none (2 seeds)" in line
    assert "joined the study later" in line
    assert "The arm in and seed 2 joined the study later and are in neither half" in said
    done = normlab.compare(
        **SMALL, arms="bn,none,in", seeds=3, lr=1e-6, tune="lr=1e-6,1e-3", tune_seeds=1, out=out
    )
    assert isinstance(done, Comparison)
    (whole,) = read_tunings(done.results)
    assert (whole.later_arms, whole.later_seeds) == ((), ())
    assert "Every arm was tried" in " ".join(shared_and_tuned.sentences(whole))


def test_a_tuning_under_way_does_not_block_the_report(study: Path, tmp_path: Path) -> None:
    for name, gone, said in (
        ("chosen", ["tuned/runs"], "0 of 4 runs at the chosen values have ended"),
        ("trying", ["tuned", "tuning.json"], " trials have ended"),
        ("began", ["tuned", "tuning.json", "trials/runs"], "0 of "),
    ):
        out = tmp_path / name
        shutil.copytree(study, out)
        for part in gone:
            path = out / "tuning/lr" / part
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        results = read_results(out)
        assert read_tunings(results) == ()
        report = write_report(results)
        for text in (
            report.html.read_text(),
            report.markdown.read_text(),
            *verdict_lines(results)[-1:],
        ):
            assert "Tuning of the learning rate has not finished" in text, name
            assert said in text
    # With some of the tuned runs there is a table, which says what is missing.
    out = tmp_path / "some"
    shutil.copytree(study, out)
    name = next((out / "tuning/lr/tuned/runs").glob("none*"))
    record = json.loads((name / "seed-1/run.json").read_text())
    write_json(name / "seed-1/run.json", {**record, "status": "interrupted"})
    (tuning,) = read_tunings(read_results(out))
    assert "1 of the 4 tuned runs have not ended yet" in " ".join(
        shared_and_tuned.sentences(tuning)
    )


def test_again_runs_nothing_and_another_grid_is_refused(study: Path) -> None:
    asked: dict[str, Any] = {**SMALL, "seeds": 2, "lr": 1e-6, "tune_seeds": 1, "out": study}
    before = _hashes(study)
    again = normlab.compare(**asked, arms="bn,none", tune="lr=1e-6,1e-3")
    assert isinstance(again, Comparison)
    assert again.runs_made == 0
    assert _hashes(study) == before
    for other in ({"tune": "lr=1e-6,1e-2"}, {"tune": "lr=1e-6,1e-3", "tune_seeds": 2}):
        with pytest.raises(InputError, match="was tuned in"):
            normlab.compare(**{**asked, **other}, arms="bn,none")
    dry = normlab.compare(**asked, arms="bn,none,in", tune="lr=1e-6,1e-3", dry_run=True)
    assert isinstance(dry, Estimate)
    assert (dry.runs, dry.trials, dry.tuned) == (2, 2, 6)
    assert _hashes(study) == before


def test_a_value_that_is_the_shared_one_costs_no_run_twice(tmp_path: Path) -> None:
    done = normlab.compare(
        **SMALL,
        arms="bn",
        seeds=1,
        tune="lr=1e-7,0.02",
        tune_seeds=1,
        out=tmp_path / "s",
        test_fraction=0.15,
    )
    assert isinstance(done, Comparison)
    (tuning,) = read_tunings(done.results)
    (choice,) = tuning.choices
    if choice.value == 0.02:  # one epoch at 1e-7 is no training
        assert done.runs_made == 1
        found = _hashes(tmp_path / "s")
        assert (
            found["runs/bn/seed-0/weights.safetensors"]
            == (found["tuning/lr/tuned/runs/bn,lr=0.02/seed-0/weights.safetensors"])
        )
    else:
        assert choice.value > 0.02
        assert done.runs_made == 2
