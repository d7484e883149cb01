"""What a study asks: a grid over fields of a run's configuration, and seeds."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ..bounded import TOML_BYTES, parse_toml, read_file
from ..data import DataConfig
from ..errors import InputError, did_you_mean
from ..foreign import check_trusted, factory_of
from ..launch import HOW
from ..options import takes_several, text_of, whole
from ..pages.words import listed
from ..runs import FIELDS, OUR_NETWORK, RunConfig, check_fields
from ..runs.arms import MOST_ARMS, MOST_RUNS, MOST_SEEDS, check_arms
from ..runs.config import KernelChoice
from ..runs.rule import (
    LEAST_SEEDS,
    Rule,
    checked_margin,
    checked_target,
    default_reference,
    looks_up_to,
    pairs,
)
from .request import ALL, OF_SEVERAL_PROCESSES, Request, presets

CHECKS = ("same-function",)
"""What a study file may ask of its arms in addition to training."""
_TABLES = (
    "title",
    "seeds",
    "seeds_on_digits",
    "checks",
    "reference",
    "margin",
    "target",
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
        seeds: the seeds. Every arm has them, but for those in ``fewer``.
        data: the data asked for.
        twins: pairs (reference, arm) of which the check ``same-function`` asks whether their
            layers are the same function: every arm, and the first one with the same other fields.
        rule: how the study is judged.
        until_decided: whether seeds are to be added, look by look, until all is decided.
        stated: which of ``reference``, ``margin``, ``target`` and ``looks`` the rule has from
            whoever asked, and not by default; and whether ``kernels`` were.
        trust: whether layers that a file names may be imported.
        kernels_note: why layers are computed as they are, where nobody asked for it.
        fewer: arms that have only the first of the seeds, with their number: those that were
            decided, or that look by look have not come as far as others.
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
    kernels_note: str = ""
    fewer: Mapping[str, int] = field(default_factory=dict)

    @property
    def kernels(self) -> KernelChoice:
        """How the layers of all arms are computed."""
        return next(iter(self.arms.values())).kernels

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm."""
        return self.seeds[: self.fewer.get(arm, len(self.seeds))]

    @property
    def seed_counts(self) -> tuple[int, int]:
        """The smallest and the largest number of seeds of an arm."""
        counts = [len(self.seeds_of(arm)) for arm in self.arms]
        return min(counts), max(counts)

    def with_seeds(self, needed: Mapping[str, int]) -> Plan:
        """The plan in which these arms have at least so many seeds, and the others stay.

        >>> plan = make_plan(Request.of("norms", arms="bn,gn,none", seeds=3))
        >>> more = plan.with_seeds({"bn": 5, "gn": 5})
        >>> more.seeds_of("gn"), more.seeds_of("none")
        ((0, 1, 2, 3, 4), (0, 1, 2))
        """
        counts = {arm: max(len(self.seeds_of(arm)), needed.get(arm, 0)) for arm in self.arms}
        most = max(counts.values())
        seeds = self.seeds if most <= len(self.seeds) else tuple(range(most))
        fewer = {arm: count for arm, count in counts.items() if count < len(seeds)}
        return replace(self, seeds=seeds, fewer=fewer)

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

    def computed_by(self, kernels: KernelChoice, note: str = "") -> Plan:
        """The same with layers that are computed in this way, and why they are."""
        arms = {arm: replace(config, kernels=kernels) for arm, config in self.arms.items()}
        return replace(self, arms=arms, kernels_note=note)


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
    grid = _spelled_out(grid, shared)
    if shared.get("kernels") == "auto":
        del shared["kernels"]
    for name in OF_SEVERAL_PROCESSES:
        if name in grid or name in shared:
            raise InputError(
                f"{name} is no setting of a comparison, which makes each run in one process. "
                f"Remove it from {what}. For a run over several processes: {HOW}"
            )
    if request.arms is None:
        _check_trusted(grid.get("norm", shared.get("norm")), request.trust, what)
    if "model" not in request.settings:
        named = grid.get("model", shared.get("model"))
        models = named if isinstance(named, list) else [named]
        factories = [factory_of(model) for model in models if isinstance(model, str)]
        _check_trusted(factories, request.trust, what, "network")
    named = _arms(grid, shared, what)
    asked = _data_config({**stated.get("data", {}), **request.data}, what)
    if asked.folds is not None and request.tune is not None:
        raise InputError(
            "Give --tune or --folds, not both: values would be chosen on images that other runs "
            "are tested on. Choose the values on other data, or give --tune without --folds."
        )
    count = _seeds(request, stated, asked)
    looks = looks_up_to(request.seeds, asked.folds or 1) if request.until_decided else ()
    check_size(len(named), looks[-1] if looks else count)
    title = text_of("title", request.title or stated.get("title", Path(what).stem))
    rule, given = _rule(stated, request, looks)
    if looks and request.seeds is not None:
        given |= {"looks"}
    if "kernels" in shared:
        given |= {"kernels"}
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


def torch_because(why: str) -> str:
    """How layers are computed that cannot be compiled (``why``), or were not before."""
    said = "by operations of PyTorch"
    return f"{said}: {why}" if why else f"{said}, as in what is continued"


