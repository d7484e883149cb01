"""Tuning one setting for every arm alike: the trials, the choice, and reading both back.

Every arm gets the same values and the same seeds, which are none of the study's. Validation
chooses; the test split is not read. Where the best value of any arm lies at an edge of the grid,
the grid grows for all arms.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import read_json, write_json
from ..training import RunConfig, check_fields
from .plan import Plan
from .results import Results, Spread, read_results
from .rule import Rule, pairs
from .statistics import Judgement, judge
from .study import Study

FOLDER = "tuning"
FIRST_SEED = 1000
"""Seeds of trials count from here, those of a study from 0."""
SEEDS = 2
"""Trials of a value, by default."""
FACTOR, WHOLE_FACTOR, EACH_WAY = math.sqrt(10), 2, 2
"""A grid has the shared value and two steps of this factor each way (whole numbers double)."""
GROWTH = 3
"""How many values a grid may grow at each end."""
UNTUNABLE = ("norm", "seed", "device", "threads")


@dataclass(frozen=True)
class Search:
    """What is tuned.

    Attributes:
        field: of ``RunConfig``.
        shared: its value where nothing is tuned.
        values: the grid to begin with; numbers in ascending order.
        seeds: of the trials.
    """

    field: str
    shared: Any
    values: tuple[Any, ...]
    seeds: tuple[int, ...]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, so that a best one can lie at an edge."""
        return all(_is_number(value) for value in self.values)

    def trials(self, arms: int) -> int:
        """Runs of the grid as it begins."""
        return arms * len(self.values) * len(self.seeds)


@dataclass(frozen=True)
class Choice:
    """What was chosen for an arm.

    Attributes:
        arm: of the study.
        value: of the field; the shared one where every trial diverged.
        name: the arm's name at that value.
        edge: "lowest" or "highest" where the value lies at an edge of the last grid, else "".
        failed: whether every trial of the arm diverged.
    """

    arm: str
    value: Any
    name: str
    edge: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Tuning:
    """A tuned setting of a study, read back.

    Attributes:
        search: what was asked.
        values: the grid as it became.
        choices: one an arm.
        limit: why the grid grew no further although a best value lies at its edge; "" otherwise.
        trials: the runs that chose; they have no test metrics.
        tuned: the study's seeds at the chosen values.
        rule: of the study.
        compared: (reference, arm) in the names of ``tuned``.
    """

    search: Search
    values: tuple[Any, ...]
    choices: tuple[Choice, ...]
    limit: str
    trials: Results
    tuned: Results
    rule: Rule = field(repr=False)
    compared: tuple[tuple[str, str], ...] = ()

    @cached_property
    def judgement(self) -> Judgement:
        """Of the arms at their chosen values."""
        return judge(self.tuned, self.rule, compared=self.compared)

    @property
    def seconds(self) -> float:
        """Training and validation time of all trials together."""
        return sum(float(run.record.get("seconds", 0.0)) for run in self.trials.runs)

    def choice(self, arm: str) -> Choice | None:
        """What was chosen for an arm of the study."""
        return next((choice for choice in self.choices if choice.arm == arm), None)

    def reached(self, arm: str) -> list[tuple[Any, Spread | None, int]]:
        """For each value: validation accuracy over the trials, and how many diverged."""
        return [
            (value, *_reached(self.trials, trial_name(arm, self.search.field, value)))
            for value in self.values
        ]


def make_search(text: str, plan: Plan, seeds: int = SEEDS) -> Search:
    """From ``field`` or ``field=value,value,...``.

    Without values the grid is the shared value and two steps each way: by a factor of the square
    root of 10, or of 2 for whole numbers.

    Raises:
        InputError: no field of a run, one that the study varies, or values that cannot be.
    """
    name, _, listed = text.partition("=")
    name = name.strip().replace("-", "_")
    check_fields({name: None})
    if name in UNTUNABLE or name in plan.varied:
        why = "the study varies it" if name in plan.varied else "it is no setting of training"
        raise InputError(f"{name} cannot be tuned: {why}")
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise InputError(f"tune seeds must be a whole number of at least 1, got {seeds!r}")
    if len(plan.seeds) > FIRST_SEED or max(plan.seeds) >= FIRST_SEED:
        raise InputError(f"a study that is tuned has its seeds below {FIRST_SEED}")
    base = next(iter(plan.arms.values()))
    shared = getattr(base, name)
    values = _listed_values(name, listed, base) if listed else _grid(name, shared, base)
    return Search(name, shared, values, tuple(range(FIRST_SEED, FIRST_SEED + seeds)))


