"""Time and memory beside accuracy: from what the runs recorded, and told as that."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest

from normlab.files import write_json
from normlab.report import Report, ReportFiles, write_report
from normlab.report.sections.cost import CostSection, cost_chart
from normlab.report.sections.cost import costs as cost
from normlab.results import Results, read_results

from .folders import ARMS, make_study


def _times(run: Path, seconds: list[float]) -> None:
    """Put these seconds into the training rows of a history."""
    path = run / "history.csv"
    with path.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    left = iter(seconds)
    for row in rows:
        row["seconds"] = str(next(left)) if row["split"] == "train_running" else "100"
    with path.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def timed(tmp_path: Path) -> Path:
    """Two arms, two seeds, three epochs of 40 steps."""
    folder = make_study(tmp_path / "study", arms=("bn", "gn"), seeds=2, epochs=3)
    for arm, seed, seconds in (
        ("bn", 0, [9.0, 0.4, 0.4]), ("bn", 1, [9.0, 0.6, 0.5]),
        ("gn", 0, [0.8, 0.8, 0.8]), ("gn", 1, [1.2, 1.2, 1.2]),
    ):  # fmt: skip
        _times(folder / f"runs/{arm}/seed-{seed}", seconds)
    return folder


def test_times_are_relative_to_the_studys_reference_everywhere(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "s", arms=("bn", "gn"))
    with (folder / "study.toml").open("a") as opened:
        opened.write('\n[verdict]\nreference = "gn"\nmargin = 0.5\n')
    results = read_results(folder)
    report = write_report(results)
    texts = [
        report.html.read_text(), report.markdown.read_text(), (folder / "cost.tex").read_text(),
        cost.cost_table(results).markdown(),
    ]  # fmt: skip
    for text in texts:
        assert "time relative to gn" in text
        assert "time relative to bn" not in text
    assert [found.relative for found in cost.costs(results)][1] == 1


def test_bars_stay_within_what_can_be(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "s", arms=("bn",))
    for seed, share in enumerate((1.0, 0.9, 1.0)):
        path = folder / f"runs/bn/seed-{seed}/run.json"
        record = json.loads(path.read_text())
        record["metrics"]["test"]["accuracy"] = share
        write_json(path, record)
    _times(folder / "runs/bn/seed-1", [90.0] * 8)
    (row,) = cost_chart.rows(read_results(folder))
    assert row["y"] + (row["y"] - row["y_low"]) > 100 == row["y_high"]
    assert row["x_low"] == 0


def test_the_time_of_a_step(timed: Path) -> None:
    results = read_results(timed)
    assert [cost.step_milliseconds(run) for run in results.runs] == pytest.approx(
        [10, 15, 20, 30]
    )  # fmt: skip
    bn, gn = cost.costs(results)
    assert bn.step is not None
    assert gn.step is not None
    assert (bn.step.mean, bn.step.n) == (pytest.approx(12.5), 2)
    assert bn.step.sd == pytest.approx(statistics.stdev([10, 15]))
    assert (bn.relative, gn.relative) == (1, pytest.approx(2))
    assert [c.relative for c in cost.costs(results, "gn")] == [pytest.approx(0.5), 1]
    assert bn.accuracy == results.spread("bn", "test", "accuracy")


def test_runs_that_ended_otherwise_do_not_count(timed: Path) -> None:
    path = timed / "runs/gn/seed-1/run.json"
    record = {**json.loads(path.read_text()), "status": "diverged at step 9", "metrics": None}
    write_json(path, record)
    gn = cost.costs(read_results(timed))[1]
    assert gn.step is not None
    assert (gn.step.mean, gn.step.sd, gn.step.n) == (pytest.approx(20), None, 1)


def test_markdown_and_latex(timed: Path) -> None:
    results = read_results(timed)
    write_report(results)
    said = (timed / "results.md").read_text(encoding="utf-8").split("## Cost and accuracy")[1]
    row = next(line for line in said.splitlines() if line.startswith("| `gn`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == ["25.0 ± 7.1", "2.00 ×", "171,762", "2.5"]
    assert "time relative to bn" in said
    assert "with 2 processes side by side" in said
    tex = (timed / "cost.tex").read_text(encoding="utf-8")
    assert r"gn & " in tex
    assert r"25.0 $\pm$ 7.1 & 2.00 $\times$ & 171,762 & 2.5 \\" in tex
    body = [line for line in tex.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lrrrrr}"
    assert all(line.count(" & ") == 5 for line in body if line.endswith(r"\\"))
    table = cost.cost_table(results, "gn")
    assert "time relative to gn" in table.markdown()
    assert "time relative to gn" in table.latex()


def test_records_of_before_show_a_dash(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", arms=("bn",), seeds=1, epochs=1, memory=False)
    report = write_report(read_results(folder))
    text = report.markdown.read_text(encoding="utf-8")
    assert "| 171,754 | – |" in text
    assert "did not record it" in text
    assert "processes side by side" not in text
    assert r"171,754 & -- \\" in (folder / "cost.tex").read_text(encoding="utf-8")


def test_the_peak_of_a_gpu_is_a_column_of_its_own(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", arms=("bn", "gn"), seeds=1, epochs=1)
    path = folder / "runs/bn/seed-0/run.json"
    record = json.loads(path.read_text())
    write_json(path, {**record, "memory": {**record["memory"], "peak": 300 << 20}})
    text = cost.cost_table(read_results(folder)).markdown()
    assert "peak on the GPU (MiB)" in text
    assert text.count("| 300 |") == 1
    assert "| 2.5 | – |" in text


def test_the_notes_tell_implementations_apart(main_study: Results, timed: Path) -> None:
    assert any("torch_bn is one fused operation" in note for note in cost.notes(main_study))
    assert not any("torch_bn" in note for note in cost.notes(read_results(timed)))


def test_points_with_both_spreads(main_study: Results, main_report: ReportFiles) -> None:
    rows = cost_chart.rows(main_study)
    assert [row["arm"] for row in rows] == list(ARMS)
    for row in rows:
        accuracy = main_study.spread(row["arm"], "test", "accuracy")
        assert accuracy is not None
        assert accuracy.sd is not None
        assert row["y"] == pytest.approx(100 * accuracy.mean)
        assert row["y_high"] - row["y_low"] == pytest.approx(200 * accuracy.sd)
    names = {path.name for path in main_report.figures}
    assert {"accuracy-by-cost.svg", "accuracy-by-cost.png"} <= names
    low, high = cost_chart.bounds(rows)["x"]
    assert low == 0
    assert all(row["x_high"] < high for row in rows)


def test_no_times_no_chart(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", arms=("bn",), seeds=1, epochs=1)
    for path in folder.rglob("history.csv"):
        path.unlink()
    results = read_results(folder)
    assert CostSection().payload(Report(results)) is None
    assert CostSection().figures(Report(results)) == {}
    assert "| – | – |" in cost.cost_table(results).markdown()
    assert 'id="costs"' not in write_report(results).html.read_text(encoding="utf-8")


def test_a_dash_is_explained_by_what_is_missing(timed: Path) -> None:
    assert not [said for said in cost.notes(read_results(timed)) if "–" in said]
    for path in (timed / "runs/bn").glob("*/run.json"):
        record = {**json.loads(path.read_text()), "status": "diverged at step 9", "metrics": None}
        write_json(path, record)
    said = " ".join(cost.notes(read_results(timed)))
    assert "No run of bn is complete, so its row has only –." in said
    assert "No time is relative to bn, because the time of its runs is not known." in said
    assert "did not record" not in said
    assert "relative to" not in " ".join(cost.notes(read_results(timed), "gn"))


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ((), None),
        (("bn/seed-0", "bn/seed-1", "gn/seed-0", "gn/seed-1"), "All runs were made with"),
        (("gn/seed-0", "gn/seed-1"), "--save-memory was on for all runs of gn, and off for the"),
        (("bn/seed-0", "bn/seed-1", "gn/seed-1"), "on for all runs of bn and some runs of gn, and"),
    ],
)
def test_memory_that_was_saved_is_said(
    timed: Path, saved: tuple[str, ...], said: str | None
) -> None:
    for name in saved:
        path = timed / f"runs/{name}/run.json"
        record = json.loads(path.read_text())
        record["memory"]["kept_for_backward"] = 1_048_576
        write_json(path, {**record, "save_memory": True})
    results = read_results(timed)
    notes = " ".join(cost.notes(results))
    markdown = " ".join(write_report(results).markdown.read_text(encoding="utf-8").split())
    assert ("save-memory" in notes, "save-memory" in markdown) == (bool(said), bool(said))
    if said:
        assert said in notes
        assert said in markdown
        assert "Other layers keep the same." in notes
    mixed = bool(said) and "All" not in str(said)
    assert ("with and without it do not compare" in notes) == mixed
    assert ("of gn is that of the run which kept most" in notes) == ("some" in str(said))
