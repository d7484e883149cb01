"""The answer of a study in sentences, each made from the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....pages.words import counted, duration, listed, shortened, spelled
from ....results.spent import spared
from ....results.statistics import Interval, Judgement, PairedComparison, Verdict
from ....runs import FIELDS
from ....runs.rule import LEAST_SEEDS, Rule
from ...context import Report
from ...numbers import bracket, margin, places, points, seeds_range, signed

HERE, KIND = "on these test images", "on images of this kind"
OTHERS = "not clearly on others of their kind"


@dataclass(frozen=True)
class Said:
    """One comparison in words."""

    arm: str
    reference: str
    verdict: Verdict
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
    if all(found.verdict is Verdict.NONE for found in comparisons):
        return _no_interval(judgement, _reference(report))
    return _tally(judgement, _reference(report))


def _no_interval(judgement: Judgement, reference: str) -> str:
    """Why no comparison has an interval."""
    seeds = len(judgement.seeds)
    if not seeds and judgement.rule.looks:
        return (
            f"No verdict yet: the first look is at {judgement.rule.looks[0]} seeds, and not all "
            "of their runs have ended."
        )
    if seeds == 1:
        return (
            "A single run per arm cannot answer this: any difference to "
            f"{reference} could be chance. {_ENOUGH}"
        )
    if seeds < LEAST_SEEDS:
        return (
            f"{seeds} runs per arm cannot answer this: they do not tell how much the difference to "
            f"{reference} varies from seed to seed. {_ENOUGH}"
        )
    first = judgement.comparisons[0]
    lost = first.lost[1]
    why = f": {len(lost)} of its {seeds} runs {first.ends[1]}" if lost else ""
    return f"There is no answer: no arm shares {LEAST_SEEDS} completed seeds with {reference}{why}."


_ENOUGH = f"{spelled(LEAST_SEEDS).capitalize()} seeds give an interval, five a useful one."


def _tally(judgement: Judgement, reference: str) -> str:
    """How many arms got which verdict, and for which images."""
    many = len(judgement.comparisons)
    kinds = {
        kind: [found for found in judgement.comparisons if found.verdict is kind]
        for kind in Verdict
    }
    with_seeds = f"with {_shared_seeds(kinds[Verdict.INCONCLUSIVE])}"
    if len(kinds[Verdict.INCONCLUSIVE]) == many:
        return (
            f"{'Neither' if many == 2 else 'None'} of the {many} comparisons with {reference} is "
            f"conclusive {with_seeds}."
        )
    within = f"equivalent within {margin(judgement.rule.margin)}"
    names = {
        Verdict.BETTER: "better",
        Verdict.WORSE: "worse",
        Verdict.EQUIVALENT: within,
        Verdict.INCONCLUSIVE: f"inconclusive {with_seeds}",
    }
    words = [
        f"{len(found)} {'is' if len(found) == 1 else 'are'} {names[kind]}{_only_here(found)}"
        for kind, found in kinds.items()
        if kind in names and found
    ] + _without_verdict(kinds)
    where = _where(judgement)
    if len(words) == 1:
        every = "Both" if many == 2 else f"All {many}"
        return f"{every} arms compared with {reference}{where} {words[0].removeprefix(f'{many} ')}."
    return f"Of {many} arms compared with {reference}{where}, {listed(words)}."


def _shared_seeds(found: Sequence[PairedComparison]) -> str:
    """How many seeds comparisons are over; runs that were lost leave fewer than were asked."""
    numbers = sorted({len(one.difference.seeds) for one in found if one.difference is not None})
    if len(numbers) > 1:
        return f"{numbers[0]} to {numbers[-1]} seeds"
    return counted(numbers[0] if numbers else 0, "seed")


def _where(judgement: Judgement) -> str:
    """For which images the headline speaks."""
    decided = [found for found in judgement.comparisons if found.verdict.decided]
    if not decided:
        return ""
    every = all(found.elsewhere is found.verdict for found in decided)
    return f" {KIND}" if every else f" {HERE}"


def _only_here(found: Sequence[PairedComparison]) -> str:
    """How many of these verdicts would not hold for other images."""
    local = sum(one.local for one in found)
    if not local:
        return ""
    if local == len(found):
        return f" (but {OTHERS})"
    return f" ({local} of them {OTHERS})"


def _without_verdict(kinds: Mapping[Verdict, Sequence[PairedComparison]]) -> list[str]:
    """Arms without a verdict, by the reason."""
    withheld, none = len(kinds[Verdict.WITHHELD]), kinds[Verdict.NONE]
    lost = [found for found in none if found.difference is None and any(found.lost)]
    said = []
    if withheld:
        said.append(
            f"{withheld} {'has' if withheld == 1 else 'have'} no verdict because runs without a "
            "model could reverse it"
        )
    if lost:
        # The arm's own runs, or those of the reference.
        ends = {found.ends[0 if found.lost[0] else 1] for found in lost}
        said.append(
            f"{len(lost)} {'has' if len(lost) == 1 else 'have'} no verdict because every run "
            f"{ends.pop() if len(ends) == 1 else 'diverged or failed'}"
        )
    few = len(none) - len(lost)
    if few:
        said.append(
            f"{few} {'has' if few == 1 else 'have'} no verdict because fewer than {LEAST_SEEDS} "
            "seeds are complete"
        )
    return said


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
    parts = (_sentence(found), _decided(judgement, found), _lost(found))
    return Said(found.arm, found.reference, found.verdict, " ".join(filter(None, parts)))


def _decided(judgement: Judgement, found: PairedComparison) -> str:
    """At which look, where there are several."""
    if not (judgement.rule.looks and found.settled):
        return ""
    return f"It was decided with {counted(len(found.seeds), 'seed')}."


def _sentence(found: PairedComparison) -> str:
    arm, reference, interval = found.arm, found.reference, found.interval
    if found.difference is None:
        return _without_difference(found)
    mean = found.difference.mean
    seeds = len(found.difference.seeds)
    if interval is None:
        side = "above" if mean >= 0 else "below"
        apart = f"{points(mean)} points {side}" if points(mean) != "0.0" else "level with"
        over = "the one seed" if seeds == 1 else f"the {seeds} seeds"
        missing = LEAST_SEEDS - seeds
        return (
            f"{arm} is {apart} {reference} in {over} that both completed, which could be chance. "
            f"{spelled(missing).capitalize()} more {'is' if missing == 1 else 'are'} needed for a "
            "verdict."
        )
    digits = places(interval)
    if found.withheld is not None:
        to = "to" if found.withheld is Verdict.EQUIVALENT else "than"
        return (
            f"{arm} is not called {found.withheld} {to} {reference}, although the interval of the "
            f"difference is {bracket(interval)}: the seeds that are left were selected by not "
            "failing."
        )
    if found.verdict is Verdict.EQUIVALENT:
        return (
            f"{arm} is equivalent to {reference} within {margin(found.margin)} {_images(found)}: "
            f"the interval of the difference is {bracket(interval)}."
        )
    if found.verdict.decided:
        size = f"{points(mean, digits)} points {found.verdict} than {reference}"
        return f"{arm} is {size} {_size_bracket(interval, digits)} {_images(found)}."
    return (
        f"{arm} compared with {reference} is inconclusive with {counted(seeds, 'seed')}: the "
        f"interval of the difference is {bracket(interval)}. {_needed(found, seeds)}."
    )


def _without_difference(found: PairedComparison) -> str:
    arm, reference = found.arm, found.reference
    for name, lost, end in zip((arm, reference), found.lost, found.ends, strict=True):
        if lost and len(lost) == len(found.seeds):
            every = "its only run" if len(lost) == 1 else f"all {len(lost)} runs"
            if name == arm:
                return f"{arm} {end} in {every}, so there is no accuracy to compare."
            return f"{arm} has nothing to be compared with: {reference} {end} in {every}."
    return f"No seed has been completed by both {arm} and {reference} yet."


def _images(found: PairedComparison) -> str:
    """For which images a verdict holds."""
    if found.local and found.both is not None:
        return f"{HERE} (but {OTHERS}: {bracket(found.both)})"
    return KIND if found.general or found.both is not None else HERE


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
    if found.general and high is None:
        if low is None:
            return f"More seeds would not be enough {purpose}: that takes more images"
        least = "A few more seeds" if low <= seeds else f"{low:,} seeds"
        return (
            f"At best {least[0].lower()}{least[1:]} would be enough {purpose}; if the spread is "
            "larger than it looks, no number is, and it takes more images"
        )
    if low is not None and low <= seeds:
        if high is not None and high <= seeds:
            return f"About {seeds} seeds are needed {purpose}"
        most = "more than 10,000" if high is None else f"{high:,}"
        return f"A few more seeds may be enough, or up to {most} may be needed, {purpose}"
    text = seeds_range(bounds)
    if low is None or low == high:
        return f"{text[0].upper()}{text[1:]} seeds would be needed {purpose}"
    return f"Between {text.replace(' to ', ' and ', 1)} seeds would be needed {purpose}"


def _lost(found: PairedComparison) -> str:
    """Which runs are missing from a difference that there is."""
    if found.difference is None:
        return ""
    parts = [
        f"{len(lost)} of {len(found.seeds)} runs of {name} {end}"
        for name, lost, end in zip(
            (found.arm, found.reference), found.lost, found.ends, strict=True
        )
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
        return _calls(report)
    level = f"{100 * judgement.rule.level:g} %"
    asked = len(judgement.comparisons)
    said = [
        f"{'Both' if asked == 2 else f'All {asked}'} intervals hold simultaneously ({level})."
        if asked > 1
        else f"This is a {level} interval."
    ]
    if judgement.rule.lost or judgement.error_bound > 1 - judgement.rule.level + 1e-9:
        said = []  # the level is not that of a study which was judged before; the warning says so
    return (
        said
        + _shared(report)
        + _visible(comparisons)
        + _beyond(report, comparisons)
        + _looks(report)
        + (_calls(report))
    )


def _shared(report: Report) -> list[str]:
    """What intervals are for where runs train on parts of the same images."""
    folds = report.results.folds
    if folds is None:
        return []
    return [
        f"Each run was tested on one of {folds.number} folds of the images, so an interval is for "
        "networks trained on as many images of this kind, whichever these are. Runs share training "
        "images; intervals are wider for that, by an approximation (Nadeau and Bengio 2003)."
    ]


def _visible(comparisons: Sequence[PairedComparison]) -> list[str]:
    """How large a difference has to be in order to be found."""
    same = len({len(found.seeds) for found in comparisons}) == 1
    given = "this many seeds" if same else "these numbers of seeds"
    visible = sorted(found.visible for found in comparisons if found.visible is not None)
    if not visible:
        return []
    if math.isinf(visible[0]):
        return [
            f"With {given} and this spread, no difference that accuracies can have would be found "
            "in four out of five studies."
        ]
    low, high = points(visible[0]), points(visible[-1])
    if math.isinf(visible[-1]):
        size = f"{low} points, and for some arms more than accuracies can differ,"
    else:
        size = f"{low if low == high else f'{low} to {high}'} points"
    return [
        f"With {given} and this spread, a true difference has to be at least {size} to be found in "
        "four out of five studies."
    ]


def _looks(report: Report) -> list[str]:
    """Where in the plan of looks the study is."""
    judgement = report.judgement
    looks = judgement.rule.looks
    if not looks:
        return []
    seen = judgement.rule.looked
    when = (
        "at a time that is no longer known"
        if judgement.rule.lost
        else f"after results of {listed([str(seeds) for seeds in seen])} seeds could be seen"
        if seen
        else "beforehand"
    )
    said = [
        f"Looks were fixed {when}, at {listed([str(look) for look in looks])} seeds, with the "
        f"error divided over looks and comparisons. {_stopping(judgement)}"
    ]
    added = [found.arm for found in judgement.comparisons if found.settled and found.later]
    if added:
        said.append(
            f"Seeds that {listed(added)} {'was' if len(added) == 1 else 'were'} given after that "
            "change no verdict."
        )
    more = sorted(set(judgement.wanted.values()))
    if judgement.settled:
        said.append("Everything is decided, so no seeds are added.")
    elif more:
        said.append(
            f"The next look is at {listed([str(look) for look in more], 'or')} seeds "
            "(--until-decided)."
        )
    else:
        said.append(
            f"The look at {looks[-1]} seeds was the last: what is undecided stays undecided."
        )
    return [*said, *([saved] if (saved := not_run(report)) else [])]


def not_run(report: Report) -> str:
    """What was saved by giving no more seeds to arms that were decided; empty where nothing."""
    found = spared(report.results, report.judgement)
    if found is None:
        return ""
    _, most = report.results.seed_counts
    one = found.runs == 1
    took = ""
    if found.seconds is not None:
        took = (
            f" At the average of the runs of {'its arm' if one else 'the same arms'}, "
            f"{'it' if one else 'they'} would have taken {duration(found.seconds)} of {found.kind}."
        )
    return (
        f"No open comparison needed more seeds of {shortened(found.arms)}, so "
        f"{counted(found.runs, 'run')} {'was' if one else 'were'} not made that {most} seeds for "
        f"every arm would have needed.{took}"
    )


def _stopping(judgement: Judgement) -> str:
    """At which look the study is, or each comparison where they differ."""
    at = {len(found.seeds) for found in judgement.comparisons}
    if len(at) == 1:
        looks = judgement.rule.looks
        number = looks.index(min(at)) + 1 if min(at) in looks else 0
        return f"This is look {number} of {len(looks)}."
    return (
        "A comparison that is decided keeps the verdict of that look, and its arm gets no more "
        "seeds. A difference that was decided early tends to be estimated as too large; the "
        "intervals allow for that."
    )


def _calls(report: Report) -> list[str]:
    """Whether the study is the work of one call."""
    calls = report.question.get("calls", ())
    if len(calls) < 2:
        return []
    lost = report.judgement.rule.lost
    since = f"since {lost}, when study.toml was written anew, " if lost else ""
    return [f"The study was built by {len(calls)} calls; {since}How to repeat it lists them."]


def _beyond(report: Report, comparisons: Sequence[PairedComparison]) -> list[str]:
    """What would decide for other images what is decided for these alone."""
    local = [found for found in comparisons if found.local]
    if not local:
        return []
    tests = report.data.get("images", {}).get("test")
    few = f" than the {tests:,} here" if tests else ""
    said = []
    more = [found for found in local if found.seeds_to_hold is None]
    if more:
        said.append(
            f"For other images of the same kind, {listed(found.arm for found in more)} would be "
            f"inconclusive with any number of seeds: that takes more test images{few}."
        )
    seeds = [found for found in local if found.seeds_to_hold is not None]
    if seeds:
        each = [f"{found.arm} (about {found.seeds_to_hold:,} seeds)" for found in seeds]
        # A comparison that is decided at a look stays as it is, whatever seeds are added.
        more_seeds = "Another study with more" if report.judgement.rule.looks else "More"
        a_verdict = "find verdicts that" if report.judgement.rule.looks else "make a verdict"
        said.append(
            f"{more_seeds} seeds could {a_verdict} hold for other images of the same kind too: "
            f"{listed(each)}, if difference and spread stay as they are."
        )
    return said


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
    before = _before(rule)
    if before:
        said.append(
            f"{before} A false better or worse can appear in {'' if rule.lost else 'up to '}"
            f"{100 * judgement.error_bound:.0f} % of such studies{' or more,' if rule.lost else ''}"
            f" instead of {100 * (1 - rule.level):.0f} %."
        )
    if rule.lost:
        said.append(
            f"study.toml was damaged and was written anew on {rule.lost} from the runs that were "
            "there. What had been asked, stated or looked at before is no longer known. A false "
            f"better or worse appears in {100 * (1 - rule.level):.0f} % of such studies only if no "
            "seeds, arms or looks were added, and no rule changed, after results could be seen."
        )
    return said + _left_out(judgement)


def _left_out(judgement: Judgement) -> list[str]:
    """Seeds that undecided comparisons have been given between looks, or after the last one."""
    looks = judgement.rule.looks
    groups: dict[tuple[int, int], list[str]] = {}
    for found in judgement.comparisons:
        if found.later and not found.settled:
            groups.setdefault((len(found.seeds), len(found.later)), []).append(found.arm)
    said = []
    for (seen, later), arms in groups.items():
        more = [look for look in looks if look > seen]
        until = (
            f"until the look at {more[0]}" if more
            else f"because the look at {looks[-1]} was the last"
        )  # fmt: skip
        every = len(arms) == sum(not found.settled for found in judgement.comparisons)
        verdicts = "the verdicts" if every else f"the verdict of {listed(arms)}"
        said.append(
            f"{counted(later, 'seed')} run since the last look "
            f"{'is' if later == 1 else 'are'} left out of {verdicts}, {until}."
        )
    return said


def _before(rule: Rule) -> str:
    """What could be seen of the study before its final form was asked for; empty where nothing."""
    said = []
    if rule.looked:
        times = listed([str(seeds) for seeds in rule.looked])
        then = "looks were stated" if rule.looks else "more were added"
        said.append(f"with {times} seeds before {then}")
    if rule.grown:
        arms = listed([str(count) for count in rule.grown])
        said.append(f"with {arms} arms before others were added")
    for arm in dict.fromkeys(rule.edited):
        versions = rule.edited.count(arm)
        earlier = "an earlier version" if versions == 1 else f"{versions} earlier versions"
        said.append(f"with {earlier} of the code of {arm}")
    return f"The study could already be judged {listed(said)}." if said else ""
