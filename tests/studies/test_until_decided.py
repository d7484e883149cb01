"""Seeds are added only where a comparison is open: which runs are made, in whatever calls."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

import normlab
from normlab.errors import InputError
from normlab.report.sections.tuned import shared_and_tuned
from normlab.results import read_results, read_tunings
from normlab.results.statistics import Verdict, judge
from normlab.workflow import Comparison, Estimate, comparison, looks

# Of bn and torch_bn every difference is 0, which is within this margin at the first look. Those of
# in are too far apart for any verdict, so that arm goes on to the last.
RACED: dict[str, Any] = {
    "limit_per_class": 12, "limit_all_splits": True, "n": 1, "epochs": 1, "workers": 1,
    "arms": "bn,torch_bn,in", "margin": 4, "until_decided": True, "seeds": 4,
}  # fmt: skip
HALVES = {"bn": 4, "torch_bn": 3, "in": 4}


def _compare(out: Path, **options: Any) -> Comparison:
    asked = {name: value for name, value in {**RACED, **options}.items() if value is not None}
    done = normlab.compare(**asked, out=out)
    assert isinstance(done, Comparison)
    return done


def _made(study: Path) -> dict[str, int]:
    """Arms to how many runs there are."""
    return {
        folder.name: len(list(folder.glob("seed-*/run.json"))) for folder in study.glob("runs/*")
    }


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("raced") / "s"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparison, "write_report", lambda results: None)
        assert _compare(out).runs_made == 11
    return out


@pytest.fixture
def study(raced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy. A page takes as long as the runs."""
    monkeypatch.setattr(comparison, "write_report", lambda results: None)
    return Path(shutil.copytree(raced, tmp_path / "s"))


def test_a_decided_arm_gets_no_more_seeds(study: Path) -> None:
    assert _made(study) == HALVES
    stated = tomllib.loads((study / "study.toml").read_text())
    assert (stated["seeds"], stated["fewer_seeds"]) == ([0, 1, 2, 3], {"torch_bn": 3})
    found = judge(read_results(study))
    assert [(one.arm, len(one.seeds)) for one in found.comparisons] == [
        ("torch_bn", 3),
        ("in", 4),
    ]
    assert found.comparisons[0].verdict is Verdict.EQUIVALENT
    for record in (run.record for run in read_results(study).runs):
        assert 0 < record["processor_seconds_by_epoch"][0] <= record["processor_seconds"]
    assert _compare(study).runs_made == 0  # nothing is missing


def test_a_study_goes_on_with_the_same_runs_wherever_it_was_stopped(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the middle of the second look.
    shutil.rmtree(study / "runs/in/seed-3")
    dry = normlab.compare(**RACED, out=study, dry_run=True)
    assert isinstance(dry, Estimate)
    assert (dry.runs, dry.already, dry.added) == (1, 10, 0)
    assert _compare(study).runs_made == 1
    # After the first look was read, before study.toml said what follows.
    out, write = tmp_path / "t", looks.check_room

    def killed(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(looks, "check_room", killed)
    with pytest.raises(KeyboardInterrupt):
        _compare(out)
    assert _made(out) == dict.fromkeys(HALVES, 3)
    monkeypatch.setattr(looks, "check_room", write)
    dry = normlab.compare(**RACED, out=out, dry_run=True)
    assert isinstance(dry, Estimate)
    assert (dry.runs, dry.added) == (0, 2)  # torch_bn can get no more
    assert _compare(out).runs_made == 2
    assert _made(out) == HALVES


def test_a_plain_call_gives_every_arm_its_seeds_and_verdicts_stay(study: Path) -> None:
    before = judge(read_results(study)).comparisons[0]
    assert _compare(study, until_decided=None, margin=None, seeds=3).runs_made == 0
    assert _compare(study, until_decided=None, margin=None, seeds=4).runs_made == 1
    assert _made(study) == dict.fromkeys(HALVES, 4)
    assert "fewer_seeds" not in tomllib.loads((study / "study.toml").read_text())
    found = judge(read_results(study))
    after = found.comparisons[0]
    assert (after.verdict, after.interval, after.seeds) == (
        before.verdict, before.interval, (0, 1, 2),
    )  # fmt: skip
    assert after.later == (3,)
    assert found.error_bound == pytest.approx(0.05)


def test_an_arm_that_joins_begins_at_the_first_look(study: Path) -> None:
    # With this margin it is decided there. The level is that of three comparisons, at which the
    # others are what they were.
    done = _compare(study, arms="gn:groups=1", margin=99)
    assert (done.runs_made, _made(study)) == (3, {**HALVES, "gn,groups=1": 3})
    # A plain call gives an arm the seeds of the study.
    _compare(study, arms="ln", until_decided=None, margin=None, seeds=3)
    assert _made(study)["ln"] == 4


def test_repair_makes_again_what_was_asked_and_no_more(study: Path) -> None:
    (study / "runs/torch_bn/seed-2/history.csv").write_text("damaged")
    with pytest.raises(InputError, match="repair"):
        _compare(study)
    assert _compare(study, repair=True).runs_made == 1
    path = study / "study.toml"
    path.write_text(path.read_text().replace("torch_bn = 3", "torch_bn = 2"))
    assert _compare(study, repair=True).runs_made == 0
    assert _made(study) == HALVES
    assert tomllib.loads(path.read_text())["fewer_seeds"] == {"torch_bn": 3}


def test_a_tuned_setting_is_raced_for_itself(study: Path) -> None:
    done = _compare(study, tune="schedule=cosine,constant", tune_seeds=1)
    (tuning,) = read_tunings(done.results)
    counts = {c.arm: len(tuning.tuned.seeds_of(c.name)) for c in tuning.choices}
    assert counts == HALVES
    assert tuning.later_seeds == ()
    assert [len(one.seeds) for one in tuning.judgement.comparisons] == [3, 4]
    assert [len(one.seeds) for one in tuning.shared_judgement.comparisons] == [3, 4]
    assert "there are 3 to 4 seeds at the shared value and 3 to 4 seeds at the chosen ones" in (
        " ".join(shared_and_tuned.sentences(tuning))
    )
    # Seeds that a plain call adds are named as later, in whichever half.
    later = _compare(study, until_decided=None, margin=None, seeds=5)
    (tuning,) = read_tunings(later.results)
    assert tuning.later_seeds == (4,)
