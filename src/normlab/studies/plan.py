"""What a study asks: a grid over fields of a run's configuration, and seeds."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ..bounded import TOML_BYTES, parse_toml, read_file
from ..data import DataConfig
from ..errors import InputError, did_you_mean
from ..foreign import check_trusted
from ..launch import HOW
from ..options import takes_several, text_of, whole
from ..pages.words import listed
from ..runs import FIELDS, RunConfig, check_fields
from ..runs.arms import MOST_ARMS, MOST_RUNS, MOST_SEEDS, check_arms
from ..runs.rule import Rule, checked_margin, default_reference, looks_up_to, pairs
from .request import OF_SEVERAL_PROCESSES, Request, presets

CHECKS = ("same-function",)
"""What a study file may ask of its arms in addition to training."""
_TABLES = (
    "title",
    "seeds",
    "seeds_on_digits",
    "checks",
    "reference",
    "margin",
    "run",
    "grid",
    "data",
)


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        what: the preset's name, or the stem of the TOML file.
        title: a line for people.
        arms: name to configuration (of seed 0), in the order asked.
        varied: the fields of the grid.
        seeds: the seeds, the same for every arm.
        data: the data asked for.
        twins: pairs (reference, arm) of which the check ``same-function`` asks whether their
            layers are the same function: every arm, and the first one with the same other fields.
        rule: how the study is judged.
        until_decided: whether seeds are to be added, look by look, until all is decided.
        stated: which of ``reference``, ``margin`` and ``looks`` the rule has from whoever asked,
            and not by default.
        trust: whether layers that a file names may be imported.
    """

    what: str
    title: str
    arms: Mapping[str, RunConfig]
    varied: tuple[str, ...]
    seeds: tuple[int, ...]
    data: DataConfig
    rule: Rule
    until_decided: bool = False
    stated: frozenset[str] = frozenset()
    twins: tuple[tuple[str, str], ...] = ()
    trust: bool = False

    @property
    def points(self) -> dict[str, dict[str, Any]]:
        """Of each arm the fields that vary."""
        return {
            arm: {name: value for name, value in config.to_dict().items() if name in self.varied}
            for arm, config in self.arms.items()
        }

    @property
    def base(self) -> dict[str, Any]:
        """The fields that all arms share."""
        first = next(iter(self.arms.values())).to_dict()
        return {k: v for k, v in first.items() if k not in (*self.varied, "seed")}

    def config(self, arm: str, seed: int) -> RunConfig:
        """The configuration of one run."""
        return replace(self.arms[arm], seed=seed)


def make_plan(request: Request) -> Plan:
    """Make a plan from a preset or a TOML file and what a request sets in addition.

    Raises:
        InputError: an unknown preset, field, normalization, or an impossible value; a layer that
            the file names and that is not trusted.

    >>> plan = make_plan(Request.of("norms", arms="bn,gn", batch_size=[8, 32], seeds=2))
    >>> list(plan.arms)
    ['bn,batch_size=8', 'bn,batch_size=32', 'gn,batch_size=8', 'gn,batch_size=32']
    >>> plan.seeds, plan.rule.reference
    ((0, 1), 'bn')
    """
    what = request.what
    stated = read_stated(what)
    settings = dict(request.settings)
    grid: dict[str, list[Any]] = dict(stated.get("grid", {}))
    if request.arms is not None:
        grid["norm"] = list(request.arms)
    for name, value in list(settings.items()):
        several = isinstance(value, list) and not takes_several(FIELDS[name])
        if several or name in grid:
            grid[name] = list(settings.pop(name)) if several else [settings.pop(name)]
    for name in ("seed", "device", "threads", "kernels"):
        if name in grid:
            raise InputError(f"{name} cannot be varied by the grid of {what}.")
    shared = {**stated.get("run", {}), **settings}
    for name in OF_SEVERAL_PROCESSES:
        if name in grid or name in shared:
            raise InputError(
                f"{name} is no setting of a comparison, which makes each run in one process. "
                f"Remove it from {what}. For a run over several processes: {HOW}"
            )
    if request.arms is None:
        _check_trusted(grid.get("norm", shared.get("norm")), request.trust, what)
    named = _arms(grid, shared, what)
    asked = _data_config({**stated.get("data", {}), **request.data}, what)
    # Runs on the digits are short, so more of them fit into the time of a demo.
    count = stated.get("seeds", 3)
    if asked.source == "digits":
        count = stated.get("seeds_on_digits", count)
    count = count if request.seeds is None else request.seeds
    count = whole("seeds", count, most=MOST_SEEDS)
    check_size(len(named), count)
    title = text_of("title", request.title or stated.get("title", Path(what).stem))
    looks = looks_up_to(request.seeds) if request.until_decided else ()
    rule, given = _rule(stated, request.reference, request.margin, looks)
    if looks and request.seeds is not None:
        given |= {"looks"}
    plan = Plan(
        what=Path(what).stem,
        title=title,
        arms=named,
        varied=("norm", *(name for name in grid if name != "norm")),
        seeds=tuple(range(looks[0] if looks else count)),
        data=asked,
        rule=rule,
        until_decided=request.until_decided,
        stated=given,
        twins=_twins(named, _checked_checks(stated.get("checks", []), what)),
        trust=request.trust,
    )
    if "reference" not in given:
        rule = replace(rule, reference=default_reference(plan.points))
    return replace(plan, rule=rule)


def check_size(arms: int, seeds: int) -> None:
    """Refuse a study of more runs than anyone can mean.

    Raises:
        InputError: with how many there would be.
    """
    if arms * seeds > MOST_RUNS:
        raise InputError(
            f"{arms:,} arms with {seeds:,} seeds each are {arms * seeds:,} runs. A study can have "
            f"{MOST_RUNS:,} at most."
        )


