"""Every setting of a comparison, its runs and its data in words: docs/settings.md.

``python -m normlab.workflow.settings`` prints the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import Field, dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..data.config import MAX_FOLDS, MAX_SIZE, MIN_SIZE, DataConfig
from ..options import Fields
from ..pages.words import setting
from ..runs import FIELDS, RunConfig
from ..runs.arms import MOST_ARMS, MOST_RUNS, MOST_SEEDS
from ..studies.machines import MACHINES_FIELDS, Machines
from ..studies.request import DATA_FIELDS, KEEPING_FIELDS, REQUEST_FIELDS, Keeping, Request

_HEAD = """\
# Settings

`normlab compare` takes every setting below as an option, and `normlab.compare` as a keyword
argument. `normlab train` takes those of a run and of the data. This page is printed by
`python -m normlab.workflow.settings`.

Decoded images and what was measured on them are kept in a cache, so that the next command starts at
once. It is in the user's cache folder (on Linux `~/.cache/normlab`), or where the variable
`NORMLAB_CACHE` says. It may be deleted at any time.
"""

_COMPARISON = f"""\
## A comparison

`title`, `seeds`, `reference` and `margin` can also be set at the top of a study file. A study can
have {MOST_ARMS:,} arms and {MOST_RUNS:,} runs at most.
"""

_KEEPING = """\
## Making and keeping a run

Settings of a call, like the number of workers: they change no result and are no part of a study. A
study file has none of them.
"""

_MACHINES = """\
## Where runs are made

Settings of a call, like the number of workers: they change no result and are no part of a study. A
study file has none of them. [many-machines.md](many-machines.md) says what a machine needs.
"""

_RUN = """\
## A run

Everything that decides the numbers of a run, apart from its data. In `compare`, several values
separated by commas compare that setting: `--batch-size 8,32`. In a study file, a setting is a key
under `[run]` or, with a list of values to compare, under `[grid]`.
"""

_DATA = """\
## The data

Everything that decides which images a study sees. In a study file, the keys are under `[data]`.
"""

_BOUNDS = {
    "seeds": f">= 1 and <= {MOST_SEEDS}",
    "tune_seeds": f">= 1 and <= {MOST_SEEDS}",
    "margin": "> 0",
    "image_size": f"from {MIN_SIZE} to {MAX_SIZE}",
    "limit_per_class": ">= 1",
    "folds": f"from 2 to {MAX_FOLDS}",
    "val_fraction": "in (0, 1)",
    "test_fraction": "in (0, 1)",
}
"""Of settings that are checked where they are used."""
_OPTIONS = {
    "what": "first argument",
    "source": "`--data`",
    "norm": "`--norm` (train only)",
    "seed": "`--seed` (train only)",
    "device": "`--device`, where the default is `auto`",
    "kernels": "`--kernels`, where the default is `auto`",
    "processes": "as many as torchrun starts (train only)",
    "statistics": "`--statistics` (train only)",
}
"""Of settings whose option has another name or another place."""
_DEFAULT = re.compile(r"\s*\[default: (.*)\]$")


@dataclass(frozen=True)
class Setting:
    """One row of the page."""

    name: str
    option: str
    values: str
    default: str
    meaning: str

    def as_row(self) -> str:
        """The row in Markdown."""
        cells = (f"`{self.name}`", self.option, self.values, self.default, self.meaning)
        return f"| {' | '.join(cells)} |"


def settings_of(cls: type, declared: Fields) -> Iterator[Setting]:
    """The settings that a dataclass declares, in its order.

    >>> [found.option for found in settings_of(RunConfig, FIELDS)][2:5]
    ['`--n`', '`--shortcut`', '`--model`']
    """
    hints = get_type_hints(cls)
    for name, field in declared.items():
        help_text: str = field.metadata["help"]
        yield Setting(
            name=name,
            option=_OPTIONS.get(name, f"`--{name.replace('_', '-')}`"),
            values=_values(hints[name], field.metadata["check"] or _BOUNDS.get(name, "")),
            default=_default(field),
            meaning=_DEFAULT.sub("", help_text),
        )


def as_markdown() -> str:
    """docs/settings.md."""
    parts = (
        (_COMPARISON, Request, REQUEST_FIELDS),
        (_MACHINES, Machines, MACHINES_FIELDS),
        (_RUN, RunConfig, FIELDS),
        (_DATA, DataConfig, DATA_FIELDS),
        (_KEEPING, Keeping, KEEPING_FIELDS),
    )
    lines = [_HEAD]
    for words, cls, declared in parts:
        lines += [words, "| name | option | values | default | meaning |", "| --- " * 5 + "|"]
        lines += [found.as_row() for found in settings_of(cls, declared)]
        lines.append("")
    return "\n".join(lines)


def _values(hint: Any, bounds: str) -> str:
    """The type, the choices and the bounds of a setting in words."""
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_values(kind, bounds) for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is tuple:
        kind = get_args(hint)[0]
        return f"{words[kind]}s {bounds}".strip() if kind is not str else "names"
    if get_args(hint):
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    return f"{words[hint]} {bounds}".strip()


def _default(field: Field[Any]) -> str:
    """What the help says, or the value."""
    said = _DEFAULT.search(field.metadata["help"])
    if said is not None:
        return said.group(1)
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"`{field.default}`" if isinstance(field.default, str) else setting(field.default)


if __name__ == "__main__":
    print(as_markdown(), end="")
