"""Tuning one setting for every arm alike: what is tried, and the studies that try it.

Every arm gets the same values and the same seeds, which the study does not use. Validation
chooses; the test split is not read. Where the best value of any arm is at an edge of the grid,
the grid grows for all arms.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..leftovers import mark
from ..options import check_names, whole
from ..pages.words import listed, setting_title
from ..runs import FIELDS, RunConfig, is_study, tuning_folder
from ..runs.arms import MOST_ARMS, MOST_SEEDS
from ..runs.study_file import read_question
from ..runs.tuning import ChosenValue, Search, is_number, read_tuning
from ..values import read_values
from .plan import Plan, check_size, joined_seeds
from .request import OF_SEVERAL_PROCESSES
from .study import Study

FIRST_SEED = 1000
"""Seeds of trials count from here, those of a study from 0."""
SEEDS = 2
"""Trials of a value, by default."""
FACTOR, WHOLE_FACTOR, EACH_WAY = math.sqrt(10), 2, 2
"""A grid has the shared value and two steps of this factor each way (whole numbers double)."""
GROWTH = 3
"""How many values a grid may grow at each end."""
UNTUNABLE = ("norm", "seed", "device", "threads", "kernels", *OF_SEVERAL_PROCESSES)


def make_search(text: str, plan: Plan, seeds: int = SEEDS) -> Search:
    """From ``field`` or ``field=value,value,...``.

    Without values the grid is the shared value and two steps each way: by a factor of the square
    root of 10, or of 2 for whole numbers.

    Raises:
        InputError: no field of a run, one that the study varies, or values that cannot be.
    """
    name, _, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    choices = [field for field in FIELDS if field not in {*UNTUNABLE, *plan.varied}]
    if name not in FIELDS:
        check_names({name: None}, FIELDS, "a setting that can be tuned", choices)
    if name in UNTUNABLE or name in plan.varied:
        why = "the study varies it" if name in plan.varied else "it is not a setting of training"
        raise InputError(f"{name} cannot be tuned: {why}.")
    seeds = whole("tune seeds", seeds, most=MOST_SEEDS)
    if len(plan.seeds) > FIRST_SEED or max(plan.seeds) >= FIRST_SEED:
        raise InputError(f"A tuned study must have seeds below {FIRST_SEED}.")
    base = next(iter(plan.arms.values()))
    shared = getattr(base, name)
    values = _listed_values(name, listed, base) if listed else _grid(name, shared, base)
    trials = len(plan.arms) * (len(values) + 2 * GROWTH)
    if trials > MOST_ARMS:
        raise InputError(
            f"Tuning {name} would try {len(plan.arms):,} arms at up to "
            f"{len(values) + 2 * GROWTH:,} values: {trials:,}. {MOST_ARMS:,} are the most."
        )
    check_size(trials, seeds)
    return Search(name, shared, values, tuple(range(FIRST_SEED, FIRST_SEED + seeds)))


def check_same_search(study: Path, search: Search) -> None:
    """Refuse to tune a setting again over another grid: that would be choosing the grid by what it
    gave.

    Raises:
        InputError: the study was tuned otherwise.
    """
    there = read_tuning(study, search.field)
    if there is None:
        return
    known = there.search
    if (known.values, known.seeds) != (search.values, search.seeds):
        raise InputError(
            f"{search.field} was tuned in {study} from {_and_so_on(known.values)} with "
            f"{len(known.seeds)} seeds, and now {_and_so_on(search.values)} with "
            f"{len(search.seeds)} seeds are asked. Ask the same, or choose another --out."
        )


def trials_study(study: Study, search: Search, values: Sequence[Any]) -> Study:
    """The trials of a grid as a study of their own, below the study's folder. Where every seed
    starts from weights of its own, trials start from those of the first."""
    first = study.plan.seeds[0]
    arms = {
        search.trial(arm, value): replace(
            config,
            **{search.field: value, "weights": replace(config, seed=first).weights_file},
        )
        for arm, config in study.plan.arms.items()
        for value in values
    }
    return _below(study, search, "trials", arms, search.seeds)


def tuned_study(study: Study, search: Search, choices: Sequence[ChosenValue]) -> Study:
    """The study's seeds at the chosen values; where seeds are added until all is decided, those of
    the first look, and more by what these runs give."""
    plan = study.plan
    arms = {
        choice.name: replace(plan.arms[choice.arm], **{search.field: choice.value})
        for choice in choices
    }
    if plan.until_decided:
        tuned = _below(study, search, "tuned", arms, plan.seeds[: plan.rule.looks[0]])
    else:
        tuned = _below(study, search, "tuned", arms, plan.seeds)
        fewer = {c.name: plan.fewer[c.arm] for c in choices if c.arm in plan.fewer}
        tuned.plan = replace(tuned.plan, fewer=fewer)
    if is_study(tuned.folder):
        seeds, fewer = joined_seeds(read_question(tuned.folder), tuned.plan)
        fewer = {arm: count for arm, count in fewer.items() if arm in arms}
        tuned.plan = replace(tuned.plan, seeds=seeds, fewer=fewer)
    return tuned


def grown(
    search: Search, values: Sequence[Any], choices: Sequence[ChosenValue], base: RunConfig
) -> tuple[tuple[Any, ...], str]:
    """The grid with one more value at each end where a best one is.

    Returns:
        The grid, the same if it need not or cannot grow; and why it cannot.
    """
    found = list(values)
    limits = []
    if not search.ordered:
        return tuple(values), ""
    for edge in ("lowest", "highest"):
        arms = [choice.arm for choice in choices if choice.edge == edge]
        if not arms or (edge == "lowest" and found[0] == 0):
            continue  # there is nothing beyond 0
        added = _next(search, found, edge, base)
        if added is None:
            limits.append(
                f"The {setting_title(search.field)} {found[0 if edge == 'lowest' else -1]} is the "
                f"{edge} value that was tried, and the best for {listed(arms)}; a better one may "
                "be beyond it."
            )
        else:
            found.insert(0 if edge == "lowest" else len(found), added)
    return tuple(found), " ".join(limits)


def adopt(study: Study, tuned: Study, choices: Sequence[ChosenValue]) -> None:
    """Copy the runs that the study has made already where a chosen value is the shared one."""
    home = {choice.name: choice.arm for choice in choices}
    for name, config, target in tuned.pending():
        source = study.run_folder(home[name], config.seed)
        if study.is_done(source, config):
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".copy-{mark()}.") as aside:
                shutil.copytree(source, Path(aside) / target.name)
                shutil.rmtree(target, ignore_errors=True)
                (Path(aside) / target.name).rename(target)


def _below(
    study: Study,
    search: Search,
    name: str,
    arms: Mapping[str, RunConfig],
    seeds: tuple[int, ...],
) -> Study:
    plan = study.plan
    reference = next(iter(arms))
    below = replace(
        plan,
        title=f"{plan.title}: {search.field} tuned ({name})",
        arms=dict(arms),
        varied=(*plan.varied, search.field),
        seeds=seeds,
        fewer={},
        rule=replace(
            plan.rule, reference=reference, before=(), looked=(), grown=(), edited=(), retargeted=()
        ),
        twins=(),
    )
    folder = tuning_folder(study.folder, search.field) / name
    return Study(folder, below, study.data, findings=study.findings)


def _grid(name: str, shared: Any, base: RunConfig) -> tuple[Any, ...]:
    if not is_number(shared) or shared <= 0:
        raise InputError(
            f"{name} is {shared!r} here, from which no logarithmic grid can be made. Name its "
            f"values: --tune {name}=..."
        )
    whole = isinstance(shared, int)
    factor = WHOLE_FACTOR if whole else FACTOR
    steps = range(-EACH_WAY, EACH_WAY + 1)
    values = [shared if k == 0 else _rounded(shared * factor**k, whole) for k in steps]
    return tuple(dict.fromkeys(value for value in values if _possible(name, value, base)))


def _listed_values(name: str, listed: str, base: RunConfig) -> tuple[Any, ...]:
    values = read_values(listed)
    if len(values) > MOST_ARMS:
        raise InputError(f"--tune {name} has {len(values):,} values. {MOST_ARMS:,} are the most.")
    different = len(set(map(str, values)))
    if different < max(2, len(values)):
        what = "repeats a value" if different < len(values) else "names fewer than two values"
        raise InputError(
            f"--tune {name}={listed} {what}. Give at least two different ones, separated by commas."
        )
    made = [getattr(replace(base, **{name: value}), name) for value in values]
    return tuple(sorted(made)) if all(is_number(value) for value in made) else tuple(made)


def _next(search: Search, values: Sequence[Any], edge: str, base: RunConfig) -> Any:
    """The value beyond an end of the grid, in its own steps; None if it has none."""
    first = search.values[0 if edge == "lowest" else -1]
    end, inner = (values[0], values[1]) if edge == "lowest" else (values[-1], values[-2])
    if values.index(first) >= GROWTH and edge == "lowest":
        return None
    if edge == "highest" and len(values) - 1 - values.index(first) >= GROWTH:
        return None
    if end <= 0 or inner <= 0:
        return None
    whole = isinstance(end, int)
    value = _rounded(end * end / inner, whole)
    beyond = value < end if edge == "lowest" else value > end
    return value if beyond and _possible(search.field, value, base) else None


def _possible(name: str, value: Any, base: RunConfig) -> bool:
    try:
        replace(base, **{name: value})
    except InputError:
        return False
    return True


def _rounded(value: float, whole: bool) -> Any:
    return round(value) if whole else float(f"{value:.2g}")


def _and_so_on(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
