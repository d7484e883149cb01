"""The answer of a study in sentences, each made from the evidence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..pages.words import counted, listed
from ..results import Results
from ..results.statistics import Judgement, PairedComparison, Verdict, judge
from ..results.statistics.verdict import verdict
from ..runs import FIELDS
from .data_findings import data_findings
from .numbers import bracket, margin, places, points, seeds_range, signed

LABELS = {
    Verdict.EQUIVALENT: "equivalent",
    Verdict.BETTER: "better",
    Verdict.WORSE: "worse",
    Verdict.INCONCLUSIVE: "inconclusive",
}


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
        comparisons: one an arm, in the order asked.
        sure: how far this is to be trusted, in plain sentences.
        warnings: what stands against it.
    """

    headline: str
    comparisons: tuple[Said, ...]
    sure: tuple[str, ...]
    warnings: tuple[str, ...]


def judged(results: Results) -> Judgement:
    """The study's judgement, made once."""
    return results.once("judgement", lambda: judge(results))


def answer(results: Results) -> Answer:
    """The answer of a study."""
    judgement = judged(results)
    said = tuple(_said(results, judgement, found) for found in judgement.comparisons)
    return Answer(
        _headline(results, judgement), said, tuple(_sure(results, judgement)),
        tuple(_warnings(results, judgement)),
    )  # fmt: skip


def terminal_lines(results: Results) -> list[str]:
    """The answer for a terminal, a sentence a line."""
    found = answer(results)
    if len(found.comparisons) == 1:
        return [found.headline, *found.warnings, *found.sure]
    said = [f"  {one.sentence}" for one in found.comparisons]
    return [found.headline, *said, *found.warnings, *found.sure]


def markdown(results: Results) -> str:
    """The answer as the first section of results.md."""
    from .tables import markdown_text

    found = answer(results)
    said = found.comparisons if len(found.comparisons) > 1 else ()
    lines = [
        "## The answer",
        "",
        f"**{markdown_text(found.headline)}**",
        "",
        *(f"- {markdown_text(one.sentence)}" for one in said),
        *([""] if said else []),
        *(f"{markdown_text(warning)}\n" for warning in found.warnings),
        *([" ".join(map(markdown_text, found.sure)), ""] if found.sure else []),
    ]
    return "\n".join(lines) + "\n"


def _headline(results: Results, judgement: Judgement) -> str:
    comparisons = judgement.comparisons
    if len(results.arms) == 1:
        return f"{results.arms[0]} was run alone: there is nothing to compare it with."
    if not comparisons:
        return "No two arms of this study can be compared: none has the reference's other settings."
    if len(comparisons) == 1:
        return _said(results, judgement, comparisons[0]).sentence
    beside = _beside(results, judgement)
    many = len(comparisons)
    if all(found.interval is None for found in comparisons):
        if not judgement.seeds and judgement.rule.looks:
            return (
                f"No verdict yet: the first look is at {judgement.rule.looks[0]} seeds, and not "
                "all of their runs have ended."
            )
        if len(judgement.seeds) > 1:
            lost = comparisons[0].lost[1]
            why = f": {len(lost)} of its {len(judgement.seeds)} runs diverged" if lost else ""
            return f"There is no answer: no arm completed two seeds together with {beside}{why}."
        return (
            f"One run an arm answers nothing: whether a difference to {beside} is the arm's or the "
            "seed's cannot be told. Two seeds give an interval, five a useful one."
        )
    tally = Counter(found.verdict for found in comparisons)
    undecided = tally[Verdict.INCONCLUSIVE]
    apart = f"cannot be told apart from it with {counted(len(judgement.seeds), 'seed')}"
    if undecided == many:
        return (
            f"{'Neither' if many == 2 else 'None'} of the {many} arms can be told apart from "
            f"{beside} with {counted(len(judgement.seeds), 'seed')}."
        )
    names = {
        Verdict.BETTER: "better",
        Verdict.WORSE: "worse",
        Verdict.EQUIVALENT: f"equivalent within {margin(judgement.rule.margin)}",
    }
    if len(tally) == 1:
        every = "Both" if many == 2 else f"All {many}"
        return f"{every} arms compared with {beside} are {names[comparisons[0].verdict]}."
    words = [
        f"{tally[kind]} {'is' if tally[kind] == 1 else 'are'} {text}"
        for kind, text in names.items()
        if tally[kind]
    ]
    if undecided:
        words.append(f"{undecided} {apart}")
    return f"Of {many} arms compared with {beside}, {listed(words)}."


def _beside(results: Results, judgement: Judgement) -> str:
    """The reference in words: an arm, or a layer at the same other settings."""
    reference = judgement.rule.reference
    if reference in results.question["arms"]:
        return reference
    others = [
        name.replace("_", " ")
        for name in results.question.get("varied", ())
        if name != "norm" and name in FIELDS
    ]
    return f"{reference} at the same {listed(others)}" if others else reference


def _said(results: Results, judgement: Judgement, found: PairedComparison) -> Said:
    label = LABELS[found.verdict] if found.interval is not None else "no verdict"
    sentence = _sentence(judgement, found)
    lost = _lost(results, judgement, found)
    return Said(found.arm, found.reference, label, f"{sentence} {lost}" if lost else sentence)


