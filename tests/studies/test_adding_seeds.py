"""More seeds for a study, with looks fixed beforehand and without."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

import normlab
from normlab.errors import InputError
from normlab.results import read_results
from normlab.results.statistics import judge
from normlab.studies import Request, make_plan
from normlab.workflow import Comparison

SMALL: dict[str, Any] = {
    "limit_per_class": 12, "limit_all_splits": True, "n": 1, "epochs": 1, "workers": 2,
}  # fmt: skip


def _compare(out: Path, **options: Any) -> Comparison:
    done = normlab.compare(**{**SMALL, "arms": "bn,none", "out": out, **options})
    assert isinstance(done, Comparison)
    return done


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
    with pytest.raises(InputError, match=r"fixed .*, at 3, 4 seeds.*become 3, 5, 6 after"):
        _compare(tmp_path / "fine", until_decided=True, seeds=6)


def test_seeds_added_by_hand_are_remembered_as_a_look(tmp_path: Path) -> None:
    out = tmp_path / "s"
    _compare(out, seeds=2)
    assert _stated(out)["looked"] == []
    assert _compare(out, seeds=3).runs_made == 2
    assert _stated(out)["looked"] == [2]
    assert _compare(out, seeds=3).runs_made == 0
    assert _stated(out)["looked"] == [2]
    assert judge(read_results(out)).error_bound == pytest.approx(0.1)


def test_a_rule_changed_after_the_runs_is_remembered(tmp_path: Path) -> None:
    out = tmp_path / "s"
    _compare(out, seeds=1, margin=1)
    assert _stated(out) == {
        "reference": "bn", "margin": 1.0, "level": 0.95, "looks": [], "before": [], "looked": [],
    }  # fmt: skip
    _compare(out, seeds=1)  # what is not asked stays
    assert _stated(out)["before"] == []
    _compare(out, seeds=1, reference="none")
    assert _stated(out)["reference"] == "none"
    assert _stated(out)["before"] == [{"reference": "bn", "margin": 1.0, "runs": 2}]
    assert [c.reference for c in judge(read_results(out)).comparisons] == ["none"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "batchnorm"}, r"reference 'batchnorm' is not an arm.*arms are bn, none"),
        ({"margin": 0}, "margin must be a number of points above 0"),
        ({"margin": 100}, "below 100"),
        ({"until_decided": True, "seeds": 1}, "needs at least 2 seeds"),
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
    path.write_text('margin = "wide"\n')
    with pytest.raises(InputError, match="margin must be a number"):
        make_plan(Request.of(str(path)))
