"""Tables, charts and the page, from a study's folder alone."""

from . import tables
from .files import ReportFiles, write_report

__all__ = ["ReportFiles", "tables", "write_report"]