def _seeds(request: Request, stated: Mapping[str, Any], data: DataConfig) -> int:
    """How many seeds every arm has, where no looks decide.

    Raises:
        InputError: no possible number, or one that does not test every image equally often.
    """
    folds, named = data.folds, request.seeds
    if named is None and (folds is None or request.what.endswith(".toml")):
        named = stated.get("seeds")
        # Runs on the digits are short, so more of them fit into the time of a demo.
        if data.source == "digits":
            named = stated.get("seeds_on_digits", named)
    if named is None:
        # With folds, the smallest number of whole repetitions that has an interval.
        return LEAST_SEEDS if folds is None else -(-LEAST_SEEDS // folds) * folds
    count = whole("seeds", named, most=MOST_SEEDS)
    if folds is not None and count % folds:
        below = count // folds * folds
        nearest = [str(one) for one in (below, below + folds) if one]
        raise InputError(
            f"{count} seeds cannot test every image equally often with {folds} folds: they must be "
            f"a multiple of {folds}. Give --seeds {' or '.join(nearest)}."
        )
    return count


def joined_seeds(there: Mapping[str, Any], plan: Plan) -> tuple[tuple[int, ...], dict[str, int]]:
    """The seeds of a study that is there with what is asked now, and which arms have fewer.

    Every arm that is there gets the seeds that are asked, if it has not more already. An arm that
    joins gets those of the study; where seeds are added until all is decided, it begins with those
    of the first look.

    Args:
        there: what study.toml says.
        plan: what is asked now.
    """
    seeds = tuple(sorted({*there["seeds"], *plan.seeds}))
    before: Mapping[str, int] = there.get("fewer_seeds", {})
    fewer = {}
    for arm in {**there["arms"], **plan.arms}:
        if arm not in there["arms"]:
            asked = plan.fewer.get(arm, len(plan.seeds if plan.until_decided else seeds))
        elif arm in before or arm in plan.fewer:
            had = before.get(arm, len(there["seeds"]))
            asked = max(had, plan.fewer.get(arm, len(plan.seeds)))
        else:
            continue
        if asked < len(seeds):
            fewer[arm] = asked
    return seeds, fewer


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
    stated: Mapping[str, Any], request: Request, looks: tuple[int, ...]
) -> tuple[Rule, frozenset[str]]:
    """The rule as far as it was asked for, and which of its parts were."""
    asked = {
        name: stated.get(name) if (own := getattr(request, name)) is None else own
        for name in ("reference", "margin", "target")
    }
    given = {name: value for name, value in asked.items() if value is not None}
    named = given.get("reference", "")
    if not isinstance(named, str):
        raise InputError(f"reference must be the name of an arm, got {named!r}.")
    rule = Rule(named, looks=looks)
    if "margin" in given:
        rule = replace(rule, margin=checked_margin(given["margin"]))
    if "target" in given:
        rule = replace(rule, target=checked_target(given["target"]))
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
    from ..training import check_arm

    norms = [_checked_norm(norm) for norm in grid.get("norm", [shared.get("norm", "bn")])]
    others = {name: values for name, values in grid.items() if name != "norm"}
    arms = {}
    for norm, *values in itertools.product(norms, *others.values()):
        point = dict(zip(others, values, strict=True))
        config = RunConfig.from_dict({**shared, "norm": norm, **point})
        # An arm is named by what varies, in the setting's own type: 1 and 1.0 are one rate.
        arms[",".join([norm, *(f"{key}={getattr(config, key)}" for key in point)])] = config
    check_arms(list(arms))
    # Fail before the data is read.
    for norm, model in dict.fromkeys((c.norm, c.model) for c in arms.values()):
        check_arm(norm, model)
    return arms


def _spelled_out(grid: Mapping[str, list[Any]], shared: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The grid with the names of the catalogue where :data:`ALL` stands for them: for those that
    can stand in the networks that it has, or start from its weights."""
    norms = grid.get("norm")
    if not isinstance(norms, list) or ALL not in norms:
        return dict(grid)
    from ..training import methods

    asked = {**shared, **grid}
    every = methods(
        everywhere=asked.get("model", OUR_NETWORK) not in (OUR_NETWORK, [OUR_NETWORK]),
        from_weights=asked.get("weights") is not None,
    )
    spelled = [name for norm in norms for name in (every if norm == ALL else (norm,))]
    counts = Counter(map(str, spelled))
    twice = [name for name in counts if counts[name] > 1]
    if twice:
        raise InputError(f"{_named_twice(twice)} {ALL} stands for every method of the catalogue.")
    return {**grid, "norm": spelled}


def _check_trusted(names: Any, trust: bool, what: str, kind: str = "layer") -> None:
    """Layers and networks that a file names, and nobody typed. Other mistakes are named later."""
    for name in names if isinstance(names, list) else [names]:
        if isinstance(name, str):
            check_trusted(name, trust, f"{what} names", kind)


def _named_twice(arms: list[str]) -> str:
    named = f"arm {arms[0]} is" if len(arms) == 1 else f"arms {listed(arms)} are"
    return f"The {named} given more than once."


def _checked_norm(norm: Any) -> str:
    if not isinstance(norm, str):
        raise InputError(f"norm must be text such as 'gn:groups=4', got {norm!r}.")
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
