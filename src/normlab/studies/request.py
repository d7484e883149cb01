"""A request: everything that ``compare`` is asked, declared and described once.

The command line's options, the arguments in Python and the recorded command all come from here.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from ..data.config import DataConfig
from ..errors import InputError
from ..options import Fields, check_names, fields_of, in_type, option, several, whole, words
from ..runs import FIELDS, STUDY, is_study
from ..runs.arms import MOST_SEEDS, check_arms
from ..training.keeping import KEEPING_FIELDS as KEEPING_FIELDS
from ..training.keeping import Keeping as Keeping
from ..values import plain
from .machines import MACHINES_FIELDS


def presets() -> list[str]:
    """Names of the presets that come with the package.

    >>> presets()
    ['all-norms', 'batch-size', 'depth', 'experiment', 'learning-rate', 'norms', 'sanity']
    """
    folder = resources.files(__package__).joinpath("presets")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


ALL = "all"
"""Among arms: every method of the catalogue, in its order."""
DATA_FIELDS = fields_of(DataConfig)
_OF_THE_CALL = ("out", "workers", "dry_run", "repair", *KEEPING_FIELDS, *MACHINES_FIELDS)
"""What a call of compare takes besides; a request has none of it."""
OF_THE_MACHINE = ("device", "kernels")
"""Settings of a run that may be ``auto``: what they are then depends on the machine."""
OF_SEVERAL_PROCESSES = ("processes", "statistics")
"""Settings of a run that torchrun starts. A comparison makes each run in one process."""
SETTINGS: Fields = {
    name: field
    for name, field in FIELDS.items()
    if name not in ("norm", "seed", *OF_THE_MACHINE, *OF_SEVERAL_PROCESSES)
}
"""The other settings of a run that a comparison takes as options."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a comparison is asked.

    Attributes:
        data: fields of ``DataConfig`` that were given.
        settings: fields of ``RunConfig`` that were given; a list of values is an axis of the grid.
    """

    what: str = option(
        "norms",
        f"A preset ({', '.join(presets())}), a TOML file that describes a grid, or the data: a "
        "folder, as with --data.",
    )
    title: str | None = option(None, "The title of the report. [default: the preset's]")
    arms: tuple[str, ...] | None = option(
        None,
        "The normalizations to compare, separated by commas: bn,gn:groups=4,package.module:Class; "
        "all stands for every method of normlab norms. [default: the preset's]",
    )
    seeds: int | None = option(
        None,
        "Runs of every arm, each with its own seed; with folds a multiple of them. [default: the "
        "preset's; with folds as many as folds, or 4 with 2 folds]",
    )
    clean_split: bool = option(
        False, "Search for copies first, and keep all images of one photograph in one split."
    )
    reference: str | None = option(
        None, "The arm (in a grid: the layer) that the others are compared with. [default: bn]"
    )
    margin: float | None = option(
        None, "The largest difference that does not matter, in points. [default: 0.5]"
    )
    target: float | None = option(
        None,
        "A validation accuracy in percent; the report says after how many epochs, updates and "
        "seconds runs reach it. [default: chosen after the runs, from those of the reference]",
    )
    until_decided: bool = option(
        False,
        "Add seeds at 3, 5, 8, 12 and 20 (with folds, at their next multiples) where a comparison "
        "is not decided yet; --seeds is then the last look.",
    )
    tune: str | None = option(
        None,
        "Choose a setting for each arm from the same values, on validation: lr, or with values "
        "lr=0.01,0.03,0.1. The report shows both, shared and tuned.",
    )
    tune_seeds: int = option(2, "Trials per value, with seeds of their own.")
    trust: bool = option(
        False,
        "Import layers that are not part of normlab and that a study or a TOML file names, not "
        "you. This runs their code.",
    )
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.arms is not None and not self.arms:
            raise InputError("arms is empty. Name at least one normalization, for example bn,gn.")
        if self.data.get("split") is not None and self.clean_split:
            raise InputError("Give --split or --clean-split, not both.")
        check_names(self.settings, FIELDS, "a field of a run")

    @classmethod
    def of(cls, what: str | Path = "norms", data: Any = None, **options: Any) -> Request:
        """A request from flat options, as the command line and Python give them.

        >>> Request.of("norms", arms="bn,gn", seeds=5, epochs=2).settings
        {'epochs': 2}

        Args:
            what: a preset or a TOML file, or the source where ``data`` is None.
            data: the source.
            options: fields of ``Request``, ``DataConfig`` and ``RunConfig``; None counts as not
                given.

        Raises:
            InputError: an unknown option, or an impossible combination.
        """
        given = {name: plain(value) for name, value in options.items() if value is not None}
        what, data = _meant(_place("what", what), None if data is None else _place("data", data))
        if data is not None:
            given["source"] = data
        machine = {name: FIELDS[name] for name in OF_THE_MACHINE}
        known = {**REQUEST_FIELDS, **DATA_FIELDS, **SETTINGS, **machine}
        listed = ("what", "data", *(name for name in known if name not in ("what", "source")))
        check_names(given, known, "an option of compare", (*listed, *_OF_THE_CALL))
        for name, value in given.items():
            if isinstance(value, str) and not _is_text(value):
                raise InputError(f"{name} is not valid Unicode: {value!a}.")
            if name in SETTINGS and _is_many(value):
                given[name] = several(name, value)
        hints = get_type_hints(cls)
        for name in given.keys() & REQUEST_FIELDS.keys():
            if hints[name] in (str | None, bool):
                given[name] = in_type(name, given[name], hints[name])
        if "tune_seeds" in given:
            given["tune_seeds"] = whole("tune seeds", given["tune_seeds"], most=MOST_SEEDS)
        if "arms" in given:
            given["arms"] = _arms(given["arms"])
        return cls(
            what=what,
            **{name: value for name, value in given.items() if name in REQUEST_FIELDS},
            data={name: given[name] for name in DATA_FIELDS if name in given},
            # In the order of their declaration, which names the arms of a grid.
            settings={
                name: given[name] for name in FIELDS if name in given and name not in REQUEST_FIELDS
            },
        )

    def command(self, out: str | None = None) -> str:
        """The command line that asks the same."""
        asked = {
            name: getattr(self, name)
            for name, f in REQUEST_FIELDS.items()
            if name not in ("what", "arms") and getattr(self, name) != f.default
        }
        data = {"data" if name == "source" else name: value for name, value in self.data.items()}
        written = ["normlab", "compare", *([self.what] if self.what != "norms" else [])]
        first = {"data": data.pop("data", None)}
        arms = {"arms": None if self.arms is None else ",".join(self.arms)}
        for part in (first, arms, asked, data, self.settings, {"out": out}):
            written += words(part, FIELDS)
        return shlex.join(written)


def _place(name: str, value: Any) -> str:
    """A name or a path, as text."""
    found = plain(value)
    if not isinstance(found, (str, os.PathLike)):
        raise InputError(f"{name} must be text or a path, got {value!r}.")
    return str(found)


def _meant(what: str, data: Any) -> tuple[str, Any]:
    """What is asked and of which data: a folder in the place of a preset is the data.

    Raises:
        InputError: a study, or a folder besides the data.
    """
    if what in presets() or what.endswith(".toml"):
        return what, data
    folder = Path(os.path.expanduser(what))  # noqa: PTH111 - Path's fails where there is no home
    if what != "digits" and not folder.is_dir():
        return what, data
    if is_study(folder):
        raise InputError(
            f"{what} is a study, not data. To resume it, give the command that made it again (see "
            f"{folder / STUDY}). To write its report again: normlab report {what}"
        )
    if data is not None:
        raise InputError(
            f"{what} is data, and --data {data} was given too. Give one of them, and at most a "
            f"preset ({', '.join(presets())}) or a TOML file in the first place."
        )
    return "norms", what


def _is_text(value: str) -> bool:
    """Whether the record, which is text, can say it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_many(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


def _arms(asked: Any) -> tuple[Any, ...]:
    """Arms by name: text with commas between them, or names and classes of layers."""
    if isinstance(asked, str):
        named = [part for part in map(str.strip, asked.split(",")) if part]
        check_arms(named)
        return tuple(named)
    arms: list[Any] = [asked] if isinstance(asked, type) else several("arms", asked)
    if any(isinstance(arm, type) for arm in arms):
        # Imported here: a command line has no classes, and should start without torch.
        from ..training import name_of_layer

        arms = [name_of_layer(arm) if isinstance(arm, type) else arm for arm in arms]
    for arm in arms:
        if not isinstance(arm, str):
            raise InputError(
                f"arms must be names or classes of layers, got {arm!r}. A layer of your own is a "
                "class, or text such as package.module:Class."
            )
    found = tuple(map(str, arms))
    check_arms(found)
    return found


REQUEST_FIELDS = {k: f for k, f in fields_of(Request).items() if k not in ("data", "settings")}
"""Name to field of what is neither about data nor a setting of runs."""
