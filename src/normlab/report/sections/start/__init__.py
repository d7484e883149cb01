"""Start: what a conversion lost of trained networks, and how long training takes to bring it
back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pages.tables import markdown_text
from ...context import Report
from ...section import FolderSection
from .lost import Starts, starts


class StartSection(FolderSection):
    """A table; nothing where no run started from trained weights."""

    heading = "What the start lost, and what brought it back"

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """The table, and what it is about."""
        found = _found(report)
        if found is None:
            return None
        return {
            "explained": found.explained(),
            "table": found.table().html("sure"),
            "notes": found.notes(),
        }

    def markdown(self, report: Report) -> Sequence[str]:
        """The same table."""
        found = _found(report)
        if found is None:
            return ()
        said = "\n".join(f"- {markdown_text(note)}" for note in found.notes())
        return (*map(markdown_text, found.explained()), found.table().markdown(), said)


def _found(report: Report) -> Starts | None:
    return report.results.once("starts", lambda: starts(report))
