"""Studies that vary more than the layer: charts a layer, charts against the setting, features."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from normlab.report import ReportFiles, setting_chart, write_report
from normlab.report.sections import percentiles
from normlab.report.sections.curves import curve_chart
from normlab.report.sections.limits import limits
from normlab.report.styles import CATALOGUE
from normlab.results import Results, read_results

from .folders import make_study, stop_early
from .test_browser import VAL, OpenPage, _strokes, _wait_for_strong

SIZES = (8, 32, 128)
ARMS = {
    f"{norm},batch_size={size}": {"norm": norm, "batch_size": size}
    for norm in ("bn", "gn")
    for size in SIZES
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("grid") / "study"
    ends = {("gn,batch_size=8", 1): "diverged at step 9"}
    return read_results(make_study(folder, arms=ARMS, ends=ends, features=True))


@pytest.fixture(scope="module")
def report(grid: Results) -> ReportFiles:
    return write_report(grid)


def test_each_layer_has_its_own_charts(report: ReportFiles) -> None:
    names = {path.name for path in report.figures}
    for quantity in ("loss", "accuracy", "micro-f1", "macro-f1"):
        for split in ("train", "val"):
            for suffix in ("", "-bn", "-gn"):
                assert f"{quantity}-{split}{suffix}.svg" in names
    svg = (report.html.parent / "figures/accuracy-val-gn.svg").read_text()
    assert "gn,batch_size=8" in svg
    assert "bn,batch_size=8" not in svg
    assert {"accuracy-test-by-batch-size.png", "features.png"} <= names


def test_seven_layers_alone_have_no_charts_of_their_own(main_report: ReportFiles) -> None:
    names = {path.stem for path in main_report.figures if not path.stem.startswith("confusion-")}
    assert len(names) == 12
    assert not any(name.endswith(("-bn", "-gn", "-none")) for name in names)


def test_accuracy_against_the_setting(grid: Results) -> None:
    assert setting_chart.settings(grid) == ["batch_size"]
    found = setting_chart.rows(grid, "batch_size")
    for arm, fields in ARMS.items():
        runs = [run.metric("test", "accuracy") for run in grid.of_arm(arm) if run.complete]
        points = [row for row in found if row["arm"] == arm]
        assert {row["x"] for row in points} == {fields["batch_size"]}
        assert {row["line"] for row in points} == {fields["norm"]}
        (mean,) = (row["value"] for row in points if row["mean"])
        assert mean == pytest.approx(100 * statistics.fmean(v for v in runs if v is not None))
        assert len(points) == len(runs) + 1
    axis = setting_chart.spec(grid, "batch_size")["layer"][0]["encoding"]["x"]
    assert axis["scale"]["type"] == "log"
    assert axis["axis"]["values"] == [8, 32, 128]


def test_features_are_means_over_seeds(grid: Results) -> None:
    rows = percentiles.rows(grid, "bn,batch_size=8")
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    # Seeds 0, 1, 2 were lifted by as much.
    assert rows[3]["p99"] == pytest.approx(4 + 1)
    assert rows[3]["p20"] == pytest.approx(0.4)
    assert percentiles.highest(grid) == pytest.approx(8 + 5 + 1)


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_of_a_grid(open_page: OpenPage, report: ReportFiles, width: int) -> None:
    page, watch = open_page(report.html, width, "dark")
    assert watch.requests == [report.html.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("[data-features] svg").count() == 6
    assert len(_strokes(page, VAL)) == 6
    page.get_by_role("button", name="only gn").click()
    _wait_for_strong(page, 3)
    assert page.locator("[data-panel]:visible").count() == 3
    assert page.locator("input[data-arm^=bn]:checked").count() == 0

    chart = page.locator("[data-setting=batch_size]")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    assert re.fullmatch(r"gn,batch_size=128\s+seed \d [\d.]+ %", tip.inner_text())
    panel = page.locator("[data-features='gn,batch_size=32']")
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_function("document.querySelector('.tip').textContent.includes('99 %')")
    assert re.search(r"epoch 8\s+99 % 13\.0", tip.inner_text())
    assert watch.complaints == []


def test_limits_say_what_is_so_of_budget_and_rate(tmp_path: Path) -> None:
    plain = make_study(tmp_path / "plain", arms=ARMS)
    said = " ".join(limits(read_results(plain)))
    assert "train for the same number of epochs" in said
    assert "rate is the same for every batch size" in said
    arms = {
        f"bn,batch_size={b},budget={k},lr_scaling={r}": {
            "norm": "bn", "batch_size": b, "budget": k, "lr_scaling": r,
        }
        for b in (8, 32) for k in ("epochs", "updates") for r in ("none", "linear")
    }  # fmt: skip
    said = " ".join(limits(read_results(make_study(tmp_path / "varied", arms=arms))))
    for untrue in ("same number of epochs", "is the same for every batch", "One learning rate"):
        assert untrue not in said


def test_means_end_where_patience_ended_a_run(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", arms=("bn",), features=True)
    stop_early(folder / "runs/bn/seed-1", 5)
    results = read_results(folder)
    (mean,) = (line for line in curve_chart.lines(results) if line.seed is None)
    assert mean.epochs == (1, 2, 3, 4, 5)
    assert [row["epoch"] for row in percentiles.rows(results, "bn")] == [1, 2, 3, 4, 5]


def test_lines_against_a_setting_have_the_colour_of_their_layer(tmp_path: Path) -> None:
    arms = {
        f"gn:groups={g},batch_size={b}": {"norm": f"gn:groups={g}", "batch_size": b}
        for g in (1, 2, 4, 8, 16, 32) for b in SIZES
    }  # fmt: skip
    drawn = setting_chart.lines(read_results(make_study(tmp_path / "s", arms=arms)), "batch_size")
    assert len({(style.light, style.dash) for style in drawn.values()}) == 6
    plain = setting_chart.lines(read_results(make_study(tmp_path / "t", arms=ARMS)), "batch_size")
    assert plain["gn"] == CATALOGUE["gn"]
