"""Every arm compared with its reference: the chart and the numbers behind the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pages.tables import markdown_text
from ...context import Report
from ...numbers import margin
from ...section import FolderSection, TableFile
from ...vega import Figure, for_page, on_paper
from .difference_chart import chart_label, rows, spec
from .verdict_table import (
    comparisons_csv,
    comparisons_table,
    explained,
    pairs_note,
    pairs_table,
    paper_table,
)

FIGURE = "differences"
CSV, LATEX = "comparisons.csv", "comparisons.tex"
ABOUT = "differences, intervals and verdicts"


class ComparisonsSection(FolderSection):
    """Differences with their intervals; nothing where nothing is compared."""

    def title(self, report: Report) -> str:
        """Its heading names the reference."""
        return f"Difference to {_reference(report) or 'the reference'}"

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """The tables, and the chart in words."""
        judgement = report.judgement
        if not judgement.comparisons:
            return None
        table = comparisons_table(report)
        if _reference(report):
            table = table.only([i for i in range(len(table.columns)) if i != 1])
        return {
            "table": table.html("sure many"),
            "reference": _reference(report) or "its reference",
            "explained": explained(report),
            "folds": report.results.folds,
            "margin": margin(judgement.rule.margin),
            "label": chart_label(judgement) if rows(report) else "",
            "file": f"figures/{FIGURE}",
            "pairs": pairs_table(report).html("dense") if report.all_pairs else None,
            "pairs_note": pairs_note(report),
        }

    def payload(self, report: Report) -> dict[str, Any] | None:
        """Intervals and seeds in points."""
        found = rows(report)
        if not found:
            return None
        least = 100 * report.judgement.rule.margin
        return {"rows": found, "least": least, "spec": for_page(spec(report))}

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """The chart."""
        found = rows(report)
        return {FIGURE: on_paper(spec(report), found)} if found else {}

    def tables(self, report: Report) -> Sequence[TableFile]:
        """Every number, and a table for papers."""
        if not report.judgement.comparisons:
            return ()
        return (
            TableFile(CSV, comparisons_csv(report), f"{ABOUT} in full precision"),
            TableFile.latex(LATEX, paper_table(report), f"{ABOUT}, for papers"),
        )

    def markdown(self, report: Report) -> Sequence[str]:
        """The table and what its columns mean."""
        if not report.judgement.comparisons:
            return ()
        said = "\n".join(f"- *{name}*: {markdown_text(text)}." for name, text in explained(report))
        blocks = [comparisons_table(report).markdown(), said]
        if report.all_pairs:
            blocks += ["### All pairs", pairs_note(report), pairs_table(report).markdown()]
        return blocks


def _reference(report: Report) -> str:
    """The reference of all comparisons; empty where there are several."""
    found = {comparison.reference for comparison in report.judgement.comparisons}
    return found.pop() if len(found) == 1 else ""