def _sentence(judgement: Judgement, found: PairedComparison) -> str:
    arm, reference, interval = found.arm, found.reference, found.interval
    if found.difference is None:
        for name, lost in zip((arm, reference), found.lost, strict=True):
            if lost and len(lost) == len(judgement.seeds):
                every = "its only run" if len(lost) == 1 else f"all {len(lost)} runs"
                if name == arm:
                    return f"{arm} diverged in {every}: there is no accuracy to compare."
                return f"{arm} has nothing to be compared with: {reference} diverged in {every}."
        return f"No seed has ended well for both {arm} and {reference} yet."
    mean = found.difference.mean
    seeds = len(found.difference.seeds)
    if interval is None:
        side = "above" if mean >= 0 else "below"
        apart = f"{points(mean)} points {side}" if points(mean) != "0.0" else "level with"
        return (
            f"{arm} is {apart} {reference} in the one seed that both have, which cannot be told "
            "from luck."
        )
    digits = places(interval)
    within = f"within {margin(found.margin)}"
    if found.withheld:
        raw = verdict(interval, found.margin)
        to = "to" if raw is Verdict.EQUIVALENT else "than"
        return (
            f"{arm} is not called {LABELS[raw]} {to} {reference}, although the difference lies "
            f"within {bracket(interval)}: the seeds that are left were selected by not failing."
        )
    if found.verdict is Verdict.EQUIVALENT:
        return (
            f"{arm} is equivalent to {reference} {within}: the difference lies within "
            f"{bracket(interval)}."
        )
    if found.verdict in (Verdict.BETTER, Verdict.WORSE):
        ends = sorted((abs(interval.low), abs(interval.high)))
        span = f"[{points(ends[0], digits)}, {points(ends[1], digits)}]"
        return (
            f"{arm} is {points(mean, digits)} points {LABELS[found.verdict]} than {reference} "
            f"{span}."
        )
    return (
        f"{arm} and {reference} cannot be told apart with {counted(seeds, 'seed')}: the difference "
        f"lies within {bracket(interval)}; {_needed(found, seeds)}."
    )


def _needed(found: PairedComparison, seeds: int) -> str:
    """What would decide it."""
    assert found.difference is not None
    mean = found.difference.mean
    digits = places(found.interval)
    if abs(mean) <= found.margin:
        bounds = found.seeds_for_equivalence
        purpose = f"to call them equivalent within {margin(found.margin)}, if they are"
    else:
        bounds = found.seeds_to_see(mean)
        purpose = f"to show a difference as large as the one seen ({signed(mean, digits)})"
    assert bounds is not None
    low, high = bounds
    if low is not None and low <= seeds:
        if high is not None and high <= seeds:
            return f"{seeds} seeds are about as many as are needed {purpose}"
        most = "more than 10,000" if high is None else f"{high:,}"
        return f"these seeds may be just short of it, or up to {most} may be needed {purpose}"
    if low is None or low == high:
        return f"{seeds_range(bounds)} seeds would be needed {purpose}"
    return (
        f"between {seeds_range(bounds).replace(' to ', ' and ', 1)} seeds would be needed {purpose}"
    )


def _lost(results: Results, judgement: Judgement, found: PairedComparison) -> str:
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


def _sure(results: Results, judgement: Judgement) -> list[str]:
    comparisons = [found for found in judgement.comparisons if found.interval is not None]
    if not comparisons:
        return []
    level = f"{100 * judgement.rule.level:g} %"
    asked = len(judgement.comparisons)
    said = [
        f"{'Both' if asked == 2 else f'All {asked}'} intervals hold together in {level} of such "
        "studies."
        if asked > 1
        else f"The interval holds the truth in {level} of such studies."
    ]
    visible = sorted(found.visible for found in comparisons if found.visible is not None)
    if visible:
        low, high = points(visible[0]), points(visible[-1])
        size = low if low == high else f"{low} to {high}"
        said.append(
            f"With these seeds and spreads a true difference has to be {size} points or more to be "
            "seen in four studies of five."
        )
    said += _beyond(results, comparisons)
    looks = judgement.rule.looks
    if looks:
        listed_looks = listed([str(look) for look in looks])
        at = looks.index(len(judgement.seeds)) + 1 if len(judgement.seeds) in looks else 0
        further = [look for look in looks if look > len(judgement.seeds)]
        said.append(
            f"Looks were fixed beforehand at {listed_looks} seeds, with the error divided over "
            f"looks and comparisons; this is look {at} of {len(looks)}."
        )
        if judgement.settled:
            said.append("Nothing is left to decide, so no seeds are added.")
        elif further:
            said.append(f"The next is at {further[0]} seeds (--until-decided).")
        else:
            said.append("It was the last: what is not decided stays so.")
    return said


def _beyond(results: Results, comparisons: list[PairedComparison]) -> list[str]:
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
    tests = results.data.get("images", {}).get("test")
    few = f" ({tests:,} here)" if tests else ""
    return [
        f"For other test images of the same kind {listed(open_)} would be inconclusive: that takes "
        f"more test images{few}, not more seeds."
    ]


def _warnings(results: Results, judgement: Judgement) -> list[str]:
    said = []
    checked = data_findings(results)
    if checked is not None and checked.invalid:
        said.append(f"{checked.summary} Read its findings before these verdicts.")
    rule = judgement.rule
    for stated in rule.before:
        said.append(
            f"The rule was changed after {counted(int(stated['runs']), 'run')} had ended: the "
            f"reference was {stated['reference']} and the margin {margin(stated['margin'] / 100)}. "
            "A rule chosen with results in view can make any verdict."
        )
    if rule.looked and not rule.looks:
        times = listed([str(seeds) for seeds in rule.looked])
        said.append(
            f"The study had been judged with {times} seeds before more were added, without looks "
            "fixed beforehand: a false better or worse somewhere may come about in up to "
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
