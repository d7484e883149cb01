"""A tuned setting of a study, read back: the choice, the trials that chose, the tuned runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import InputError
from ..pages.words import visible
from ..runs import is_study, tuning_folder
from ..runs.rule import Rule, pairs
from ..runs.tuning import (
    ChosenValue,
    Search,
    TuningRecord,
    read_tuning,
    searched_fields,
    tuned_fields,
)
from .reading import Results, Run, Spread, ended_runs, read_results
from .statistics import Judgement, judge


@dataclass(frozen=True)
class Tuning:
    """A tuned setting of a study, read back.

    Attributes:
        record: what was asked and chosen.
        trials: the runs that chose; they have no test metrics.
        shared: the study's own runs of the arms and seeds that were tuned.
        tuned: the same seeds at the chosen values.
        rule: of the study.
        compared: (reference, arm) in the names of ``tuned``.
        later_arms, later_seeds: what the study has been given since.
    """

    record: TuningRecord
    trials: Results
    shared: Results
    tuned: Results
    rule: Rule = field(repr=False)
    compared: tuple[tuple[str, str], ...] = ()
    later_arms: tuple[str, ...] = ()
    later_seeds: tuple[int, ...] = ()

    @property
    def search(self) -> Search:
        """What was asked."""
        return self.record.search

    @property
    def values(self) -> tuple[Any, ...]:
        """The final grid."""
        return self.record.values

    @property
    def choices(self) -> tuple[ChosenValue, ...]:
        """One per arm."""
        return self.record.choices

    @cached_property
    def judgement(self) -> Judgement:
        """Of the arms at their chosen values."""
        return judge(self.tuned, self.rule, compared=self.compared)

    @cached_property
    def shared_judgement(self) -> Judgement:
        """Of the same arms and seeds at the shared value, so that like is compared with like."""
        home = {choice.name: choice.arm for choice in self.choices}
        same = [(home[reference], home[arm]) for reference, arm in self.compared]
        return judge(self.shared, self.rule, compared=same)

    @property
    def seconds(self) -> float:
        """Training and validation time of all trials together."""
        return sum(float(run.record.get("seconds", 0.0)) for run in self.trials.runs)

    def choice(self, arm: str) -> ChosenValue | None:
        """What was chosen for an arm of the study."""
        return next((choice for choice in self.choices if choice.arm == arm), None)

    def reached(self, arm: str) -> list[tuple[Any, Spread | None, int]]:
        """For each value: validation accuracy over the trials, and how many were lost."""
        return [
            (value, *_reached(self.trials, self.search.trial(arm, value))) for value in self.values
        ]


@dataclass(frozen=True)
class UnfinishedTuning:
    """A tuning that is under way or was stopped, and has nothing to show yet; or one that is out of
    date.

    Attributes:
        field: what is tuned.
        stage: "trials", or "tuned" once the values are chosen.
        ended, runs: of that stage.
        edited: arms whose layer's code has changed since they were tuned.
    """

    field: str
    stage: str
    ended: int
    runs: int
    edited: tuple[str, ...] = ()


def unfinished_tunings(results: Results) -> tuple[UnfinishedTuning, ...]:
    """The tuned settings of a study that have no tuned run yet, in the order of their names.

    Raises:
        InputError: a file cannot be read.
    """
    found = []
    for name in searched_fields(results.folder):
        below = tuning_folder(results.folder, name)
        record = read_tuning(results.folder, name)
        chosen = record is not None and is_study(below / "tuned")
        stage = "tuned" if chosen else "trials"
        ended, runs = ended_runs(below / stage)
        edited = _edited(results, record) if record is not None and chosen and ended else ()
        if not chosen or not ended or edited:
            found.append(UnfinishedTuning(name, stage, ended, runs, edited))
    return tuple(found)


def read_tunings(results: Results) -> tuple[Tuning, ...]:
    """Every tuned setting of a study with a tuned run that has ended, in the order of their
    names; :func:`unfinished_tunings` has the others.

    Raises:
        InputError: a file cannot be read.
    """
    return results.once("tunings", lambda: tuple(_all(results)))


def choose(
    trials: Results, arms: Sequence[str], search: Search, values: Sequence[Any]
) -> tuple[ChosenValue, ...]:
    """The value of each arm with the highest mean validation accuracy, then the lower validation
    loss, then the earlier in the grid. A value with a trial that was lost is chosen only where
    every value has one."""
    return tuple(_choice(trials, arm, search, list(values)) for arm in arms)


def compared(
    arms: Mapping[str, Mapping[str, Any]], rule: Rule, choices: Sequence[ChosenValue]
) -> tuple[tuple[str, str], ...]:
    """The study's pairs (reference, arm) in the names that they have at their chosen values."""
    names = {choice.arm: choice.name for choice in choices}
    return tuple(
        (names[reference], names[arm])
        for reference, arm in pairs(arms, rule.reference)
        if reference in names and arm in names
    )


