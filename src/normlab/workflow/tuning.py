"""Tuning a setting: rounds of trials, the choice, and the study's seeds at the chosen values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..data import DataSet
from ..results import read_results, write_results_csv
from ..results.tuning import choose, compared
from ..runs.tuning import ChosenValue, Search, TuningRecord
from ..studies import Study, StudyCluster, carry_out, tuning
from ..training import Keeping
from .watching import Watcher


def choose_values(
    study: Study,
    dataset: DataSet,
    search: Search,
    workers: int,
    watcher: Watcher | None,
    keeping: Keeping,
    cluster: StudyCluster | None,
) -> tuple[ChosenValue, ...]:
    """Run the trials, let the grid grow while a best value is at its edge, and write the choice
    down."""
    values, grid = search.values, search.values
    base = next(iter(study.plan.arms.values()))
    while True:
        trials = tuning.trials_study(study, search, values)
        trials.write()
        if watcher and (pending := len(trials.pending())):
            watcher.stage(_announced(search, values, grid, pending))
        carry_out(trials, dataset, workers, watcher, trials=True, keeping=keeping, cluster=cluster)
        results = read_results(trials.folder)
        choices = choose(results, tuple(study.plan.arms), search, values)
        more, limit = tuning.grown(search, values, choices, base)
        if more == values:
            break
        grid, values = values, more
    write_results_csv(results)
    TuningRecord(search, values, choices, limit).write(study.folder)
    if watcher:
        watcher.stage(_said(search, choices, limit))
    return choices


def tune(
    study: Study,
    dataset: DataSet,
    search: Search,
    workers: int,
    watcher: Watcher | None,
    run: Callable[[Study, Sequence[tuple[str, str]]], int],
    keeping: Keeping,
    cluster: StudyCluster | None,
) -> int:
    """Choose the values, then make the study's runs at them; return how many were made.

    Args:
        study: whose runs at the shared value have been made.
        dataset, search, workers, watcher: as for the comparison.
        run: makes the runs of a study, given which arms are compared.
        keeping: how the trials are kept.
        cluster: whose machines make them, if there is one.
    """
    choices = choose_values(study, dataset, search, workers, watcher, keeping, cluster)
    tuned = tuning.tuned_study(study, search, choices)
    tuned.write()
    tuning.adopt(study, tuned, choices)
    made = run(tuned, compared(study.plan.points, study.plan.rule, choices))
    write_results_csv(read_results(tuned.folder))
    return made


def _announced(
    search: Search, values: tuple[object, ...], before: tuple[object, ...], trials: int
) -> str:
    added = [value for value in values if value not in before]
    what = (
        f"the best {search.field} of an arm is at the edge of the grid, which grows for all arms: "
        f"{', '.join(map(str, added))}"
        if added
        else f"{search.field} over {', '.join(map(str, values))}"
    )
    return f"Tuning: {what}; {trials} trials, chosen on validation"


def _said(search: Search, choices: tuple[ChosenValue, ...], limit: str) -> str:
    named = ", ".join(f"{choice.arm} {choice.value}" for choice in choices)
    return f"Chosen {search.field}: {named}." + (f" {limit}" if limit else "")
