"""More seeds for a study, with looks fixed beforehand and without."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import normlab
from normlab.errors import InputError
from normlab.report import Report
from normlab.report.sections.answer import sentences
from normlab.results import read_results
from normlab.results.statistics import judge
from normlab.studies import Request, make_plan
from normlab.workflow import Comparison, Estimate, comparison

SMALL: dict[str, Any] = {
    "limit_per_class": 12, "limit_all_splits": True, "n": 1, "epochs": 1, "workers": 2,
}  # fmt: skip


def _compare(out: Path, **options: Any) -> Comparison:
    done = normlab.compare(**{**SMALL, "arms": "bn,none", "out": out, **options})
    assert isinstance(done, Comparison)
    return done


@pytest.fixture(autouse=True)
def no_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these tests read what a study states, and a page takes as long as its runs."""
    if "listed" not in request.node.name:
        monkeypatch.setattr(comparison, "write_report", lambda results: None)


def _stated(study: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((study / "study.toml").read_text())["verdict"]
    return found


def test_seeds_are_added_until_all_is_decided(tmp_path: Path) -> None:
    # A margin that nothing exceeds decides at the first look, with three seeds.
    wide = _compare(tmp_path / "wide", until_decided=True, margin=99)
    assert wide.runs_made == 6
    assert judge(wide.results).settled
    assert _stated(tmp_path / "wide")["looks"] == [3, 5, 8, 12, 20]
    # One that nothing can be within goes on to the last look.
    fine = _compare(tmp_path / "fine", until_decided=True, margin=0.001, seeds=4)
    assert fine.runs_made == 8
    assert _stated(tmp_path / "fine")["looks"] == [3, 4]
    assert not judge(fine.results).settled
    # It goes on from there; other looks would be chosen by what was seen.
    assert _compare(tmp_path / "fine", until_decided=True, seeds=4).runs_made == 0
    assert _compare(tmp_path / "fine", until_decided=True).runs_made == 0
    with pytest.raises(InputError, match=r"fixed at 3 and 4 seeds and cannot become 3, 5 and 6"):
        _compare(tmp_path / "fine", until_decided=True, seeds=6)


def test_seeds_added_by_hand_are_remembered_as_a_look(tmp_path: Path) -> None:
    out = tmp_path / "s"
    _compare(out, seeds=2)
    assert _compare(out, seeds=3).runs_made == 2
    assert _stated(out)["looked"] == []  # two seeds give no verdict
    # A run is missing, and verdicts of the other arm could be read all the same.
    _compare(out, seeds=3, arms="ln")
    assert _stated(out)["grown"] == [2]
    shutil.rmtree(out / "runs/ln/seed-2")
    assert _compare(out, seeds=4).runs_made == 4
    assert _stated(out)["looked"] == [3]
    assert _compare(out, seeds=4).runs_made == 0
    assert _stated(out)["looked"] == [3]
    assert judge(read_results(out)).error_bound == pytest.approx(0.15)
    said = " ".join(sentences.warnings(Report(read_results(out))))
    assert "with 3 seeds before more were added and with 2 arms before others were added" in said


def test_looks_stated_after_results_count_what_was_seen(tmp_path: Path) -> None:
    out = tmp_path / "s"
    _compare(out, seeds=3)
    done = _compare(out, until_decided=True, seeds=4, margin=0.5)
    assert (_stated(out)["looks"], _stated(out)["looked"]) == ([3, 4], [3])
    said = Report(done.results)
    assert "beforehand" not in " ".join(sentences.answer(said).sure)
    assert "up to 10 % of such studies instead of 5 %" in " ".join(sentences.warnings(said))
    # The same with looks before any result.
    early = tmp_path / "early"
    _compare(early, seeds=2)
    _compare(early, until_decided=True, seeds=3)
    assert _stated(early)["looked"] == []


def test_a_plain_call_adds_no_seeds_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "s"
    # Nothing can be within this margin, so only the last look ends the study.
    assert _compare(out, until_decided=True, seeds=3, margin=0.001).runs_made == 6
    study = tomllib.loads((out / "study.toml").read_text())
    (out / "study.toml").write_text(
        tomli_w.dumps({**study, "verdict": {**study["verdict"], "looks": [3, 5]}})
    )
    assert _compare(out, seeds=3).runs_made == 0
    assert _compare(out, seeds=4).runs_made == 2
    found = judge(read_results(out))
    assert (found.seeds, found.comparisons[0].later) == ((0, 1, 2), (3,))
    assert _compare(out, until_decided=True).runs_made == 2  # the flag does
    assert judge(read_results(out)).seeds == (0, 1, 2, 3, 4)


def test_what_looks_may_add_is_told_before(tmp_path: Path) -> None:
    out = tmp_path / "s"
    _compare(out, seeds=3)
    asked: dict[str, Any] = {**SMALL, "arms": "bn,none", "out": out, "dry_run": True}
    found = normlab.compare(**asked, until_decided=True, seeds=5)
    assert isinstance(found, Estimate)
    assert (found.runs, found.added) == (0, 4)
    plain = normlab.compare(**asked, seeds=3)
    assert isinstance(plain, Estimate)
    assert (plain.runs, plain.added) == (0, 0)


def test_every_call_is_kept_and_listed(tmp_path: Path) -> None:
    out = tmp_path / "s"
    _compare(out, seeds=1)
    _compare(out, seeds=1)  # goes on with the same
    _compare(out, seeds=2, arms="ln")
    calls = tomllib.loads((out / "study.toml").read_text())["calls"]
    assert [(c["runs_before"], c["arms"], c["seeds"]) for c in calls] == [(0, 2, 1), (2, 3, 2)]
    page, text = (out / "report.html").read_text(), (out / "results.md").read_text()
    for written in (page, text):
        assert "was built by" in written
        assert all(call["command"].split(" --out")[0] in written for call in calls)
    one = _compare(tmp_path / "one", seeds=1)
    assert "was built by" not in one.report.html.read_text()


def test_a_rule_changed_after_the_runs_is_remembered(tmp_path: Path) -> None:
    out = tmp_path / "s"
    _compare(out, seeds=1, margin=1)
    assert _stated(out) == {
        "reference": "bn", "margin": 1.0, "level": 0.95, "looks": [], "before": [], "looked": [],
        "grown": [], "edited": [],
    }  # fmt: skip
    _compare(out, seeds=1)  # what is not asked stays
    assert _stated(out)["before"] == []
    _compare(out, seeds=1, reference="none")
    assert _stated(out)["reference"] == "none"
    assert _stated(out)["before"] == [{"reference": "bn", "margin": 1.0, "runs": 2}]
    assert [c.reference for c in judge(read_results(out)).comparisons] == ["none"]
    assert "target" not in _stated(out)
    for target in (80, 75):
        _compare(out, seeds=1, target=target)
    assert _stated(out)["target"] == 75.0
    assert _stated(out)["retargeted"] == [{"runs": 2}, {"target": 80.0, "runs": 2}]
    assert len(_stated(out)["before"]) == 1  # no verdict depends on it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "batchnorm"}, r"reference 'batchnorm' is not an arm.*arms are bn, none"),
        ({"margin": 0}, "margin must be a number of points above 0"),
        ({"margin": 100}, "below 100"),
        ({"target": 101}, "above 0 and at most 100, got 101"),
        ({"until_decided": True, "seeds": 2}, "needs at least 3 seeds"),
    ],
)
def test_rules_that_cannot_be(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        _compare(tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_a_file_states_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('reference = "gn"\nmargin = 0.25\n[grid]\nnorm = ["bn", "gn"]\n')
    rule = make_plan(Request.of(str(path))).rule
    assert (rule.reference, rule.margin) == ("gn", 0.0025)
    assert make_plan(Request.of(str(path), reference="bn", margin=2)).rule.margin == 0.02
    path.write_text(f"target = 82.5\n{path.read_text()}")
    assert make_plan(Request.of(str(path))).rule.target == 0.825
    assert make_plan(Request.of(str(path), target=90)).rule.target == 0.9
    path.write_text('margin = "wide"\n')
    with pytest.raises(InputError, match="margin must be a number"):
        make_plan(Request.of(str(path)))