def _all(results: Results) -> list[Tuning]:
    found = []
    for name in tuned_fields(results.folder):
        record = read_tuning(results.folder, name)
        below = tuning_folder(results.folder, name)
        if record is None or not is_study(below / "tuned") or not ended_runs(below / "tuned")[0]:
            continue
        if _edited(results, record):
            continue
        rule = Rule.read(results.question)
        tried = [
            record.search.trial(choice.arm, value)
            for choice in record.choices
            for value in record.values
        ]
        arms = [choice.arm for choice in record.choices]
        trials, tuned = (read_results(below / part) for part in ("trials", "tuned"))
        chosen = [choice.name for choice in record.choices]
        for part, named in ((results, arms), (trials, tried), (tuned, chosen)):
            _check_arms(part, named, name)
        seeds = _tuned_seeds(results, tuned, name)
        found.append(
            Tuning(
                record,
                trials.only(tried, record.search.seeds),
                results.only(arms, seeds),
                tuned.only(chosen),
                rule,
                compared(results.question["arms"], rule, record.choices),
                tuple(arm for arm in results.arms if arm not in arms),
                tuple(seed for seed in results.question["seeds"] if seed not in seeds),
            )
        )
    return found


def _tuned_seeds(results: Results, tuned: Results, field: str) -> list[int]:
    """The study's seeds when the field was tuned; those of the tuned runs where that is not known.
    Where seeds are added until all is decided, the two halves need not have equally many."""
    known: Mapping[str, Any] = next(
        (one for one in results.question.get("tuning", ()) if one["field"] == field), {}
    )
    seeds = results.question["seeds"]
    if known.get("until_decided") and "study_seeds" in known:
        return list(seeds[: known["study_seeds"]])
    return [seed for seed in tuned.question["seeds"] if seed in seeds]


def _check_arms(results: Results, named: Sequence[str], field: str) -> None:
    """Refuse a choice that names an arm which a study lacks."""
    strange = next((arm for arm in named if arm not in results.arms), None)
    if strange is not None:
        raise InputError(
            f"What was tuned of {field} names the arm {visible(strange)!r:.100}, which "
            f"{results.folder} does not have."
        )


def _edited(results: Results, record: TuningRecord) -> tuple[str, ...]:
    """The arms whose own runs were made with other code of their layer than the trials or the tuned
    runs."""
    below = tuning_folder(results.folder, record.search.field)
    parts = [read_results(below / name) for name in ("trials", "tuned")]

    def code(runs: Sequence[Run]) -> set[str]:
        return {str(run.record.get("code") or {}) for run in runs if run.ended}

    found = []
    for choice in record.choices:
        tuned = {record.search.trial(choice.arm, value) for value in record.values}
        then = set().union(*(code([r for r in part.runs if r.arm in tuned]) for part in parts))
        now = code(results.of_arm(choice.arm))
        if now and then and now != then:
            found.append(choice.arm)
    return tuple(found)


def _choice(trials: Results, arm: str, search: Search, values: list[Any]) -> ChosenValue:
    best: tuple[tuple[int, float, float], Any] | None = None
    for value in values:
        name = search.trial(arm, value)
        reached, lost = _reached(trials, name)
        loss = trials.spread(name, "val", "loss")
        if reached is None or loss is None:
            continue
        rank = (-lost, reached.mean, -loss.mean)
        if best is None or rank > best[0]:
            best = rank, value
    if best is None:
        return ChosenValue(arm, search.shared, search.trial(arm, search.shared), failed=True)
    value = best[1]
    edge = ""
    if search.ordered and len(values) > 1:
        edge = {0: "lowest", len(values) - 1: "highest"}.get(values.index(value), "")
    return ChosenValue(arm, value, search.trial(arm, value), edge)


def _reached(trials: Results, name: str) -> tuple[Spread | None, int]:
    lost = sum(run.lost for run in trials.of_arm(name))
    return trials.spread(name, "val", "accuracy"), lost
