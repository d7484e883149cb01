"""Cost and accuracy: what a training step of each arm takes in time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...context import Report
from ...section import FolderSection, TableFile
from ...vega import Figure, for_page, on_paper
from .cost_chart import bounds, chart_label, rows, spec
from .costs import cost_table, notes

FIGURE = "accuracy-by-cost"
LATEX = "cost.tex"


class CostSection(FolderSection):
    """The table, and the chart where runs recorded their time."""

    heading = "Cost and accuracy"

    def context(self, report: Report) -> Mapping[str, Any]:
        """The table, and the chart in words."""
        return {
            "table": cost_table(report.results).html("cost"),
            "notes": notes(report.results),
            "label": chart_label(rows(report.results)),
            "file": f"figures/{FIGURE}",
        }

    def payload(self, report: Report) -> dict[str, Any] | None:
        """A point per arm; None where no run recorded its time."""
        found = rows(report.results)
        if not found:
            return None
        return {"rows": found, "bounds": bounds(found), "spec": for_page(spec(report.results))}

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """The chart."""
        found = rows(report.results)
        return {FIGURE: on_paper(spec(report.results), found)} if found else {}

    def tables(self, report: Report) -> Sequence[TableFile]:
        """The table for papers."""
        table = cost_table(report.results)
        return (TableFile.latex(LATEX, table, "time and memory"),)

    def markdown(self, report: Report) -> Sequence[str]:
        """The table and its notes."""
        return (cost_table(report.results).markdown(),)
