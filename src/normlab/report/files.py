"""All files of a report, written into the study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import write_bytes, write_text
from ..pages.tables import markdown_text
from ..results import Results, answers
from ..runs.layout import RESULTS
from .context import Report
from .page import render
from .sections import SECTIONS


@dataclass(frozen=True)
class ReportFiles:
    """Where a report is.

    Attributes:
        folder: the study's.
        markdown: tables and sentences for people.
        html: the page, one file that needs nothing else.
        tables: LaTeX and CSV files.
        figures: PNG and SVG of every chart.
    """

    folder: Path
    markdown: Path
    html: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]

    @property
    def csv(self) -> Path:
        """Every number, one row per run and split."""
        return self.folder / RESULTS

    @property
    def latex(self) -> Path:
        """The table of results for papers."""
        return (self.folder / RESULTS).with_suffix(".tex")


def write_report(
    results: Results, *, all_pairs: bool = False, target: float | None = None
) -> ReportFiles:
    """Write tables, figures and the page of a study into its folder.

    Of the study only its own files are read, and no network is used. With ``all_pairs`` every two
    arms are compared too. ``target``, a share of 1, stands in for the study's own.

    Raises:
        InputError: the runs are trials, a file of the study is damaged, or one cannot be written.
    """
    complete = [run for run in results.runs if run.complete]
    if complete and all(run.metric("test", "accuracy") is None for run in complete):
        raise InputError(
            f"{results.folder} contains the trials of a tuning, which have no test metrics. They "
            "are in the report of the study that they belong to."
        )
    report, folder = Report(results, all_pairs, target), results.folder
    _read_all(report)
    tables, figures = [], []
    for section in SECTIONS:
        for table in section.tables(report):
            tables.append(folder / table.name)
            write_text(tables[-1], table.text)
        for name, (svg, png) in section.figures(report).items():
            for ending, content in ((".svg", svg.encode()), (".png", png)):
                figures.append(folder / "figures" / f"{name}{ending}")
                write_bytes(figures[-1], content)
    markdown, html = (folder / RESULTS).with_suffix(".md"), folder / "report.html"
    write_text(markdown, _markdown(report))
    write_text(html, render(report))
    return ReportFiles(folder, markdown, html, tuple(tables), tuple(figures))


def _read_all(report: Report) -> None:
    """Read what sections read from the study, so that damage is found before anything is
    written."""
    answers(report.results)
    for judgement in (report.judgement, *(tuning.judgement for tuning in report.tunings)):
        judgement.settled  # noqa: B018 - made for its reading
    for tuning in report.tunings:
        tuning.shared_judgement  # noqa: B018
    report.unfinished_tunings  # noqa: B018


def _markdown(report: Report) -> str:
    """results.md, section by section."""
    blocks = [f"# {markdown_text(report.title)}"]
    for section in SECTIONS:
        own = section.markdown(report)
        if own:
            blocks += [f"## {markdown_text(section.title(report))}", *own]
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"
