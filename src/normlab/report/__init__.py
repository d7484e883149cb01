"""Tables, charts and the page of a study, from its folder alone.

Light to import: what draws and renders is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import sanity, tables
    from .files import ReportFiles, write_report
    from .tables import html_table, latex_table, markdown_table, terminal_table

_HOME = {
    "ReportFiles": "files",
    "html_table": "tables",
    "latex_table": "tables",
    "markdown_table": "tables",
    "sanity": "sanity",
    "tables": "tables",
    "terminal_table": "tables",
    "write_report": "files",
}

__all__ = [
    "ReportFiles",
    "html_table",
    "latex_table",
    "markdown_table",
    "sanity",
    "tables",
    "terminal_table",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_HOME[name]}", __name__)
    return module if name == _HOME[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