def trial_name(arm: str, name: str, value: Any) -> str:
    """The name of an arm at a value of the tuned field."""
    return f"{arm},{name}={value}"


def folder_of(study: Path, name: str) -> Path:
    """Where the tuning of a field lies."""
    return study / FOLDER / name


def check_same_search(study: Path, search: Search) -> None:
    """Refuse to tune a setting anew over another grid: that would be choosing the grid by what it
    gave.

    Raises:
        InputError: the study was tuned otherwise.
    """
    path = folder_of(study, search.field) / "tuning.json"
    if not path.is_file():
        return
    there = read_json(path)
    if there["grid"] != list(search.values) or there["seeds"] != list(search.seeds):
        raise InputError(
            f"{search.field} was tuned in {study} from {_and_so_on(there['grid'])} with "
            f"{len(there['seeds'])} seeds, and now {_and_so_on(search.values)} with "
            f"{len(search.seeds)} seeds are asked; ask the same or choose another --out"
        )


def trials_study(study: Study, search: Search, values: Sequence[Any]) -> Study:
    """The trials of a grid as a study of their own, below the study's folder."""
    arms = {
        trial_name(arm, search.field, value): replace(config, **{search.field: value})
        for arm, config in study.plan.arms.items()
        for value in values
    }
    return _below(study, search, "trials", arms, search.seeds)


def tuned_study(study: Study, search: Search, choices: Sequence[Choice]) -> Study:
    """The study's seeds at the chosen values."""
    arms = {
        choice.name: replace(study.plan.arms[choice.arm], **{search.field: choice.value})
        for choice in choices
    }
    return _below(study, search, "tuned", arms, study.plan.seeds)


def choose(
    trials: Results, arms: Sequence[str], search: Search, values: Sequence[Any]
) -> tuple[Choice, ...]:
    """The value of each arm with the highest mean validation accuracy, then the lower validation
    loss, then the earlier in the grid. A value with a trial that diverged is chosen only where
    every value has one."""
    return tuple(_choice(trials, arm, search, list(values)) for arm in arms)


def grown(
    search: Search, values: Sequence[Any], choices: Sequence[Choice], base: RunConfig
) -> tuple[tuple[Any, ...], str]:
    """The grid with a value more at each end where a best one lies.

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
            continue  # nothing lies beyond 0
        added = _next(search, found, edge, base)
        if added is None:
            limits.append(
                f"{search.field} {found[0 if edge == 'lowest' else -1]} is the {edge} value that "
                f"was tried and the best of {', '.join(arms)}: a better one may lie beyond"
            )
        else:
            found.insert(0 if edge == "lowest" else len(found), added)
    return tuple(found), "; ".join(limits)


def compared(
    arms: Mapping[str, Mapping[str, Any]], rule: Rule, choices: Sequence[Choice]
) -> tuple[tuple[str, str], ...]:
    """The study's pairs (reference, arm) in the names that they have at their chosen values."""
    names = {choice.arm: choice.name for choice in choices}
    return tuple(
        (names[reference], names[arm])
        for reference, arm in pairs(arms, rule.reference)
        if reference in names and arm in names
    )


def adopt(study: Study, tuned: Study, choices: Sequence[Choice]) -> None:
    """Copy the runs that the study has made already where a chosen value is the shared one."""
    home = {choice.name: choice.arm for choice in choices}
    for name, config, target in tuned.pending():
        source = study.run_folder(home[name], config.seed)
        if study.ended(home[name], config.seed) == config.identity(study.data.fingerprint):
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".copy-") as aside:
                shutil.copytree(source, Path(aside) / target.name)
                shutil.rmtree(target, ignore_errors=True)
                (Path(aside) / target.name).rename(target)


def write_tuning(
    study: Study, search: Search, values: Sequence[Any], choices: Sequence[Choice], limit: str
) -> None:
    """Write tuning.json."""
    write_json(
        folder_of(study.folder, search.field) / "tuning.json",
        {
            "field": search.field,
            "shared": search.shared,
            "grid": list(search.values),
            "values": list(values),
            "seeds": list(search.seeds),
            "limit": limit,
            "choices": [
                {"arm": c.arm, "value": c.value, "name": c.name, "edge": c.edge,
                 "failed": c.failed}
                for c in choices
            ],
        },
    )  # fmt: skip


