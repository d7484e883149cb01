"""Sections: a folder and a line in the tuple, and nothing else knows them by name."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import normlab.report
from normlab.files import write_json
from normlab.report import Report, ReportFiles, files, page, write_report
from normlab.report.context import title
from normlab.report.section import FolderSection, TableFile
from normlab.report.sections import SECTIONS
from normlab.results import Results, read_results
from normlab.results.statistics import judge

from .folders import make_study

HOME = Path(normlab.report.__file__).parent


def test_every_folder_is_a_section_and_the_other_way_round() -> None:
    folders = {path.parent.name for path in (HOME / "sections").glob("*/__init__.py")}
    names = [section.name for section in SECTIONS]
    assert sorted(names) == sorted(folders)
    for section in SECTIONS:
        assert section.template.strip(), section.name


@pytest.mark.parametrize(
    "name", ["page.py", "files.py", "templates/page.html.j2", "templates/page.js"]
)
def test_what_loops_over_sections_names_none(name: str) -> None:
    text = (HOME / name).read_text(encoding="utf-8")
    for section in SECTIONS:
        kind = type(section).__name__
        assert not re.search(rf"{kind}|sections[./]{section.name}\b|section-{section.name}", text)


class _OwnSection(FolderSection):
    """What somebody adds."""

    name = "own"  # type: ignore[assignment]
    template = "<p>{{ said }}</p>"  # type: ignore[assignment]
    script = "sections.own = () => [];"  # type: ignore[assignment]
    style = ".section-own p { color: inherit; }"  # type: ignore[assignment]

    def title(self, report: Report) -> str:
        return "Mine & yours"

    def context(self, report: Report) -> Mapping[str, Any]:
        return {"said": "<here>"}

    def payload(self, report: Report) -> Any:
        return {"arms": len(report.arms)}

    def tables(self, report: Report) -> Sequence[TableFile]:
        return (TableFile("own.csv", "a,b\n", "all of mine"),)

    def markdown(self, report: Report) -> Sequence[str]:
        return ("It is here.",)


def test_a_section_more_is_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = (*SECTIONS, _OwnSection())
    monkeypatch.setattr(page, "SECTIONS", more)
    monkeypatch.setattr(files, "SECTIONS", more)
    monkeypatch.setattr("normlab.report.sections.SECTIONS", more)
    folder = make_study(tmp_path / "s", arms=("bn",), seeds=1, epochs=1)
    report = write_report(read_results(folder))
    text = report.html.read_text(encoding="utf-8")
    assert '<h2 id="h-own">Mine &amp; yours</h2>' in text
    assert "<p>&lt;here&gt;</p>" in text
    assert ".section-own p" in text
    assert "sections.own = " in text
    assert '"own":{"arms":1}' in text
    assert '<a href="own.csv">own.csv</a>: all of mine' in text
    assert (folder / "own.csv").read_text() == "a,b\n"
    assert report.markdown.read_text().endswith("## Mine \\& yours\n\nIt is here.\n")


def test_the_list_of_files_has_every_table(main_report: ReportFiles) -> None:
    text = main_report.html.read_text(encoding="utf-8")
    names = {path.name for path in main_report.tables}
    assert names == {"results.csv", "results.tex", "comparisons.csv", "comparisons.tex",
                     "cost.tex", "f1-by-class.tex", "time-to-target.csv"}  # fmt: skip
    for name in names:
        assert f'<a href="{name}">' in text


def test_what_is_derived_is_derived_once(
    main_study: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = dataclasses.replace(main_study)
    calls = []
    monkeypatch.setattr(
        "normlab.report.context.judge", lambda of: calls.append(1) or judge(of, images=False)
    )
    assert Report(results).judgement is Report(results).judgement
    assert len(calls) == 1


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "s", arms=("bn", "gn"), seeds=2, predictions=True,
                        features=True)  # fmt: skip
    code = (
        "import sys; from normlab.report import terminal, write_report; "
        "from normlab.results import read_results; "
        f"results = read_results({str(folder)!r}); write_report(results, all_pairs=True); "
        "terminal.verdict_lines(results); terminal.finding_lines(results); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("stated", "arms", "said"),
    [
        ("Seven normalizations of one residual network", 7, "Seven normalizations of one"),
        ("Seven normalizations of one residual network", 3, "Three normalizations of one"),
        ("{arms} normalizations of one residual network", 1, "One normalization of one"),
        ("{arms} normalizations of one residual network", 12, "Twelve normalizations of one"),
        ("{arms} normalizations of one residual network", 13, "13 normalizations of one"),
        ("Seven samurai", 3, "Seven samurai"),
    ],
)
def test_the_title_says_what_was_run(
    main_study: Results, stated: str, arms: int, said: str
) -> None:
    fields = {f"gn:groups={index}": {"norm": f"gn:groups={index}"} for index in range(arms)}
    question = {**main_study.question, "title": stated, "arms": fields}
    assert title(dataclasses.replace(main_study, question=question)).startswith(said)


def test_a_layer_at_several_settings_counts_once(main_study: Results) -> None:
    fields = {f"{norm},lr={lr}": {"norm": norm, "lr": lr} for norm in ("bn", "gn") for lr in (1, 2)}
    question = {**main_study.question, "title": "{arms} layers", "arms": fields}
    assert title(dataclasses.replace(main_study, question=question)) == "Two layers"


def test_the_title_is_the_same_everywhere(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "s", arms=("bn", "gn", "none"), seeds=2, epochs=2)
    report = write_report(read_results(folder))
    said = "Three normalizations of one residual network"
    for path in (report.html, report.markdown, *report.tables):
        if path.suffix != ".csv":
            assert said in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "commands", [["normlab compare a", "normlab compare b --seeds 5 --data 'my <photos>'"], None]
)
def test_every_command_is_shown(tmp_path: Path, commands: list[str] | None) -> None:
    folder = make_study(tmp_path / "s", arms=("bn",), seeds=1, epochs=1)
    results = read_results(folder)
    if commands:
        question = {**results.question, "commands": commands}
        results = dataclasses.replace(results, question=question)
    report = write_report(results)
    shown = commands or ["normlab compare norms --data digits"]
    assert "```\n" + "\n".join(shown) + "\n```" in report.markdown.read_text(encoding="utf-8")
    html = report.html.read_text(encoding="utf-8")
    found = re.search(r"<pre[^>]*><code>(.*?)</code></pre>", html, re.DOTALL)
    assert found is not None
    assert len(found[1].split("\n")) == len(shown)
    assert "<photos>" not in html


def test_the_data_check_is_told(tmp_path: Path) -> None:
    finding = {"check": "copies", "level": "look at this", "sentence": "A & B.", "advice": "Look."}
    fine = {**finding, "level": "fine"}
    folder = make_study(tmp_path / "s", arms=("bn",), seeds=1, epochs=1)
    data = json.loads((folder / "data.json").read_text())
    for findings, said in (([], None), ([fine], "no problem"), ([fine, finding], "A &amp; B.")):
        write_json(folder / "data.json", {**data, "findings": findings})
        html = write_report(read_results(folder)).html.read_text(encoding="utf-8")
        assert ('id="h-data_check"' in html) == (said is not None)
        assert said is None or said in html


def test_layers_found_are_all_that_a_method_puts_into_a_network(study_folder: Path) -> None:
    make_study(study_folder, arms=("none", "ws"), seeds=1, epochs=1)
    path = study_folder / "runs/ws/seed-0/run.json"
    record = json.loads(path.read_text())
    parts = [{"name": f"c{i}", "layer": "HeStandardizedConv2d(weight_eps=1e-05)"} for i in range(3)]
    write_json(path, {**record, "parts": parts})
    text = page.render(Report(read_results(study_folder)))
    assert text.count("3 × <code>HeStandardizedConv2d(weight_eps=1e-05)</code>") == 1
