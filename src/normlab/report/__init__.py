"""Tables, charts and the page of a study, from its folder alone.

Light to import: what draws and renders is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from . import terminal
    from .context import Report
    from .files import ReportFiles, write_report
    from .sections.scores import scores_table

_HOME = {
    "context": ("Report",),
    "files": ("ReportFiles", "write_report"),
    "sections.scores": ("scores_table",),
    "terminal": ("terminal",),
}

__all__ = ["Report", "ReportFiles", "scores_table", "terminal", "write_report"]

__getattr__, __dir__ = names_of(__name__, _HOME)
