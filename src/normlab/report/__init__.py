"""Tables, charts and the page of a study, from its folder alone.

Light to import: what draws and renders is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import charts, feature_charts, sanity, tables, value_charts
    from .files import ReportFiles, write_report
    from .tables import html_table, latex_table, markdown_table, terminal_table

_HOME = {
    "ReportFiles": "files",
    "html_table": "tables",
    "latex_table": "tables",
    "markdown_table": "tables",
    "charts": "charts",
    "feature_charts": "feature_charts",
    "sanity": "sanity",
    "tables": "tables",
    "terminal_table": "tables",
    "value_charts": "value_charts",
    "write_report": "files",
}

__all__ = [
    "ReportFiles",
    "html_table",
    "latex_table",
    "markdown_table",
    "charts",
    "feature_charts",
    "sanity",
    "tables",
    "terminal_table",
    "value_charts",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_HOME[name]}", __name__)
    return module if name == _HOME[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
