"""What the data check of a study found."""

from __future__ import annotations

from dataclasses import dataclass

from ..pages.findings import Finding, Level, troubles, worst
from ..results import Results

LIMITED = (
    "The check looked at the images that this study uses. normlab check-data looks at the whole "
    "source, and for near duplicates too."
)


@dataclass(frozen=True)
class DataFindings:
    """The findings that are not fine, worst first, and a sentence about all of them."""

    troubles: tuple[Finding, ...]
    summary: str

    @property
    def invalid(self) -> bool:
        """Whether one of them invalidates the study's numbers."""
        return any(finding.level is Level.INVALID for finding in self.troubles)

    def sentences(self) -> list[str]:
        """For tables: the summary, then each trouble with its level."""
        return [
            self.summary,
            *(f"{f.sentence} ({f.level.capitalize()}.)" for f in self.troubles),
        ]


def data_findings(results: Results) -> DataFindings | None:
    """None for a study without a data check."""
    recorded = results.data.get("findings")
    if not recorded:
        return None
    found = [Finding.read(finding) for finding in recorded]
    summary = {
        Level.FINE: "The data check found no problem.",
        Level.LOOK: "The data check found something to look at.",
        Level.INVALID: "The data check found a problem that invalidates these numbers.",
    }[worst(found)]
    return DataFindings(tuple(troubles(found)), summary)
