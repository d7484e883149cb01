"""What all sections of a report share: the results and what is derived from them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..results import Results, Tuning, UnfinishedTuning, read_tunings, unfinished_tunings
from ..results.statistics import Judgement, judge
from ..runs.title import shown_title
from .data_findings import DataFindings, data_findings
from .styles import MANY, Style, families, styles


@dataclass(frozen=True)
class Report:
    """A study on its way to being reported.

    Attributes:
        results: what was read from its folder.
        all_pairs: whether to compare every two arms too.
        target: a validation accuracy that this report is asked about, as a share of 1.
    """

    results: Results
    all_pairs: bool = False
    target: float | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Names in the order asked."""
        return self.results.arms

    @property
    def question(self) -> Mapping[str, Any]:
        """What study.toml says."""
        return self.results.question

    @property
    def data(self) -> Mapping[str, Any]:
        """What data.json says."""
        return self.results.data

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds asked."""
        found: Sequence[int] = self.question["seeds"]
        return found

    @cached_property
    def title(self) -> str:
        """The study's title, with the number of arms that were run."""
        return title(self.results)

    @property
    def judgement(self) -> Judgement:
        """Every arm compared with its reference; made once per results."""
        return self.results.once("judgement", lambda: judge(self.results))

    @property
    def reference(self) -> str | None:
        """The reference, where it is one arm."""
        named = self.judgement.rule.reference
        return named if named in self.arms else None

    @property
    def tunings(self) -> tuple[Tuning, ...]:
        """The tuned settings."""
        return read_tunings(self.results)

    @property
    def unfinished_tunings(self) -> tuple[UnfinishedTuning, ...]:
        """The settings whose tuning has nothing to show yet."""
        return unfinished_tunings(self.results)

    @cached_property
    def findings(self) -> DataFindings | None:
        """What the data check found; None for a study without one."""
        return data_findings(self.results)

    @cached_property
    def styles(self) -> dict[str, Style]:
        """How each arm is drawn."""
        return styles(self.results)

    @property
    def many(self) -> bool:
        """Whether there are too many arms to say everything of each at first sight."""
        return len(self.arms) > MANY

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """Groups of arms that one looks at alone."""
        return families(self.results)


def title(results: Results) -> str:
    """The study's title, with the number of normalizations that were run."""
    question = results.question
    stated = str(question.get("title") or results.folder.name)
    return shown_title(stated, str(question.get("what")), question["arms"])
