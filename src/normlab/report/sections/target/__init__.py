"""Time to target: how long arms train until validation accuracy is high enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pages.tables import markdown_text
from ...context import Report
from ...section import FolderSection, TableFile
from .times import TimeToTarget, time_to_target

CSV = "time-to-target.csv"


class TargetSection(FolderSection):
    """A table; nothing where no target is stated and none can be chosen."""

    heading = "Time to target"

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

    def tables(self, report: Report) -> Sequence[TableFile]:
        """Every run, when it reached the target."""
        found = _found(report)
        if found is None:
            return ()
        return (TableFile(CSV, found.csv(), "when each run reached the target"),)

    def markdown(self, report: Report) -> Sequence[str]:
        """The same table."""
        found = _found(report)
        if found is None:
            return ()
        said = "\n".join(f"- {markdown_text(note)}" for note in found.notes())
        return (*map(markdown_text, found.explained()), found.table().markdown(), said)


def _found(report: Report) -> TimeToTarget | None:
    key = f"time to target {report.target}"
    return report.results.once(key, lambda: time_to_target(report))