def read_tunings(results: Results) -> tuple[Tuning, ...]:
    """Every tuned setting of a study, in the order of their names; those still under way are left
    out.

    Raises:
        InputError: a file cannot be read.
    """
    # Kept with the results, as a cached property is: read once, gone with them.
    kept: dict[str, tuple[Tuning, ...]] = results.__dict__
    if "_tunings" not in kept:
        kept["_tunings"] = tuple(
            _read(results, path)
            for path in sorted((results.folder / FOLDER).glob("*/tuning.json"))
            if (path.parent / "tuned" / "study.toml").is_file()
        )
    return kept["_tunings"]


def _read(results: Results, path: Path) -> Tuning:
    stated: Mapping[str, Any] = read_json(path)
    try:
        choices = tuple(Choice(**chosen) for chosen in stated["choices"])
        search = Search(
            stated["field"], stated["shared"], tuple(stated["grid"]), tuple(stated["seeds"])
        )
        values, limit = tuple(stated["values"]), str(stated["limit"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not as normlab writes it: {error!r}") from error
    rule = Rule.read(results.question)
    return Tuning(
        search,
        values,
        choices,
        limit,
        read_results(path.parent / "trials"),
        read_results(path.parent / "tuned"),
        rule,
        compared(results.question["arms"], rule, choices),
    )


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
        rule=replace(plan.rule, reference=reference, before=(), looked=()),
        twins=(),
    )
    folder = folder_of(study.folder, search.field) / name
    return Study(folder, below, study.data, study.command, study.findings)


def _choice(trials: Results, arm: str, search: Search, values: list[Any]) -> Choice:
    best: tuple[tuple[int, float, float], Any] | None = None
    for value in values:
        name = trial_name(arm, search.field, value)
        reached, lost = _reached(trials, name)
        loss = trials.spread(name, "val", "loss")
        if reached is None or loss is None:
            continue
        rank = (-lost, reached.mean, -loss.mean)
        if best is None or rank > best[0]:
            best = rank, value
    if best is None:
        return Choice(arm, search.shared, trial_name(arm, search.field, search.shared), failed=True)
    value = best[1]
    edge = ""
    if search.ordered and len(values) > 1:
        edge = {0: "lowest", len(values) - 1: "highest"}.get(values.index(value), "")
    return Choice(arm, value, trial_name(arm, search.field, value), edge)


def _reached(trials: Results, name: str) -> tuple[Spread | None, int]:
    runs = trials.of_arm(name)
    lost = sum(run.status.startswith("diverged") for run in runs)
    return trials.spread(name, "val", "accuracy"), lost


def _grid(name: str, shared: Any, base: RunConfig) -> tuple[Any, ...]:
    if not _is_number(shared) or shared <= 0:
        raise InputError(
            f"{name} is {shared!r} here, from which no logarithmic grid can be made; name its "
            f"values: --tune {name}=..."
        )
    whole = isinstance(shared, int)
    factor = WHOLE_FACTOR if whole else FACTOR
    steps = range(-EACH_WAY, EACH_WAY + 1)
    values = [shared if k == 0 else _rounded(shared * factor**k, whole) for k in steps]
    return tuple(dict.fromkeys(value for value in values if _possible(name, value, base)))


def _listed_values(name: str, listed: str, base: RunConfig) -> tuple[Any, ...]:
    values = [_parsed(part.strip()) for part in listed.split(",") if part.strip()]
    if len(values) < 2 or len(set(map(str, values))) < len(values):
        raise InputError(f"--tune {name}= needs two different values at least, got {listed!r}")
    made = [getattr(replace(base, **{name: value}), name) for value in values]
    return tuple(sorted(made)) if all(_is_number(value) for value in made) else tuple(made)


def _parsed(text: str) -> Any:
    words = {"none": None, "yes": True, "true": True, "no": False, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _next(search: Search, values: Sequence[Any], edge: str, base: RunConfig) -> Any:
    """The value beyond an end of the grid, in its own steps; None where there is none."""
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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _and_so_on(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
