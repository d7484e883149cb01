"""What the data check found: whether the images can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...context import Report
from ...data_findings import LIMITED
from ...section import FolderSection


class DataCheckSection(FolderSection):
    """The findings, worst first."""

    heading = "Data check"

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """The findings; None for a study without a check."""
        return None if report.findings is None else {"found": report.findings, "limits": LIMITED}