def check_reference(plan: Plan) -> None:
    """Refuse a reference that no arm of the plan is.

    Raises:
        InputError: naming what there is.
    """
    pairs(plan.points, plan.rule.reference)


def _rule(
    stated: Mapping[str, Any],
    reference: str | None,
    margin: float | None,
    looks: tuple[int, ...],
) -> tuple[Rule, frozenset[str]]:
    """The rule as far as it was asked for, and which of its parts were."""
    asked = {
        "reference": reference if reference is not None else stated.get("reference"),
        "margin": margin if margin is not None else stated.get("margin"),
    }
    given = {name: value for name, value in asked.items() if value is not None}
    named = given.get("reference", "")
    if not isinstance(named, str):
        raise InputError(f"reference must be the name of an arm, got {named!r}.")
    rule = Rule(named, looks=looks)
    if "margin" in given:
        rule = replace(rule, margin=checked_margin(given["margin"]))
    return rule, frozenset(given)


def _arms(
    grid: Mapping[str, list[Any]], shared: Mapping[str, Any], what: str
) -> dict[str, RunConfig]:
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"The grid of {what} needs a list of values for {name}.")
    size = math.prod(len(values) for values in grid.values())
    if size > MOST_ARMS:
        raise InputError(
            f"The grid of {what} has {size:,} arms. A study can have {MOST_ARMS:,} at most."
        )
    for name, values in grid.items():
        counts = Counter(map(str, values))
        twice = [value for value, count in counts.items() if count > 1]
        if twice and name == "norm":
            raise InputError(_named_twice(twice))
        if twice:
            raise InputError(
                f"{name} has {listed(twice)} more than once: {', '.join(map(str, values))}. Give "
                "every value once."
            )
    check_fields(grid)
    check_fields(shared)
    norms = [_checked_norm(norm) for norm in grid.get("norm", [shared.get("norm", "bn")])]
    others = {name: values for name, values in grid.items() if name != "norm"}
    arms = {}
    for norm, *values in itertools.product(norms, *others.values()):
        point = dict(zip(others, values, strict=True))
        config = RunConfig.from_dict({**shared, "norm": norm, **point})
        # An arm is named by what varies, in the setting's own type: 1 and 1.0 are one rate.
        arms[",".join([norm, *(f"{key}={getattr(config, key)}" for key in point)])] = config
    check_arms(list(arms))
    return arms


def _check_trusted(norms: Any, trust: bool, what: str) -> None:
    """Layers that a file names, and nobody typed. Other mistakes are named later."""
    for norm in norms if isinstance(norms, list) else [norms]:
        if isinstance(norm, str):
            check_trusted(norm, trust, f"{what} names")


def _named_twice(arms: list[str]) -> str:
    named = f"arm {arms[0]} is" if len(arms) == 1 else f"arms {listed(arms)} are"
    return f"The {named} given more than once."


def _checked_norm(norm: Any) -> str:
    """Fail before the data is read, on every width of the network."""
    from ..training import layers_of

    if not isinstance(norm, str):
        raise InputError(f"norm must be text such as 'gn:groups=4', got {norm!r}.")
    layers_of(norm)
    return norm


def _twins(arms: Mapping[str, RunConfig], checks: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    if "same-function" not in checks:
        return ()
    first: dict[str, str] = {}
    pairs = []
    for arm, config in arms.items():
        rest = str({k: v for k, v in config.to_dict().items() if k != "norm"})
        reference = first.setdefault(rest, arm)
        if reference != arm:
            pairs.append((reference, arm))
    if not pairs:
        raise InputError(
            "same-function needs a reference and a layer to compare with it, got "
            f"only {', '.join(arms)}. Name both, the reference first: "
            "--arms torch_bn,package.module:Class"
        )
    return tuple(pairs)


def _checked_checks(names: Any, what: str) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"checks in {what} must be a list of names, got {names!r}.")
    for name in names:
        if name not in CHECKS:
            raise InputError(
                f"{what} asks for the check {name!r}{did_you_mean(name, CHECKS)}. "
                f"There is {', '.join(CHECKS)}."
            )
    return tuple(names)


def read_stated(what: str) -> dict[str, Any]:
    """What a preset or a TOML file says.

    Raises:
        InputError: there is no such preset or file, or it cannot be read.
    """
    if what.endswith(".toml"):
        content = read_file(Path(what), TOML_BYTES)
    else:
        entry = resources.files(__package__).joinpath("presets", f"{what}.toml")
        if what not in presets():
            raise InputError(
                f"{what!r} is not a preset{did_you_mean(what, presets())}. The presets are "
                f"{', '.join(presets())}; a file of your own must end in .toml. Images are given "
                "with --data."
            )
        content = entry.read_bytes()
    stated = parse_toml(content, what)
    for name in stated:
        if name not in _TABLES:
            raise InputError(
                f"{what} has {name!r}{did_you_mean(name, _TABLES)}. "
                f"A study file can have {', '.join(_TABLES)}."
            )
    for name in ("run", "grid", "data"):
        if not isinstance(stated.get(name, {}), dict):
            raise InputError(f"{name} in {what} must be a table, as in [{name}].")
    return stated


def _data_config(values: Mapping[str, Any], what: str) -> DataConfig:
    known = [f.name for f in fields(DataConfig)]
    for name in values:
        if name not in known:
            raise InputError(
                f"{name!r} in [data] of {what} is not known{did_you_mean(name, known)}. "
                f"Known are {', '.join(known)}."
            )
    return DataConfig(**values)
