"""All files of a report in one go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..files import write_text
from ..studies import Results, write_results_csv
from . import tables


@dataclass(frozen=True)
class ReportFiles:
    """Where the files of a report are."""

    csv: Path
    markdown: Path
    latex: Path
    figures: tuple[Path, ...]
    html: Path


def write_report(results: Results) -> ReportFiles:
    """Write results.csv, results.md, results.tex, figures/ and report.html into the study.

    Raises:
        InputError: the folder cannot be written.
    """
    # Here, so that printing a table does not load the chart renderer.
    from .charts import write_figures
    from .page import write_page

    folder = results.folder
    write_text(folder / "results.md", tables.markdown_table(results))
    write_text(folder / "results.tex", tables.latex_table(results))
    return ReportFiles(
        csv=write_results_csv(results),
        markdown=folder / "results.md",
        latex=folder / "results.tex",
        figures=write_figures(results),
        html=write_page(results),
    )
