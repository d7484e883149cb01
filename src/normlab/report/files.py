"""All files of a report, written into the study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..files import write_bytes, write_text
from ..studies import Results, write_results_csv
from . import charts, feature_charts, page, sanity, tables, value_charts


@dataclass(frozen=True)
class ReportFiles:
    """Where a report lies.

    Attributes:
        csv: every number, one row a run and split.
        markdown, latex: the table for people and for papers.
        html: the page, one file that needs nothing else.
        figures: PNG and SVG of every chart.
    """

    csv: Path
    markdown: Path
    latex: Path
    html: Path
    figures: tuple[Path, ...]


def write_report(results: Results, *, all_pairs: bool = False) -> ReportFiles:
    """Write tables, figures and the page of a study into its folder.

    Only the study's own files are read, and no network is used.

    Raises:
        InputError: a file cannot be written.
    """
    folder = results.folder
    csv = write_results_csv(results)
    markdown, latex = folder / "results.md", folder / "results.tex"
    write_text(markdown, tables.markdown_file(results) + sanity.markdown(results))
    write_text(latex, tables.latex_table(results))
    figures = []
    drawn = {
        **charts.figures(results),
        **value_charts.figures(results),
        **feature_charts.figures(results),
    }
    for name, (svg, png) in drawn.items():
        for path, content in (
            (folder / "figures" / f"{name}.svg", svg.encode()),
            (folder / "figures" / f"{name}.png", png),
        ):
            write_bytes(path, content)
            figures.append(path)
    where = folder / "report.html"
    write_text(where, page.render(results))
    return ReportFiles(csv, markdown, latex, where, tuple(figures))
