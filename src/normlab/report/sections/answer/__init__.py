"""The answer of a study, before everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pages.tables import markdown_text
from ...context import Report
from ...numbers import margin
from ...section import FolderSection
from .sentences import Answer, answer


class AnswerSection(FolderSection):
    """The headline, a sentence per comparison, and how far to trust them."""

    heading = "The answer"

    def context(self, report: Report) -> Mapping[str, Any]:
        """The sentences."""
        found = answer(report)
        # Of many comparisons, those that are decided are what one came for.
        folded = [one for one in found.comparisons if report.many and not one.verdict.decided]
        return {
            "answer": found,
            "shown": [one for one in found.comparisons if one not in folded],
            "folded": folded,
            "margin": margin(report.judgement.rule.margin),
            "compared": bool(report.judgement.comparisons),
        }

    def markdown(self, report: Report) -> Sequence[str]:
        """The sentences: the headline in bold, the comparisons as a list."""
        return _markdown(answer(report))


def _markdown(found: Answer) -> list[str]:
    said = found.comparisons if len(found.comparisons) > 1 else ()
    blocks = [f"**{markdown_text(found.headline)}**"]
    if said:
        blocks.append("\n".join(f"- {markdown_text(one.sentence)}" for one in said))
    blocks += [markdown_text(warning) for warning in found.warnings]
    if found.sure:
        blocks.append(" ".join(map(markdown_text, found.sure)))
    return blocks
