"""Tables, charts and the page of a study, from its folder alone.

Light to import: what draws and renders is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from . import answer, charts, feature_charts, sanity, tables, tuned, value_charts
    from .files import ReportFiles, write_report
    from .tables import html_table, latex_table, markdown_table, terminal_table

_HOME = {
    "ReportFiles": "files",
    "html_table": "tables",
    "latex_table": "tables",
    "markdown_table": "tables",
    "answer": "answer",
    "charts": "charts",
    "feature_charts": "feature_charts",
    "sanity": "sanity",
    "tables": "tables",
    "terminal_table": "tables",
    "tuned": "tuned",
    "value_charts": "value_charts",
    "write_report": "files",
}

__all__ = [
    "ReportFiles",
    "answer",
    "html_table",
    "latex_table",
    "markdown_table",
    "charts",
    "feature_charts",
    "sanity",
    "tables",
    "terminal_table",
    "tuned",
    "value_charts",
    "write_report",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
