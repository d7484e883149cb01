"""Every setting of a run and of the data in words: docs/settings.md.

``python -m normlab.workflow.settings`` prints the page.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..data import DataConfig
from ..data.config import MAX_SIZE, MIN_SIZE
from ..runs import FIELDS, RunConfig

_HEAD = """\
# Settings

The name of a setting is its key in a study file: under `[run]` or, with a list of values to
compare, under `[grid]`; settings of the data are under `[data]`. Where a setting has an option,
`normlab compare` and `normlab train` take it on the command line, and `normlab.compare` takes it
as a keyword argument. This page is printed by `python -m normlab.workflow.settings`.
"""

_RUN = """\
## A run

Everything that decides the numbers of a run, apart from its data. In `compare`, several values
separated by commas compare that setting: `--batch-size 8,32`. There, `--arms` names the
normalizations and `--seeds` says how many seeds to run.
"""

_DATA = """\
## The data

Everything that decides which images a study sees. A setting without an option can be set in a study
file.
"""

# Where a setting of the data does not have an option of its own name, and what bounds it.
_DATA_OPTIONS = {
    "source": "`--data`",
    "image_size": "`--image-size`",
    "limit_per_class": "`--limit-per-class`",
    "skip_bad": "`--skip-bad`",
    "split": "`--split`",
}
_DATA_BOUNDS = {
    "image_size": f"from {MIN_SIZE} to {MAX_SIZE}",
    "limit_per_class": ">= 1",
    "val_fraction": "in (0, 1)",
    "test_fraction": "in (0, 1)",
}
_ONLY_IN_TRAIN = {"norm": "`--norm` (train)", "seed": "`--seed` (train)"}


@dataclass(frozen=True)
class Setting:
    """One row of the page."""

    name: str
    option: str
    values: str
    default: str
    meaning: str

    def as_row(self) -> str:
        cells = (f"`{self.name}`", self.option, self.values, self.default, self.meaning)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def run_settings() -> Iterator[Setting]:
    """The settings of a run, in the order of :class:`normlab.runs.RunConfig`."""
    hints = get_type_hints(RunConfig)
    for name, field in FIELDS.items():
        option = f"`--{name.replace('_', '-')}`"
        yield Setting(
            name=name,
            option=_ONLY_IN_TRAIN.get(name, option),
            values=_values(hints[name], field.metadata["check"]),
            default=_shown(field.default),
            meaning=field.metadata["help"],
        )


def data_settings() -> Iterator[Setting]:
    """The settings of the data, in the order of :class:`normlab.data.DataConfig`."""
    hints = get_type_hints(DataConfig)
    meanings = _attributes(DataConfig)
    for field in fields(DataConfig):
        yield Setting(
            name=field.name,
            option=_DATA_OPTIONS.get(field.name, ""),
            values=_values(hints[field.name], _DATA_BOUNDS.get(field.name, "")),
            default=_shown(field.default),
            meaning=meanings[field.name],
        )


def as_markdown() -> str:
    """docs/settings.md."""
    return "\n".join(
        [_HEAD, _RUN, *_table(run_settings()), "", _DATA, *_table(data_settings()), ""]
    )


def _table(settings: Iterator[Setting]) -> Iterator[str]:
    yield "| name | option | values | default | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for setting in settings:
        yield setting.as_row()


def _values(hint: Any, bounds: str) -> str:
    """The type, the choices and the bounds of a setting in words."""
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        return ", or ".join([*(_values(kind, bounds) for kind in kinds), "none"])
    if get_origin(hint) is tuple:
        return f"numbers {bounds}".strip()
    choices = get_args(hint)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    return f"{words[hint]} {bounds}".strip()


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, tuple):
        return " ".join(f"{value:g}" for value in default)
    return f"`{default}`" if isinstance(default, str) else f"{default:g}"


def _attributes(config: type) -> dict[str, str]:
    """Name to meaning, from the section *Attributes* of a class's docstring."""
    section = (inspect.getdoc(config) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    texts = {name: re.sub(r"\s+", " ", text).replace("``", "`") for name, text in found}
    return {name: text[:1].upper() + text[1:] for name, text in texts.items()}


if __name__ == "__main__":
    print(as_markdown(), end="")
