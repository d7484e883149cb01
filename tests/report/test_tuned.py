"""The arms at a shared value and at their own: sentences, tables, the chart."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from normlab.files import write_json
from normlab.report import ReportFiles, write_report
from normlab.report.sections.tuned import shared_and_tuned, tuning_chart
from normlab.results import Results, read_results, read_tunings
from normlab.results.statistics import Verdict, judge

from .folders import make_study
from .test_browser import OpenPage

pytestmark = pytest.mark.xdist_group("browser")
ARMS = ("bn", "gn", "none")
VALUES = (0.002, 0.02, 0.2, 2.0)
CHOSEN = {"bn": 0.02, "gn": 0.2, "none": 2.0}


def make_tuned(folder: Path) -> Path:
    """A study with lr tuned: gn's own rate is another, none's lies at the edge."""
    make_study(folder, arms=ARMS, title="Tuned")
    below = folder / "tuning/lr"
    points = {f"{arm},lr={value}": {"norm": arm, "lr": value} for arm in ARMS for value in VALUES}
    ends = {("gn,lr=2.0", seed): "diverged at step 4" for seed in (1000, 1001)}
    make_study(below / "trials", arms=points, seeds=(1000, 1001), epochs=2, ends=ends)
    names = {arm: f"{arm},lr={value}" for arm, value in CHOSEN.items()}
    make_study(below / "tuned", arms={n: points[n] for n in names.values()})
    choices = [
        {"arm": a, "value": CHOSEN[a], "name": n, "edge": "highest" if a == "none" else "",
         "failed": False}
        for a, n in names.items()
    ]  # fmt: skip
    limit = (
        "The learning rate 2.0 is the highest value that was tried, and the best for none; a "
        "better one may be beyond it."
    )
    content = {"field": "lr", "shared": 0.02, "grid": VALUES[:3], "values": VALUES,
               "seeds": [1000, 1001], "limit": limit, "choices": choices}  # fmt: skip
    write_json(below / "tuning.json", content)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(make_tuned(tmp_path_factory.mktemp("tuned") / "study"))


@pytest.fixture(scope="module")
def report(study: Results) -> ReportFiles:
    return write_report(study)


def test_sentences_say_what_was_tried_and_what_it_cost(study: Results) -> None:
    (tuning,) = read_tunings(study)
    said = " ".join(shared_and_tuned.sentences(tuning))
    assert "the same 4 values of the learning rate (0.002, 0.02, 0.2 and 2)" in said
    assert "the same 2 seeds (1000 and 1001), which the study itself does not use" in said
    assert "of equal ones that with the lower loss, then the earlier value." in said
    assert "The grid started as 0.002, 0.02 and 0.2." in said
    assert "2 was added for all arms." in said
    assert "The learning rate 2.0 is the highest value that was tried, and the best" in said
    assert "2 of the 24 trials diverged" in said
    # Nine runs and 24 trials of 3.5 s.
    assert (
        "Tuning took 24 trials and 1 min 24 s of training, 2.7 times that of the study's own runs"
        in said
    )


def test_it_says_whether_a_verdict_differs(study: Results) -> None:
    (tuning,) = read_tunings(study)
    shared, own = judge(study), tuning.judgement
    assert shared_and_tuned.sentences(tuning)[-1].endswith("no verdict changes.") == (
        [c.verdict for c in shared.comparisons] == [c.verdict for c in own.comparisons]
    )
    # With a margin that nothing exceeds every tuned arm is equivalent.
    wide = replace(tuning)
    wide.__dict__["judgement"] = judge(
        tuning.tuned, replace(tuning.rule, margin=0.9), compared=tuning.compared
    )
    (last,) = shared_and_tuned.sentences(wide)[-1:]
    changed = [c for c in shared.comparisons if c.verdict is not Verdict.EQUIVALENT]
    assert changed
    for comparison in changed:
        said = f"{comparison.arm} from {comparison.verdict} to equivalent"
        assert re.search(rf"changes for .*{said}", last)


def test_an_arm_that_diverged_has_no_verdict_in_both_halves(tmp_path: Path) -> None:
    folder = make_tuned(tmp_path / "s")
    for path in folder.rglob("run.json"):
        if "/trials/" in str(path) or "none" not in str(path.relative_to(folder)):
            continue
        record = json.loads(path.read_text())
        write_json(path, {**record, "status": "diverged at step 3", "metrics": None})
    results = read_results(folder)
    (tuning,) = read_tunings(results)
    rows = {row[0]: row for row in shared_and_tuned.rows(tuning)}
    assert (rows["none"][3], rows["none"][7]) == ("no verdict", "no verdict")
    assert "none from" not in shared_and_tuned.changes(tuning)
    report = write_report(results)
    assert "none from" not in report.markdown.read_text()
    with (folder / "comparisons.csv").open() as opened:
        verdicts = {row["arm"]: row["verdict"] for row in csv.DictReader(opened)}
    assert verdicts["none"] == "no verdict"


def test_the_table_has_both(study: Results) -> None:
    (tuning,) = read_tunings(study)
    rows = {row[0]: row[1:] for row in shared_and_tuned.rows(tuning)}
    assert list(rows) == list(ARMS)
    assert rows["bn"][1] == rows["bn"][5] == "reference"
    assert [row[3] for row in rows.values()] == ["0.02", "0.2", "2"]
    spread = tuning.tuned.spread("gn,lr=0.2", "test", "accuracy")
    assert spread is not None
    assert spread.sd is not None
    assert rows["gn"][4] == f"{100 * spread.mean:.1f} ± {100 * spread.sd:.1f}"
    comparison = tuning.judgement.of("gn,lr=0.2")
    assert comparison is not None
    assert comparison.reference == "bn,lr=0.02"
    assert comparison.difference is not None
    size = abs(100 * comparison.difference.mean)
    assert comparison.difference.mean < 0
    assert re.match(rf"−{size:.1f}\d? \[", rows["gn"][5])
    assert rows["gn"][6] == comparison.verdict


def test_markdown_latex_and_figures_have_it(report: ReportFiles) -> None:
    folder = report.html.parent
    text = report.markdown.read_text()
    assert "## Shared and tuned: learning rate" in text
    assert re.search(r"^\| `gn` \|.*\| 0\.2 \|", text, re.MULTILINE)
    latex = (folder / "tuning-lr.tex").read_text()
    body = [line for line in latex.splitlines() if not line.startswith("%")]
    rows = [line for line in body if line.endswith(r"\\") and line.count(" & ") == 7]
    assert len(rows) == 1 + len(ARMS)
    names = {path.name for path in report.figures}
    assert {"tuning-lr.svg", "tuning-lr.png"} <= names


def test_points_belong_to_the_studys_arms(study: Results) -> None:
    (tuning,) = read_tunings(study)
    points = tuning_chart.points(tuning)
    assert {point["arm"] for point in points} == set(ARMS)
    assert {point["x"] for point in points if point["arm"] == "gn"} == {0.002, 0.02, 0.2}
    rings = {point["arm"]: point["x"] for point in points if point["chosen"]}
    assert rings == CHOSEN
    run = tuning.trials.of_arm("bn,lr=0.02")[0]
    value = run.metric("val", "accuracy")
    assert value is not None
    assert any(
        point["seed"] == 1000 and point["x"] == 0.02 and point["value"] == 100 * value
        for point in points
        if point["arm"] == "bn"
    )


def test_the_chart_follows_switches_and_tells(open_page: OpenPage, report: ReportFiles) -> None:
    page, watch = open_page(report.html)
    chart = page.locator("[data-tuned=tuning-lr]")
    chart.scroll_into_view_if_needed()
    lines = "[data-tuned=tuning-lr] svg path[stroke-width='2'][fill='none'], [data-tuned=tuning-lr] svg .mark-line path"  # noqa: E501
    before = page.locator(lines).count()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    assert re.search(r"lr [\d.]+\s+trial, seed 100[01] [\d.]+ %", tip.inner_text())
    page.locator("input[data-arm=gn]").uncheck(force=True)
    page.wait_for_function(f'document.querySelectorAll("{lines}").length < {before}')
    assert watch.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
