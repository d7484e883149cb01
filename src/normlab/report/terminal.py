"""What a terminal says of a study: the table, one line per verdict, one per finding.

Explanations are on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..pages.words import counted, listed
from ..results import Results
from ..results.statistics import PairedComparison, Verdict
from ..results.trends import at_chance
from ..runs.rule import LEAST_SEEDS
from .context import Report
from .numbers import bracket, places, seeds_range, signed
from .sections.answer.sentences import answer, needed, not_run, warnings
from .sections.sanity.conclusions import conclusions
from .sections.scores import scores_table
from .sections.tuned.shared_and_tuned import changes, rests_on, title, unfinished, value

if TYPE_CHECKING:
    from rich.console import RenderableType

_GAP = "  "


def table(results: Results, width: int) -> RenderableType:
    """The table of results for a terminal of ``width`` columns, without its notes."""
    return scores_table(results).terminal(width)


def verdict_lines(results: Results) -> list[str]:
    """One line per comparison, after a headline where there are several; then one per tuned
    setting and per arm that was checked to be the same function as its reference."""
    report = Report(results)
    comparisons = report.judgement.comparisons
    said = [] if len(comparisons) == 1 else [answer(report).headline]
    said += _aligned([_cells(report, found) for found in comparisons])
    said += filter(None, [not_run(report)])
    return said + _tuned_lines(report) + _sanity_lines(results)


def finding_lines(results: Results) -> list[str]:
    """One line per finding of the data check that is not fine, and one per warning."""
    report = Report(results)
    found = report.findings.troubles if report.findings is not None else ()
    blind = at_chance(results)
    return [
        *(f"{finding.level.capitalize()}: {finding.sentence}" for finding in found),
        *(f"Warning: {said}" for said in warnings(report, data=False)),
        *([f"Warning: {blind}"] if blind else []),
    ]


def _cells(report: Report, found: PairedComparison) -> tuple[str, ...]:
    """Arm, verdict, difference, and what would decide it or what is missing."""
    alone = len(report.judgement.comparisons) == 1
    arm = f"{found.arm} against {found.reference}" if alone else found.arm
    if found.difference is None:
        return arm, found.verdict, "", _lost(found) or "no seed that both completed"
    digits = places(found.interval)
    size = signed(found.difference.mean, digits)
    if found.interval is None:
        missing = LEAST_SEEDS - len(found.difference.seeds)
        few = f"needs {counted(missing, 'more seed')}"
        return arm, found.verdict, size, "; ".join(filter(None, (few, _lost(found))))
    between = f"{size} {bracket(found.interval, digits)}"
    return (
        arm,
        found.verdict,
        between,
        "; ".join(
            filter(None, (_seeds(report, found), _images(found), _needed(found), _lost(found)))
        ),
    )


def _seeds(report: Report, found: PairedComparison) -> str:
    """With how many seeds it was decided, where others were with another number."""
    at = {len(other.seeds) for other in report.judgement.comparisons}
    if len(at) == 1 or not found.settled:
        return ""
    return f"decided with {counted(len(found.seeds), 'seed')}"


def _images(found: PairedComparison) -> str:
    """Whether a verdict speaks for these test images alone."""
    return "not clear on other images" if found.local else ""


def _needed(found: PairedComparison) -> str:
    """How many seeds would decide an inconclusive comparison."""
    if found.verdict is not Verdict.INCONCLUSIVE:
        return ""
    assert found.difference is not None
    seeds, (low, high) = len(found.difference.seeds), needed(found)
    if found.general and high is None:
        if low is None:
            return "needs more images"
        return f"needs at least {f'{low:,}' if low > seeds else 'a few more'} seeds"
    if low is None:
        return f"needs {seeds_range((low, high))} seeds"
    if low > seeds:
        span = seeds_range((low, high))
        return f"needs {span} seeds" if low == high else f"needs about {span} seeds"
    if high is not None and high <= seeds:
        return "needs a few more seeds"
    return f"needs up to {'more than 10,000' if high is None else f'{high:,}'} seeds"


def _lost(found: PairedComparison) -> str:
    """Which runs are missing."""
    asked = len(found.seeds)
    parts = []
    names = (found.arm, found.reference)
    for name, lost, end in zip(names, found.lost, found.ends, strict=True):
        if lost:
            many = f"all {counted(asked, 'run')}" if len(lost) == asked else (
                f"{len(lost)} of {counted(asked, 'run')}"
            )  # fmt: skip
            parts.append(f"{many} of {name} {end}")
    return listed(parts)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells with their columns below each other."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _tuned_lines(report: Report) -> list[str]:
    said = []
    for tuning in report.tunings:
        chosen = listed([f"{choice.arm} {value(choice.value)}" for choice in tuning.choices])
        later = rests_on(tuning)
        said.append(" ".join([f"Tuned {title(tuning)}: {chosen}.", changes(tuning), *later]))
    return said + [unfinished(found) for found in report.unfinished_tunings]


def _sanity_lines(results: Results) -> list[str]:
    endings = {
        "noise": "are the same function: noise, not a bug.",
        "bug": "are not the same function: a bug, not noise, if they were meant to be.",
        "undecided": "could not be checked to be the same function.",
    }
    return [
        f"{found.arm} and {found.reference} {endings[found.outcome]}"
        for found in conclusions(results)
    ]


__all__ = ["finding_lines", "table", "verdict_lines"]
