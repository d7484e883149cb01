"""What a terminal shows of a report: the table, one line per verdict, one per finding."""

from __future__ import annotations

from rich.console import RenderableType

from ..results import Results
from . import answer, tables, tuned
from .data_findings import data_findings


def table(results: Results, width: int) -> RenderableType:
    return tables.terminal_table(results, width)


def verdict_lines(results: Results) -> list[str]:
    return [*answer.terminal_lines(results), *tuned.terminal_lines(results)]


def finding_lines(results: Results) -> list[str]:
    found = data_findings(results)
    return [] if found is None else found.sentences()
