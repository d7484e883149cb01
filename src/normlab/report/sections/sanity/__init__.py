"""Bug or noise: arms that were checked to be the same function as a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pages.tables import markdown_text
from ...context import Report
from ...section import FolderSection
from .conclusions import Conclusion, conclusions


class SanitySection(FolderSection):
    """A conclusion per arm, with the evidence."""

    heading = "Bug or noise?"

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """The conclusions; None where nothing was checked."""
        found = conclusions(report.results)
        return {"conclusions": found} if found else None

    def markdown(self, report: Report) -> Sequence[str]:
        """The conclusions."""
        return [block for said in conclusions(report.results) for block in _markdown(said)]


def _markdown(said: Conclusion) -> list[str]:
    return [
        f"### Is {markdown_text(said.arm)} the same as {markdown_text(said.reference)}?",
        f"**{markdown_text(said.conclusion)}**",
        markdown_text(said.function),
        *map(markdown_text, said.trained),
        *([said.table.markdown()] if said.table else []),
    ]
