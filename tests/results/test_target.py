"""Time to target: when runs first reach a validation accuracy, on curves that are known."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from normlab.errors import InputError
from normlab.report import Report
from normlab.report.sections.target import TargetSection
from normlab.report.sections.target.times import time_to_target
from normlab.results import Results
from normlab.results.spent import PASSED, PROCESSOR
from normlab.results.statistics import judge
from normlab.results.target import (
    Median,
    all_reached,
    default_target,
    different_conditions,
    median_of,
    ratio_of,
)
from simulated import simulated

Curves = Mapping[str, Sequence[Sequence[float]]]
# One validation accuracy an epoch, in percent. The target of 80 is reached at epochs 2, 4 and 4 of
# bn, and at 1, 2 and 1 of gn; never by one run of none.
CURVES: Curves = {
    "bn": [[70, 80, 85, 84], [60, 70, 79.9, 90], [50, 60, 70, 83.5]],
    "gn": [[80, 85, 70, 85], [79, 81, 82, 83], [99, 99, 99, 99]],
    "none": [[10, 80, 10, 10], [10, 20, 30, 40], [10, 20, 80, 90]],
}


def study(
    curves: Curves = CURVES, *, verdict: Mapping[str, Any] | None = None, processor: bool = True
) -> Results:
    """A study of which each epoch took 10 updates, 3 seconds of training, 1 of validation, and of
    processor time 5 seconds for the first epoch and 2 for others."""
    results = simulated(
        {arm: [0.9 + 0.01 * k for k in range(len(runs))] for arm, runs in curves.items()},
        verdict={"reference": "bn", **(verdict or {})},
    )
    made = []
    for run in results.runs:
        reached = curves[run.arm][run.seed]
        history = [
            {"epoch": epoch, "split": split, "accuracy": percent / 100, "seconds": seconds}
            for epoch, percent in enumerate(reached, 1)
            for split, seconds in (("train_running", 3.0), ("val", 1.0))
        ]
        record = {**run.record, "steps_done": 10 * len(reached), "epochs_done": len(reached)}
        if processor:
            record["processor_seconds_by_epoch"] = [5.0, *[2.0] * (len(reached) - 1)]
        made.append(replace(run, record=record, history=history))
    return replace(results, runs=tuple(made))


def test_the_first_epoch_that_is_high_enough_counts() -> None:
    results = study()
    bn = all_reached(results, "bn", 0.8, PROCESSOR)
    assert [one.epochs for one in bn] == [2, 4, 4]  # 79.9 is not 80
    assert [one.updates for one in bn] == [20, 40, 40]
    assert [one.seconds for one in bn] == [7, 11, 11]
    assert [one.seconds for one in all_reached(results, "bn", 0.8, PASSED)] == [8, 16, 16]
    # A run that falls below the target afterwards has reached it.
    assert [one.epochs for one in all_reached(results, "gn", 0.8, PROCESSOR)] == [1, 2, 1]


def test_runs_that_never_reach_it_are_counted_as_later_than_all() -> None:
    results = study()
    none = all_reached(results, "none", 0.8, PROCESSOR)
    assert [(one.there, one.epochs) for one in none] == [(True, 2), (False, 4), (True, 3)]
    # 2, 3, never: without the run that never did, the median would be 2.5.
    assert median_of(none, "epochs") == Median(3)
    assert median_of(none[:2], "epochs") == Median(3, above=True)  # of 2 and more than 4
    assert median_of(none[1:2], "updates") == Median(40, above=True)
    # One that diverged before the target counts like one that trained to the end.
    last = results.runs[-1]
    record = {**last.record, "status": "diverged at step 9"}
    lost = replace(last, record=record, history=last.history[:2])
    results = replace(results, runs=(*results.runs[:-1], lost))
    none = all_reached(results, "none", 0.8, PROCESSOR)
    assert [one.there for one in none] == [True, False, False]
    assert median_of(none, "epochs") == Median(2, above=True)  # 2, more than 4, more than 1


def test_ratios_are_paired_and_only_where_every_run_reached_it() -> None:
    results = study()
    gn, none = judge(results).comparisons
    found = ratio_of(results, gn, 0.8, "epochs", PROCESSOR)
    assert found is not None
    logs = [math.log(1 / 2), math.log(2 / 4), math.log(1 / 4)]
    mean, sd = sum(logs) / 3, 0.4001886
    assert found.value == pytest.approx(math.exp(mean))
    # Wider than that of the values: 1 and 3.33 epochs are known to one epoch.
    least = math.sqrt((3 / 4) ** 2 + (3 / 10) ** 2) / math.sqrt(12)
    assert least < sd
    half = stats.t.ppf(1 - 0.05 / 2 / 2, 2) * sd / math.sqrt(3)  # two comparisons
    assert found.interval.low == pytest.approx(math.exp(mean - half), rel=1e-5)
    assert found.interval.high == pytest.approx(math.exp(mean + half), rel=1e-5)
    assert ratio_of(results, none, 0.8, "epochs", PROCESSOR) is None
    assert ratio_of(results, none, 0.1, "epochs", PROCESSOR) is not None
    two = study({arm: runs[:2] for arm, runs in CURVES.items()})
    assert ratio_of(two, judge(two).comparisons[0], 0.8, "epochs", PROCESSOR) is None


def test_equal_counts_are_not_called_exact() -> None:
    same = [[50.0, 80.0]] * 3
    results = study({"bn": same, "gn": same})
    found = ratio_of(results, judge(results).comparisons[0], 0.8, "epochs", PROCESSOR)
    assert found is not None
    half = stats.t.ppf(0.975, 2) * math.sqrt(2 * (1 / 2) ** 2 / 12) / math.sqrt(3)
    assert found.value == 1
    assert found.interval.high == pytest.approx(math.exp(half))


def test_the_default_target_is_one_that_every_run_of_the_reference_reached() -> None:
    results = study()
    assert default_target(results, judge(results)) == 0.83  # the best of bn are 85, 90 and 83.5
    worst = study({**CURVES, "bn": [[70.0], [0.5], [60.0]]})
    assert default_target(worst, judge(worst)) is None
    assert time_to_target(Report(worst)) is None
    assert TargetSection().context(Report(worst)) is None


def test_the_page_says_where_the_target_comes_from() -> None:
    def said(report: Report) -> str:
        return " ".join(TargetSection().markdown(report))

    chosen = said(Report(study()))
    assert "accuracy of 83 %, the highest whole percentage that every complete run of bn" in chosen
    assert "chosen after the runs" in chosen
    assert "accuracy of 80 %, stated before the runs." in said(
        Report(study(verdict={"target": 80.0}))
    )
    late = {"target": 80.0, "retargeted": [{"runs": 4}, {"target": 75.5, "runs": 9}]}
    assert (
        "stated after 4 runs had ended (before that, none was stated) and after 9 runs had ended "
        "(before that, 75.5 %)"
    ) in said(Report(study(verdict=late)))
    asked = said(Report(study(verdict={"target": 80.0}), target=0.9))
    assert "accuracy of 90 %, which was asked of this report, after the runs." in asked
    assert "The study states 80 %." in asked


def test_the_table_counts_runs_and_refuses_what_cannot_be_compared() -> None:
    report = Report(study(verdict={"target": 80.0}))
    found = time_to_target(report)
    assert found is not None
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in found.table().rows}
    assert rows["bn"] == ["3 of 3 (100 %)", "4", "40", "11 s", *["reference"] * 3]
    assert rows["none"][:2] == ["2 of 3 (67 %)", "3"]
    assert rows["none"][4:] == ["–"] * 3
    assert rows["gn"][4].startswith("0.40 [")
    notes = " ".join(found.notes())
    assert "1 of 3 runs of none never reached it" in notes
    assert "none has no value relative to bn: 1 of 3 runs of none never reached the target" in notes
    lines = list(csv.DictReader(io.StringIO(found.csv())))
    assert len(lines) == 9
    assert lines[7]["reached"] == "no"
    assert (lines[7]["epochs"], lines[7]["epochs_run"]) == ("", "4")


def test_times_are_compared_under_the_same_conditions_alone() -> None:
    results = study(processor=False)
    runs = [
        replace(run, record={**run.record, "side_by_side": 1 + (run.arm == "gn")})
        for run in results.runs
    ]
    beside = replace(results, runs=tuple(runs))
    assert different_conditions(results, PASSED) == []
    assert different_conditions(beside, PASSED) == ["numbers of runs side by side"]
    assert different_conditions(beside, PROCESSOR) == []
    found = time_to_target(Report(beside, target=0.8))
    assert found is not None
    gn = next(row for row in found.table().rows if row[0].text == "gn")
    assert [cell.text[:4] for cell in gn[5:]] == ["0.40", "0.40", "–"]
    assert any("not compared" in note for note in found.notes())


@pytest.mark.parametrize("wrong", [0, -1, 100.5, True, "80"])
def test_targets_that_cannot_be(wrong: Any, tmp_path: Path) -> None:
    from normlab.runs.rule import checked_target

    with pytest.raises(InputError, match="target must be a validation accuracy in percent"):
        checked_target(wrong)
