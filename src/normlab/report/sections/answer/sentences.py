"""The answer of a study in sentences, each made from the evidence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ....pages.words import counted, listed
from ....results.statistics import Interval, Judgement, PairedComparison, Verdict
from ....results.statistics.verdict import verdict
from ....runs import FIELDS
from ...context import Report
from ...numbers import bracket, margin, places, points, seeds_range, signed

NO_VERDICT = "no verdict"


@dataclass(frozen=True)
class Said:
    """One comparison in words; ``label`` is its verdict, or "no verdict" where none can be."""

    arm: str
    reference: str
    label: str
    sentence: str


@dataclass(frozen=True)
class Answer:
    """What a study answers.

    Attributes:
        headline: all of it in a sentence.
        comparisons: one per arm, in the order asked.
        sure: how far to trust it, in plain sentences.
        warnings: what speaks against it.
    """

    headline: str
    comparisons: tuple[Said, ...]
    sure: tuple[str, ...]
    warnings: tuple[str, ...]


def answer(report: Report) -> Answer:
    """The answer of a study."""
    judgement = report.judgement
    said = tuple(_said(judgement, found) for found in judgement.comparisons)
    return Answer(
        _headline(report), said, tuple(_sure(report)), tuple(warnings(report)),
    )  # fmt: skip


def label(found: PairedComparison) -> str:
    """The verdict of a comparison, or that there is none."""
    return NO_VERDICT if found.interval is None else str(found.verdict)


def _headline(report: Report) -> str:
    judgement = report.judgement
    comparisons = judgement.comparisons
    if len(report.arms) == 1:
        return f"{report.arms[0]} was run alone, so there is nothing to compare it with."
    if not comparisons:
        return (
            "No two arms of this study can be compared: no arm has the same other settings as "
            "the reference."
        )
    if len(comparisons) == 1:
        return _said(judgement, comparisons[0]).sentence
    if all(found.interval is None for found in comparisons):
        return _no_interval(judgement, _reference(report))
    return _tally(judgement, _reference(report))


def _no_interval(judgement: Judgement, reference: str) -> str:
    """Why no comparison has an interval."""
    if not judgement.seeds and judgement.rule.looks:
        return (
            f"No verdict yet: the first look is at {judgement.rule.looks[0]} seeds, and not all "
            "of their runs have ended."
        )
    if len(judgement.seeds) > 1:
        lost = judgement.comparisons[0].lost[1]
        why = f": {len(lost)} of its {len(judgement.seeds)} runs diverged" if lost else ""
        return f"There is no answer: no arm shares two completed seeds with {reference}{why}."
    return (
        "A single run per arm cannot answer this: any difference to "
        f"{reference} could be chance. Two seeds give an interval, five a useful one."
    )


def _tally(judgement: Judgement, reference: str) -> str:
    """How many arms got which verdict."""
    many = len(judgement.comparisons)
    tally = Counter(found.verdict for found in judgement.comparisons)
    undecided = tally[Verdict.INCONCLUSIVE]
    seeds = counted(len(judgement.seeds), "seed")
    if undecided == many:
        return (
            f"{'Neither' if many == 2 else 'None'} of the {many} comparisons with {reference} is "
            f"conclusive with {seeds}."
        )
    names = {
        Verdict.BETTER: "better",
        Verdict.WORSE: "worse",
        Verdict.EQUIVALENT: f"equivalent within {margin(judgement.rule.margin)}",
    }
    if len(tally) == 1:
        every = "Both" if many == 2 else f"All {many}"
        found = names[judgement.comparisons[0].verdict]
        return f"{every} arms compared with {reference} are {found}."
    words = [
        f"{tally[kind]} {'is' if tally[kind] == 1 else 'are'} {text}"
        for kind, text in names.items()
        if tally[kind]
    ]
    if undecided:
        words.append(f"{undecided} {'is' if undecided == 1 else 'are'} inconclusive with {seeds}")
    return f"Of {many} arms compared with {reference}, {listed(words)}."


def _reference(report: Report) -> str:
    """The reference in words: an arm, or a layer at the same other settings."""
    reference = report.judgement.rule.reference
    if reference in report.question["arms"]:
        return reference
    others = [
        name.replace("_", " ")
        for name in report.question.get("varied", ())
        if name != "norm" and name in FIELDS
    ]
    return f"{reference} at the same {listed(others)}" if others else reference


def _said(judgement: Judgement, found: PairedComparison) -> Said:
    sentence = _sentence(judgement, found)
    lost = _lost(judgement, found)
    whole = f"{sentence} {lost}" if lost else sentence
    return Said(found.arm, found.reference, label(found), whole)


def _sentence(judgement: Judgement, found: PairedComparison) -> str:
    arm, reference, interval = found.arm, found.reference, found.interval
    if found.difference is None:
        return _without_difference(judgement, found)
    mean = found.difference.mean
    if interval is None:
        side = "above" if mean >= 0 else "below"
        apart = f"{points(mean)} points {side}" if points(mean) != "0.0" else "level with"
        return (
            f"{arm} is {apart} {reference} in the one seed that both completed, which could be "
            "chance."
        )
    digits = places(interval)
    if found.withheld:
        raw = verdict(interval, found.margin)
        to = "to" if raw is Verdict.EQUIVALENT else "than"
        return (
            f"{arm} is not called {raw} {to} {reference}, although the interval of the "
            f"difference is {bracket(interval)}: the seeds that are left were selected by not "
            "failing."
        )
    if found.verdict is Verdict.EQUIVALENT:
        return (
            f"{arm} is equivalent to {reference} within {margin(found.margin)}: the interval of "
            f"the difference is {bracket(interval)}."
        )
    if found.verdict in (Verdict.BETTER, Verdict.WORSE):
        size = f"{points(mean, digits)} points {found.verdict} than {reference}"
        return f"{arm} is {size} {_size_bracket(interval, digits)}."
    seeds = len(found.difference.seeds)
    return (
        f"{arm} compared with {reference} is inconclusive with {counted(seeds, 'seed')}: the "
        f"interval of the difference is {bracket(interval)}. {_needed(found, seeds)}."
    )


def _without_difference(judgement: Judgement, found: PairedComparison) -> str:
    arm, reference = found.arm, found.reference
    for name, lost in zip((arm, reference), found.lost, strict=True):
        if lost and len(lost) == len(judgement.seeds):
            every = "its only run" if len(lost) == 1 else f"all {len(lost)} runs"
            if name == arm:
                return f"{arm} diverged in {every}, so there is no accuracy to compare."
            return f"{arm} has nothing to be compared with: {reference} diverged in {every}."
    return f"No seed has been completed by both {arm} and {reference} yet."


def _size_bracket(interval: Interval, digits: int) -> str:
    """The interval without signs, as the sentence says the direction."""
    low, high = sorted((abs(interval.low), abs(interval.high)))
    return f"[{points(low, digits)}, {points(high, digits)}]"


def needed(found: PairedComparison) -> tuple[int | None, int | None]:
    """Between how many and how many seeds would decide an inconclusive comparison."""
    assert found.difference is not None
    small = abs(found.difference.mean) <= found.margin
    bounds = found.seeds_for_equivalence if small else found.seeds_to_see(found.difference.mean)
    assert bounds is not None
    return bounds


def _needed(found: PairedComparison, seeds: int) -> str:
    """What would decide it."""
    assert found.difference is not None
    mean = found.difference.mean
    if abs(mean) <= found.margin:
        purpose = f"to call them equivalent within {margin(found.margin)}, if they are"
    else:
        size = signed(mean, places(found.interval))
        purpose = f"to show a difference as large as this one ({size})"
    bounds = needed(found)
    low, high = bounds
    if low is not None and low <= seeds:
        if high is not None and high <= seeds:
            return f"About {seeds} seeds are needed {purpose}"
        most = "more than 10,000" if high is None else f"{high:,}"
        return f"A few more seeds may be enough, or up to {most} may be needed, {purpose}"
    text = seeds_range(bounds)
    if low is None or low == high:
        return f"{text[0].upper()}{text[1:]} seeds would be needed {purpose}"
    return f"Between {text.replace(' to ', ' and ', 1)} seeds would be needed {purpose}"


def _lost(judgement: Judgement, found: PairedComparison) -> str:
    """Which runs are missing from a difference that there is."""
    if found.difference is None:
        return ""
    parts = [
        f"{len(lost)} of {len(judgement.seeds)} runs of {name} diverged"
        for name, lost in zip((found.arm, found.reference), found.lost, strict=True)
        if lost
    ]
    if not parts:
        return ""
    left = counted(len(found.difference.seeds), "seed")
    return f"({listed(parts)}; the difference is over the {left} that both completed.)"


def _sure(report: Report) -> list[str]:
    judgement = report.judgement
    comparisons = [found for found in judgement.comparisons if found.interval is not None]
    if not comparisons:
        return []
    level = f"{100 * judgement.rule.level:g} %"
    asked = len(judgement.comparisons)
    said = [
        f"{'Both' if asked == 2 else f'All {asked}'} intervals hold simultaneously ({level})."
        if asked > 1
        else f"This is a {level} interval."
    ]
    visible = sorted(found.visible for found in comparisons if found.visible is not None)
    if visible:
        low, high = points(visible[0]), points(visible[-1])
        size = low if low == high else f"{low} to {high}"
        said.append(
            "With this many seeds and this spread, a true difference has to be at least "
            f"{size} points to be found in four out of five studies."
        )
    return said + _beyond(report, comparisons) + _looks(judgement)


def _looks(judgement: Judgement) -> list[str]:
    """Where in the plan of looks the study is."""
    looks = judgement.rule.looks
    if not looks:
        return []
    at = looks.index(len(judgement.seeds)) + 1 if len(judgement.seeds) in looks else 0
    further = [look for look in looks if look > len(judgement.seeds)]
    said = [
        f"Looks were fixed beforehand at {listed([str(look) for look in looks])} seeds, with the "
        f"error divided over looks and comparisons. This is look {at} of {len(looks)}."
    ]
    if judgement.settled:
        said.append("Everything is decided, so no seeds are added.")
    elif further:
        said.append(f"The next is at {further[0]} seeds (--until-decided).")
    else:
        said.append("It was the last: what is undecided stays undecided.")
    return said


def _beyond(report: Report, comparisons: list[PairedComparison]) -> list[str]:
    """Which verdicts hold for these test images and would not for others."""
    open_ = [
        found.arm
        for found in comparisons
        if found.verdict is not Verdict.INCONCLUSIVE
        and found.both is not None
        and verdict(found.both, found.margin) is not found.verdict
    ]
    if not open_:
        return []
    tests = report.data.get("images", {}).get("test")
    few = f" ({tests:,} here)" if tests else ""
    return [
        f"For other test images of the same kind, {listed(open_)} would be inconclusive. Deciding "
        f"that takes more test images{few}, not more seeds."
    ]


def warnings(report: Report, *, data: bool = True) -> list[str]:
    """What speaks against the verdicts.

    Args:
        report: the study.
        data: whether to mention invalid data.
    """
    judgement = report.judgement
    said = []
    if data and report.findings is not None and report.findings.invalid:
        said.append(f"{report.findings.summary} Read its findings before these verdicts.")
    rule = judgement.rule
    for stated in rule.before:
        said.append(
            f"The rule was changed after {counted(int(stated['runs']), 'run')} had ended: the "
            f"reference was {stated['reference']} and the margin {margin(stated['margin'] / 100)}. "
            "A rule that is chosen after seeing results can produce any verdict."
        )
    if rule.looked and not rule.looks:
        times = listed([str(seeds) for seeds in rule.looked])
        said.append(
            f"The study was judged with {times} seeds before more were added, without looks fixed "
            "beforehand. A false better or worse can appear in up to "
            f"{100 * judgement.error_bound:.0f} % of such studies instead of "
            f"{100 * (1 - rule.level):.0f} %."
        )
    if judgement.later:
        said.append(
            f"{counted(len(judgement.later), 'seed')} run since the last look "
            f"{'is' if len(judgement.later) == 1 else 'are'} left out of the verdicts until the "
            "next one."
        )
    return said
