"""What the check of the data found, as it stands beside a study's table."""

from __future__ import annotations

from dataclasses import dataclass

from ..pages.findings import Finding, Level, troubles, worst
from ..results import Results

LIMITED = (
    "The check looked at the images this study uses. normlab check-data looks at all of the source "
    "and for near duplicates too."
)


@dataclass(frozen=True)
class DataFindings:
    """The findings that are not fine, worst first, and a sentence about all of them."""

    troubles: tuple[Finding, ...]
    summary: str

    @property
    def invalid(self) -> bool:
        return any(finding.level is Level.INVALID for finding in self.troubles)

    def sentences(self) -> list[str]:
        """For tables: the summary, then each trouble with its level."""
        return [
            self.summary,
            *(f"{f.sentence} ({f.level.capitalize()}.)" for f in self.troubles),
        ]


def data_findings(results: Results) -> DataFindings | None:
    """None for a study that was made without a check."""
    recorded = results.data.get("findings")
    if not recorded:
        return None
    found = [Finding.read(finding) for finding in recorded]
    summary = {
        Level.FINE: "The check of the data found nothing to object to.",
        Level.LOOK: "The check of the data found something to look at.",
        Level.INVALID: "The check of the data found what invalidates these numbers.",
    }[worst(found)]
    return DataFindings(tuple(troubles(found)), summary)
