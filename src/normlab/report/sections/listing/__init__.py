"""The files of the study: what the sections wrote, and what the runs left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...context import Report
from ...section import FolderSection

ALWAYS = (
    ("results.md", "tables and sentences in Markdown"),
    ("figures/", "every chart as PNG and SVG"),
    ("runs/", "every run: configuration, history, predictions, model"),
    ("study.toml", "what was asked"),
    ("data.json", "the data set"),
)


class ListingSection(FolderSection):
    """A link to every file."""

    heading = "Files next to this page"

    def context(self, report: Report) -> Mapping[str, Any]:
        """What every section says it wrote, then what is always there."""
        from .. import SECTIONS

        written = [
            (table.name, table.about) for section in SECTIONS for table in section.tables(report)
        ]
        return {"files": [*written, *ALWAYS]}
