"""The table in every form: exact numbers, nothing left out, nothing ranked."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from normlab.report import ReportFiles, scores_table
from normlab.report.terminal import table
from normlab.results import Results, read_results

from .conftest import ODD
from .folders import ARMS, make_study

SPLITS = ("train", "val", "test")
METRICS = ("accuracy", "micro_f1", "macro_f1")


def _expected(results: Results, arm: str) -> list[str]:
    """Cells of an arm from run.json alone, by other means than the package's."""
    cells = []
    for split in SPLITS:
        for metric in METRICS:
            values = 100 * np.array(
                [
                    run.record["metrics"][split][metric]
                    for run in results.runs
                    if run.arm == arm and run.record["metrics"]
                ]
            )
            if len(values) == 0:
                cells.append("–")
            elif len(values) == 1:
                cells.append(f"{values[0]:.1f}")
            else:
                cells.append(f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}")
    return cells


def _markdown_rows(text: str) -> dict[str, list[str]]:
    found = {}
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found[cells[0].strip("`").strip()] = cells[1:]
    return found


def _latex_rows(text: str) -> dict[str, list[str]]:
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    found = {}
    for line in body.strip().splitlines():
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        found[cells[0].strip()] = [cell.strip() for cell in cells[1:]]
    return found


def _terminal(results: Results, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(table(results, width))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_csv_has_every_number_in_full(main_study: Results, main_report: ReportFiles) -> None:
    with main_report.csv.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 7 * 3 * 3
    for row in rows:
        run = next(r for r in main_study.runs if (r.arm, str(r.seed)) == (row["arm"], row["seed"]))
        for name in ("loss", *METRICS):
            assert float(row[name]) == run.record["metrics"][row["split"]][name]


def test_markdown_numbers(main_study: Results, main_report: ReportFiles) -> None:
    text = main_report.markdown.read_text(encoding="utf-8")
    assert text.startswith(f"# {main_study.question['title']}\n")
    assert scores_table(main_study).markdown() in text
    found = _markdown_rows(text.split("\n## Results")[1].split("\n## ")[0])
    assert list(found)[2:] == list(ARMS)
    for arm in ARMS:
        assert found[arm] == [*_expected(main_study, arm), "3"]


def test_latex_numbers(main_study: Results, main_report: ReportFiles) -> None:
    text = main_report.latex.read_text(encoding="utf-8")
    assert r"\usepackage{booktabs}" in text
    found = _latex_rows(text)
    assert len(found) == 7
    for arm in ARMS:
        cells = [cell.replace(r"$\pm$", "±") for cell in found[arm.replace("_", r"\_")]]
        assert cells == [*_expected(main_study, arm), "3"]


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_terminal_fits(main_study: Results, width: int) -> None:
    lines = _terminal(main_study, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for arm in ARMS:
        rows = [line for line in lines if line.split()[:1] == [arm] and "±" in line]
        assert len(rows) == (1 if width >= 120 else 3)
        found = re.findall(r"[\d.]+ ± [\d.]+", " ".join(rows))
        assert found == _expected(main_study, arm)


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_with_odd_names_and_runs_that_failed(
    odd_study: Results, hurt_study: Results, width: int
) -> None:
    for results in (odd_study, hurt_study):
        assert max(map(len, _terminal(results, width))) <= width
    assert "[red]bn[blink]" in "".join(_terminal(odd_study, width))


def test_runs_without_a_model_are_shown(hurt_study: Results) -> None:
    forms = {
        "markdown": scores_table(hurt_study).markdown(),
        "latex": scores_table(hurt_study).latex(),
        "html": str(scores_table(hurt_study).html()),
        "terminal": " ".join(" ".join(_terminal(hurt_study, 130)).split()),
    }
    for name, text in forms.items():
        for said in ("1 (2 of 3 diverged)", "0 (3 of 3 diverged)", "2 (1 of 3 interrupted)",
                     "2 (1 of 3 not run)"):  # fmt: skip
            assert said in text, name
        if name in ("markdown", "latex"):
            assert "seed 1 diverged at step 97, seed 2 diverged at step 101" in text, name
            assert "seed 2 not run yet" in text, name
    rows = _markdown_rows(forms["markdown"])
    assert rows["none"][:9] == ["–"] * 9
    assert rows["gn"][:9] == _expected(hurt_study, "gn")
    assert "±" not in "".join(rows["gn"])


def test_one_seed_has_no_spread(study_folder: Path) -> None:
    results = read_results(make_study(study_folder, arms=("bn", "gn"), seeds=1))
    text = scores_table(results).markdown()
    assert "±" not in text
    assert "at least two seeds" in text
    assert _markdown_rows(text)["bn"] == [*_expected(results, "bn"), "1"]


def test_nothing_is_ranked(main_study: Results) -> None:
    for text in (
        scores_table(main_study).markdown(),
        scores_table(main_study).latex(),
        str(scores_table(main_study).html()),
    ):
        assert not re.search(r"\bbest\b|winner|rank|\*\*|textbf|<strong|<b>", text, re.IGNORECASE)


def test_notes_say_what_the_numbers_are(main_study: Results) -> None:
    text = scores_table(main_study).markdown()
    assert "micro F1 equals accuracy" in text
    assert "weights that validation chose" in text
    assert "PyTorch's own batch normalization: the reference" in text
    assert "10.3 % of the test images" in text  # 28 of 271


def test_markdown_with_odd_names(odd_study: Results) -> None:
    lines = [
        line for line in scores_table(odd_study).markdown().splitlines() if line.startswith("|")
    ]
    assert len(lines) == 2 + len(ODD)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {12}


def test_latex_with_odd_names(odd_study: Results) -> None:
    text = scores_table(odd_study).latex()
    rows = _latex_rows(text)
    assert {len(cells) for cells in rows.values()} == {10}
    names = list(rows)
    assert names[1] == (r"a\textbar{}b \& `c` 100\% \#1 \textasciitilde{}\textasciicircum{}\{x\}")
    assert names[2] == r"\_my\_.module:Layer:groups=4"
    commented = [line for line in text.split(r"\begin{tabular}")[0].splitlines() if line]
    assert all(line.startswith("%") for line in commented)


def test_html_with_odd_names(odd_study: Results) -> None:
    text = str(scores_table(odd_study).html())
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert 'scope="row"' in text
    assert 'scope="colgroup"' in text


def test_long_names_of_a_grid_fit(study_folder: Path) -> None:
    arms = {
        f"{norm},batch_size={size},shortcut=B": {"norm": norm, "batch_size": size, "shortcut": "B"}
        for norm in ("bn", "gn:groups=4", "a_package.of_mine:MyOwnNormalization2d:groups=4")
        for size in (8, 128)
    }
    results = read_results(make_study(study_folder, arms=arms, seeds=2, epochs=2))
    for width in (80, 120):
        lines = _terminal(results, width)
        assert max(map(len, lines)) <= width
        assert sum("±" in line for line in lines) >= 3 * len(arms)


def test_markdown_ends_with_the_command_and_limits(main_report: ReportFiles) -> None:
    text = main_report.markdown.read_text(encoding="utf-8")
    repeat, limits = text.split("\n## How to repeat it\n")[1].split("\n## Limits\n")
    assert "One learning rate (0.02) is shared by all arms" in limits
    assert "```\nnormlab compare norms --data digits\n```" in repeat
    assert "torch 2.13.0" in repeat
