"""A tuned setting in words and as a table: every arm at the shared value and at its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....pages.tables import Cell, Column, Table
from ....pages.words import (
    NO_VALUE,
    counted,
    duration,
    listed,
    seeds_between,
    setting,
    setting_title,
)
from ....results import Run, Tuning, UnfinishedTuning, how_lost
from ....results.statistics import Judgement, Verdict
from ...numbers import with_interval
from ..scores import spread_text


def title(tuning: Tuning) -> str:
    """The setting as people say it: "learning rate"."""
    return setting_title(tuning.search.field)


def sentences(tuning: Tuning) -> list[str]:
    """What was tried, what it cost, what was chosen, and whether a verdict differs."""
    search = tuning.search
    trials = tuning.trials.runs
    arms = [choice.arm for choice in tuning.choices]
    every = "Every arm was" if not tuning.later_arms else (
        f"{listed(arms)} {'was' if len(arms) == 1 else 'were'} each"
    )  # fmt: skip
    said = [
        f"{every} tried at the same {len(tuning.values)} values of the {title(tuning)} "
        f"({_listed(tuning.values)}) with the same {_seeds(search.seeds)}, which the study itself "
        "does not use. The value with the highest mean validation accuracy was chosen; of equal "
        "ones that with the lower loss, then the earlier value. Trials do not read the test split."
    ]
    added = [tried for tried in tuning.values if tried not in search.values]
    if added:
        said.append(
            f"The grid started as {_listed(search.values)}. Because the best value of an arm was "
            f"at an edge, {_listed(added)} {'was' if len(added) == 1 else 'were'} added for all "
            f"{'of these ' if tuning.later_arms else ''}arms."
        )
    limit = tuning.record.limit.rstrip(".")
    if limit:
        said.append(f"{limit}.")
    said += [
        f"{choice.arm} {how_lost(_trials_of(tuning, choice.arm))} in every trial and is shown at "
        "the shared value."
        for choice in tuning.choices
        if choice.failed
    ]
    lost = sum(run.lost for run in trials)
    if lost:
        said.append(
            f"{lost} of the {len(trials)} trials {how_lost(trials)}. A value with such a trial is "
            "chosen only if every value has one."
        )
    own = sum(float(run.record.get("seconds", 0)) for run in tuning.shared.runs)
    compared = f", {tuning.seconds / own:.1f} times that of the study's own runs" if own else ""
    said.append(
        f"Tuning took {counted(len(trials), 'trial')} and {duration(tuning.seconds)} of "
        f"training{compared}."
    )
    said += rests_on(tuning)
    said.append(changes(tuning))
    return said


def _trials_of(tuning: Tuning, arm: str) -> list[Run]:
    names = {tuning.search.trial(arm, value) for value in tuning.values}
    return [run for run in tuning.trials.runs if run.arm in names]


def rests_on(tuning: Tuning) -> list[str]:
    """Which part of the study the tuned runs are of, where they are not of all of it."""
    said = []
    later = [
        *([f"the arms {listed(tuning.later_arms)}"] if len(tuning.later_arms) > 1 else
          [f"the arm {arm}" for arm in tuning.later_arms]),
        *([_seeds_named(tuning.later_seeds)] if tuning.later_seeds else []),
    ]  # fmt: skip
    if later:
        many = len(tuning.later_arms) + len(tuning.later_seeds) > 1
        named = listed(later)
        said.append(
            f"{named[0].upper()}{named[1:]} joined the study later and "
            f"{'are' if many else 'is'} in neither half of this table, which therefore differs "
            f"from the table of results. "
            f"Call --tune {tuning.search.field} again to include {'them' if many else 'it'}."
        )
    shared, tuned = tuning.shared.seed_counts, tuning.tuned.seed_counts
    if shared[0] < shared[1] or shared != tuned:
        said.append(
            "In each half an arm gets seeds until its comparison is decided: there are "
            f"{seeds_between(*shared)} at the shared value and {seeds_between(*tuned)} at the "
            "chosen ones."
        )
    asked = sum(len(tuning.tuned.seeds_of(arm)) for arm in tuning.tuned.arms)
    missing = asked - sum(run.ended for run in tuning.tuned.runs)
    if missing:
        said.append(f"{missing} of the {asked} tuned runs have not ended yet.")
    return said


def unfinished(found: UnfinishedTuning) -> str:
    """What became of a tuning that has nothing to show."""
    if found.edited:
        return (
            f"Tuning of the {setting_title(found.field)} is out of date: the code of "
            f"{listed(found.edited)} has changed since. Call --tune {found.field} again."
        )
    what = "trials" if found.stage == "trials" else "runs at the chosen values"
    return (
        f"Tuning of the {setting_title(found.field)} has not finished: {found.ended} of "
        f"{found.runs} {what} have ended. Repeat the command with --tune to go on."
    )


def rows(tuning: Tuning) -> list[tuple[str, ...]]:
    """One row per arm: test accuracy, difference and verdict at the shared value; the chosen value;
    the same three at that."""
    shared = tuning.shared_judgement
    found: list[tuple[str, ...]] = []
    for choice in tuning.choices:
        arm = choice.arm
        found.append(
            (
                arm,
                spread_text(tuning.shared.spread(arm, "test", "accuracy")),
                *_judged(shared, arm),
                value(choice.value),
                spread_text(tuning.tuned.spread(choice.name, "test", "accuracy")),
                *_judged(tuning.judgement, choice.name),
            )
        )
    return found


def tuned_table(tuning: Tuning) -> Table:
    """One row per arm, in two groups of columns: shared and tuned."""
    field, shared = tuning.search.field, value(tuning.search.shared)
    before, after = f"shared, {field} = {shared}", "tuned"
    return Table(
        (
            Column("arm", "left"),
            Column("test accuracy", "right", before, f"test accuracy at {shared}"),
            Column("difference", "right", before, f"difference at {shared}"),
            Column("verdict", "left", before, f"verdict at {shared}"),
            Column(field, "right", after, f"chosen {field}"),
            Column("test accuracy", "right", after, "test accuracy, tuned"),
            Column("difference", "right", after, "difference, tuned"),
            Column("verdict", "left", after, "verdict, tuned"),
        ),
        tuple((Cell(arm, "name"), *map(_cell, cells)) for arm, *cells in rows(tuning)),
        title=f"Shared and tuned: {title(tuning)}",
        caption="Test accuracy in percent, mean ± sample standard deviation; difference to the "
        "reference in points with its simultaneous interval",
        notes=tuple(sentences(tuning)),
    )


def _cell(text: str) -> Cell:
    """A verdict is shown as a badge."""
    return Cell(text, "mark" if text in set(Verdict) else "number")


def _judged(judgement: Judgement, arm: str) -> tuple[str, str]:
    found = judgement.of(arm)
    if found is None:
        return "reference", NO_VALUE
    if found.difference is None:
        return NO_VALUE, str(found.verdict)
    return with_interval(found.difference.mean, found.interval), str(found.verdict)


def changes(tuning: Tuning) -> str:
    """Whether a verdict differs between the two tables."""
    shared = tuning.shared_judgement
    changed = []
    for before in shared.comparisons:
        choice = tuning.choice(before.arm)
        after = tuning.judgement.of(choice.name) if choice else None
        if after is not None and after.verdict is not before.verdict:
            changed.append(f"{before.arm} from {before.verdict} to {after.verdict}")
    if not shared.comparisons:
        return "With one arm there is no verdict that could change."
    whose = f"With {_tuned_arms(tuning)} at {_own(tuning)} {title(tuning)}"
    if not changed:
        every = {comparison.verdict for comparison in shared.comparisons}
        if every == {Verdict.NONE}:
            return f"{whose}, there is still no verdict."
        more = " All stay inconclusive." if every == {Verdict.INCONCLUSIVE} else ""
        return f"{whose}, no verdict changes.{more}"
    return f"{whose}, the verdict changes for {listed(changed)}, and for no other."


def _tuned_arms(tuning: Tuning) -> str:
    """Every arm, or those that were tuned, with their seeds where the study has more since."""
    arms = [choice.arm for choice in tuning.choices]
    named = listed(arms) if tuning.later_arms else "every arm"
    seeds = seeds_between(*tuning.tuned.seed_counts)
    return f"{named} ({seeds})" if tuning.later_seeds else named


def _own(tuning: Tuning) -> str:
    return "their own" if tuning.later_arms and len(tuning.choices) > 1 else "its own"


def _seeds(seeds: Sequence[int]) -> str:
    """ "2 seeds (1000 and 1001)"."""
    if len(seeds) == 1:
        return f"seed ({seeds[0]})"
    return f"{counted(len(seeds), 'seed')} ({_listed(seeds)})"


def _seeds_named(seeds: Sequence[int]) -> str:
    """ "seed 4", "seeds 2, 3 and 4"."""
    return f"seed{'s' if len(seeds) > 1 else ''} {_listed(seeds)}"


def _listed(values: Sequence[Any]) -> str:
    return listed([value(one) for one in values])


def value(of: Any) -> str:
    """A setting's value in words: none and names in lower case."""
    return setting(of).lower()
