"""Start: what a conversion lost of trained networks, and how long training takes to bring it
back."""

from __future__ import annotations

from ...context import Report
from ...section import TableSection
from .lost import Starts, starts


class StartSection(TableSection):
    """A table; nothing where no run started from trained weights."""

    heading = "What the start lost, and what brought it back"

    def shown(self, report: Report) -> Starts | None:
        """What runs started from."""
        return report.results.once("starts", lambda: starts(report))
