"""Time to target: how long arms train until validation accuracy is high enough."""

from __future__ import annotations

from collections.abc import Sequence

from ...context import Report
from ...section import TableFile, TableSection
from .times import TimeToTarget, time_to_target

CSV = "time-to-target.csv"


class TargetSection(TableSection):
    """A table; nothing where no target is stated and none can be chosen."""

    heading = "Time to target"

    def shown(self, report: Report) -> TimeToTarget | None:
        """When runs reached the target."""
        key = f"time to target {report.target}"
        return report.results.once(key, lambda: time_to_target(report))

    def tables(self, report: Report) -> Sequence[TableFile]:
        """Every run, when it reached the target."""
        found = self.shown(report)
        if found is None:
            return ()
        return (TableFile(CSV, found.csv(), "when each run reached the target"),)
