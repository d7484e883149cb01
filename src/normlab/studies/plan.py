"""What a study asks: a grid over fields of a run's configuration, and seeds."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ..data import DataConfig
from ..errors import InputError, did_you_mean
from ..training import FIELDS, RunConfig, check_fields

CHECKS = ("same-function",)
"""What a study file may ask of its arms besides training them."""
_TABLES = ("title", "seeds", "checks", "run", "grid", "data")


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
    """

    what: str
    title: str
    arms: Mapping[str, RunConfig]
    varied: tuple[str, ...]
    seeds: tuple[int, ...]
    data: DataConfig
    twins: tuple[tuple[str, str], ...] = ()

    @property
    def base(self) -> dict[str, Any]:
        """The fields that all arms share."""
        first = next(iter(self.arms.values())).to_dict()
        return {k: v for k, v in first.items() if k not in (*self.varied, "seed")}

    def config(self, arm: str, seed: int) -> RunConfig:
        """The configuration of one run."""
        return replace(self.arms[arm], seed=seed)


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files(__package__).joinpath("presets")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def make_plan(
    what: str,
    data: Mapping[str, Any],
    *,
    arms: Sequence[str] | None = None,
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Make a plan from a preset or a TOML file and what the caller sets in addition.

    Args:
        what: a preset's name, or a path ending in ``.toml``.
        data: fields of ``DataConfig`` that the caller sets.
        arms: normalizations, in place of the grid's.
        seeds: how many; seeds count from 0.
        settings: fields of ``RunConfig`` that the caller sets, over the file's. A list of values
            (where the field's value is no list itself) is an axis of the grid.

    Raises:
        InputError: an unknown preset, field, normalization, or an impossible value.
    """
    stated = _read(what)
    settings = dict(settings or {})
    check_fields(settings)
    grid: dict[str, list[Any]] = dict(stated.get("grid", {}))
    if arms is not None:
        grid["norm"] = list(arms)
    elif "norm" in settings:
        grid["norm"] = [settings.pop("norm")]
    for name, value in list(settings.items()):
        several = isinstance(value, list) and not isinstance(FIELDS[name].default, tuple)
        if several or name in grid:
            grid[name] = list(settings.pop(name)) if several else [settings.pop(name)]
    for name in ("seed", "device", "threads"):
        if name in grid:
            raise InputError(f"{name} cannot be varied by a grid in {what}")
    named = _arms(grid, {**stated.get("run", {}), **settings}, what)
    count = seeds if seeds is not None else stated.get("seeds", 3)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"seeds must be a whole number of at least 1, got {count!r}")
    return Plan(
        what=Path(what).stem,
        title=stated.get("title", Path(what).stem),
        arms=named,
        varied=("norm", *(name for name in grid if name != "norm")),
        seeds=tuple(range(count)),
        data=_data_config({**stated.get("data", {}), **data}, what),
        twins=_twins(named, _checked_checks(stated.get("checks", []), what)),
    )


def _arms(
    grid: Mapping[str, list[Any]], shared: Mapping[str, Any], what: str
) -> dict[str, RunConfig]:
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"the grid of {what} needs a list of values for {name}")
        if len({str(value) for value in values}) != len(values):
            raise InputError(f"the grid of {what} names a value of {name} twice: {values}")
    check_fields(grid)
    check_fields(shared)
    norms = [_checked_norm(norm) for norm in grid.get("norm", [shared.get("norm", "bn")])]
    others = {name: values for name, values in grid.items() if name != "norm"}
    arms = {}
    for norm, *values in itertools.product(norms, *others.values()):
        point = dict(zip(others, values, strict=True))
        # An arm is named by what varies.
        name = ",".join([norm, *(f"{key}={value}" for key, value in point.items())])
        arms[name] = RunConfig.from_dict({**shared, "norm": norm, **point})
    return arms


def _checked_norm(norm: Any) -> str:
    """Fail before the data is read, on every width of the network."""
    from ..models.resnet import WIDTHS
    from ..norms import parse_norm

    if not isinstance(norm, str):
        raise InputError(f"norm must be text such as 'gn:groups=4', got {norm!r}")
    try:
        for width in WIDTHS:
            parse_norm(norm).make(width)
    except ValueError as error:
        raise InputError(f"arm {norm}: {error}") from error
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
            f"{', '.join(arms)} alone; name both, the reference first: "
            "--arms torch_bn,package.module:Class"
        )
    return tuple(pairs)


def _checked_checks(names: Any, what: str) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"checks in {what} must be a list of names, got {names!r}")
    for name in names:
        if name not in CHECKS:
            raise InputError(
                f"{what} asks for the check {name!r}{did_you_mean(name, CHECKS)}; "
                f"there is {', '.join(CHECKS)}"
            )
    return tuple(names)


def _read(what: str) -> dict[str, Any]:
    if what.endswith(".toml"):
        path = Path(what)
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        text = path.read_text(encoding="utf-8")
    else:
        entry = resources.files(__package__).joinpath("presets", f"{what}.toml")
        if what not in presets():
            raise InputError(
                f"unknown preset {what!r}{did_you_mean(what, presets())}; known are "
                f"{', '.join(presets())}, or give a file that ends in .toml"
            )
        text = entry.read_text(encoding="utf-8")
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{what} is not TOML: {error}") from error
    for name in stated:
        if name not in _TABLES:
            raise InputError(
                f"{what} has {name!r}{did_you_mean(name, _TABLES)}; "
                f"a study file holds {', '.join(_TABLES)}"
            )
    for name in ("run", "grid", "data"):
        if not isinstance(stated.get(name, {}), dict):
            raise InputError(f"{name} in {what} must be a table, as in [{name}]")
    return stated


def _data_config(values: Mapping[str, Any], what: str) -> DataConfig:
    known = [f.name for f in fields(DataConfig)]
    for name in values:
        if name not in known:
            raise InputError(
                f"{name!r} in [data] of {what} is not known{did_you_mean(name, known)}; "
                f"known are {', '.join(known)}"
            )
    return DataConfig(**values)
