"""Differences to the reference: files, table, chart."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from normlab.report import Report, ReportFiles, write_report
from normlab.report.sections.comparisons import ComparisonsSection, difference_chart
from normlab.report.sections.comparisons.verdict_table import pairs_table
from normlab.results import Results, read_results
from simulated import answering

from .conftest import ODD
from .folders import ARMS, make_study
from .test_browser import OpenPage, widths


def _values(results: Results, arm: str) -> list[float]:
    found = [run.metric("test", "accuracy") for run in results.of_arm(arm)]
    return [value for value in found if value is not None]


def test_the_csv_has_scipys_numbers(main_study: Results, main_report: ReportFiles) -> None:
    with (main_report.html.parent / "comparisons.csv").open() as opened:
        rows = {row["arm"]: row for row in csv.DictReader(opened)}
    assert list(rows) == [arm for arm in ARMS if arm != "bn"]
    for arm, row in rows.items():
        gained = np.subtract(_values(main_study, arm), _values(main_study, "bn"))
        spread = gained.std(ddof=1)
        least = 1 / 271 / math.sqrt(6)  # what rounding to one of 271 images makes
        for prefix, level in (("", 1 - 0.05 / 6), ("unadjusted_", 0.95)):
            expected = scipy.stats.ttest_1samp(gained, 0).confidence_interval(level)
            half = (expected.high - expected.low) / 2 * max(1, least / spread)
            found = float(row[f"{prefix}low"]), float(row[f"{prefix}high"])
            assert found == pytest.approx((gained.mean() - half, gained.mean() + half))
        assert row["verdict"] in ("equivalent", "better", "worse", "inconclusive")
        assert (row["seeds"], row["arm_lost"]) == ("3", "0")


def test_markdown_and_latex_have_a_row_an_arm(main_report: ReportFiles) -> None:
    section = main_report.markdown.read_text().split("## Difference to bn")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `bn` \|", section, re.MULTILINE)
    assert rows == [arm for arm in ARMS if arm != "bn"]
    latex = (main_report.html.parent / "comparisons.tex").read_text()
    body = [line for line in latex.splitlines() if not line.startswith("%")]
    assert body[0].startswith(r"\begin{tabular}")
    assert body[-1] == r"\end{tabular}"
    columns = len(re.findall("[lrc]", body[0].removeprefix(r"\begin{tabular}")))
    cells = [line for line in body if line.endswith(r"\\")]
    assert len(cells) == 7
    assert {line.count(" & ") + 1 for line in cells} == {columns}
    assert "torch\\_bn" in latex
    assert "−" not in "\n".join(body)


def test_the_chart_has_the_three_intervals_of_the_table(study_folder: Path) -> None:
    """Of other seeds, of this arm alone, and of other seeds and images."""
    right = {arm: np.random.default_rng(k).random((3, 90)) < 0.7 for k, arm in enumerate("abc")}
    report = Report(answering(right, np.arange(90) % 3, study_folder))
    found, _ = report.judgement.comparisons
    row = next(row for row in difference_chart.rows(report) if row["kind"] == "arm")
    shown = set()
    for name, interval in (("", found.interval), ("alone_", found.unadjusted),
                           ("both_", found.both)):  # fmt: skip
        assert interval is not None
        ends = row[f"{name}low"], row[f"{name}high"]
        assert ends == pytest.approx((100 * interval.low, 100 * interval.high))
        shown.add(ends)
    assert len(shown) == 3


def test_names_that_mean_something_elsewhere_are_harmless(odd_report: ReportFiles) -> None:
    page = odd_report.html.read_text()
    assert '<script>alert("1")' not in page
    latex = (odd_report.html.parent / "comparisons.tex").read_text()
    assert r"a|b & `c` 100% #1" not in latex
    with (odd_report.html.parent / "comparisons.csv").open() as opened:
        named = {name for row in csv.DictReader(opened) for name in (row["arm"], row["reference"])}
    assert named == set(ODD)


def test_the_chart_has_intervals_and_every_seed(main_study: Results) -> None:
    report = Report(main_study)
    rows = difference_chart.rows(report)
    for found in report.judgement.comparisons:
        assert found.difference is not None
        assert found.interval is not None
        (arm,) = (row for row in rows if row["arm"] == found.arm and row["kind"] == "arm")
        assert (arm["low"], arm["high"]) == pytest.approx(
            (100 * found.interval.low, 100 * found.interval.high)
        )
        assert arm["alone_high"] - arm["alone_low"] < arm["high"] - arm["low"]
        seeds = [row["value"] for row in rows if row["arm"] == found.arm and row["kind"] == "seed"]
        assert seeds == pytest.approx([100 * value for value in found.difference.values])
    low, high = difference_chart.bounds(rows, 0.5)
    assert low <= min(row.get("low", 0) for row in rows)
    assert high >= 0.5
    spec = json.dumps(difference_chart.spec(report))
    assert "gn: " in spec
    svg = ComparisonsSection().figures(report)["differences"][0]
    assert svg.count("gn: ") == 1


def test_runs_that_are_missing(hurt_study: Results, hurt_report: ReportFiles) -> None:
    with (hurt_report.html.parent / "comparisons.csv").open() as opened:
        rows = {row["arm"]: row for row in csv.DictReader(opened)}
    assert (rows["gn"]["arm_lost"], rows["gn"]["seeds"], rows["gn"]["low"]) == ("2", "1", "")
    assert (rows["none"]["arm_lost"], rows["none"]["mean"]) == ("3", "")
    assert {row["verdict"] for row in rows.values()} == {"no verdict"}
    assert {row["arm"] for row in difference_chart.rows(Report(hurt_study))} == {"gn", "ln"}
    context = ComparisonsSection().context(Report(hurt_study))
    assert context is not None
    assert "no verdict" in context["table"]


def test_all_pairs_only_where_asked(tmp_path: Path) -> None:
    results = read_results(make_study(tmp_path / "s", arms=("bn", "gn", "none")))
    assert "All pairs" not in write_report(results).html.read_text()
    report = write_report(results, all_pairs=True)
    assert "over all 3 pairs" in report.html.read_text()
    pairs = {(a.text, b.text): cell.text for a, b, cell, _ in pairs_table(Report(results)).rows}
    assert list(pairs) == [("gn", "bn"), ("none", "bn"), ("none", "gn")]
    tested = scipy.stats.ttest_rel(_values(results, "none"), _values(results, "gn"))
    expected = tested.confidence_interval(1 - 0.05 / 3)
    numbers = [float(n.replace("−", "-")) for n in re.findall(r"[+−]?[\d.]+", pairs["none", "gn"])]
    assert numbers[1:] == pytest.approx([100 * expected.low, 100 * expected.high], abs=0.051)
    assert "### All pairs" in report.markdown.read_text()


@pytest.mark.xdist_group("browser")
def test_wide_intervals_leave_the_chart_its_width(tmp_path: Path, open_page: OpenPage) -> None:
    folder = make_study(tmp_path / "s", arms=("bn", "gn", "none"), seeds=2)
    with (folder / "study.toml").open("a") as opened:
        opened.write('\n[verdict]\nreference = "bn"\nmargin = 40.0\n')
    page, watch = open_page(write_report(read_results(folder)).html, 400)
    assert min(widths(page)) > 100
    assert watch.complaints == []


@pytest.mark.xdist_group("browser")
def test_no_number_is_cut_off_on_a_laptop(tmp_path: Path, open_page: OpenPage) -> None:
    arms = {
        f"{norm},batch_size={size}": {"norm": norm, "batch_size": size}
        for norm in ("torch_bn", "my_package.norms:AdaptiveNorm2d")
        for size in (8, 128)
    }
    folder = make_study(tmp_path / "s", arms=arms, seeds=12, predictions=True)
    page, _ = open_page(write_report(read_results(folder)).html, 1280)
    table = page.locator("[aria-labelledby=h-sure]")
    assert table.evaluate("element => element.scrollWidth <= element.clientWidth")
    assert "AdaptiveNorm2d" in table.inner_text()


def test_an_arm_alone_has_no_such_section(tmp_path: Path) -> None:
    report = write_report(read_results(make_study(tmp_path / "s", arms=("bn",))))
    assert 'id="h-comparisons"' not in report.html.read_text()
    assert "differences.svg" not in {path.name for path in report.figures}
