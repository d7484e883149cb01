"""All files of a report, written into the study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import write_bytes, write_text
from ..results import Results, write_results_csv
from . import (
    answer,
    charts,
    classes,
    cost,
    differences,
    feature_charts,
    limits,
    page,
    sanity,
    tables,
    tuned,
    value_charts,
)


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

    Only the study's own files are read, and no network is used. With ``all_pairs`` every two arms
    are compared too.

    Raises:
        InputError: the runs are trials, or a file cannot be written.
    """
    complete = [run for run in results.runs if run.complete]
    if complete and all(run.metric("test", "accuracy") is None for run in complete):
        raise InputError(
            f"{results.folder} holds the trials of a tuning, which have no test metrics; they are "
            "in the report of the study that they belong to"
        )
    folder = results.folder
    csv = write_results_csv(results)
    markdown, latex = folder / "results.md", folder / "results.tex"
    write_text(markdown, _markdown(results, all_pairs))
    write_text(latex, tables.latex_table(results))
    write_text(folder / "cost.tex", cost.latex(results))
    by_class = classes.latex(results)
    if by_class:
        write_text(folder / "f1-by-class.tex", by_class)
    if answer.judged(results).comparisons:
        write_text(folder / "comparisons.csv", differences.comparisons_csv(results))
        write_text(folder / "comparisons.tex", differences.latex(results))
    for name, text in tuned.latex(results).items():
        write_text(folder / name, text)
    figures = []
    drawn = {
        **charts.figures(results),
        **value_charts.figures(results),
        **feature_charts.figures(results),
        **classes.figures(results),
        **cost.figures(results),
        **tuned.figures(results),
        **differences.figures(results),
    }
    for name, (svg, png) in drawn.items():
        for path, content in (
            (folder / "figures" / f"{name}.svg", svg.encode()),
            (folder / "figures" / f"{name}.png", png),
        ):
            write_bytes(path, content)
            figures.append(path)
    where = folder / "report.html"
    write_text(where, page.render(results, all_pairs=all_pairs))
    return ReportFiles(csv, markdown, latex, where, tuple(figures))


def _markdown(results: Results, all_pairs: bool) -> str:
    """results.md, section by section."""
    return "".join(
        (
            tables.markdown_file(results, answer.markdown(results)),
            tuned.markdown(results),
            differences.markdown(results, all_pairs=all_pairs),
            sanity.markdown(results),
            classes.markdown(results),
            cost.markdown(results),
            limits.markdown(results),
        )
    )
