"""Options of the command line, made from the fields that declare them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, get_args, get_type_hints

import cyclopts
from cyclopts import Group, Parameter

from .options import Fields, takes_several
from .pages.words import setting
from .values import read_value

DATA = Group("Data", sort_key=1)
VERDICT = Group("Verdict", sort_key=2)
RECIPE = Group(
    "Recipe (of every run)",
    help="With compare, a comma-separated list varies a setting: --batch-size 1,8,32.",
    sort_key=10,
)
Made = tuple[str, Any, Any]
"""Name, annotated type and default of an option."""


def options_of(
    cls: type, fields: Fields, group: Group | None = None, *, several: bool = False
) -> list[Made]:
    """Options for the fields of a dataclass; each is None unless given.

    Args:
        cls: the dataclass.
        fields: those of its fields to make options for.
        group: the heading in the help.
        several: an option with one number or word takes several, separated by commas.
    """
    hints = get_type_hints(cls)
    return [_option(name, f, hints[name], group, several) for name, f in fields.items()]


def options_class(name: str, made: Iterable[Made]) -> type:
    """A dataclass with these options, for cyclopts to flatten."""
    return dataclasses.make_dataclass(
        name, list(made), frozen=True, namespace={"__module__": __name__}
    )


def given(options: Any) -> dict[str, Any]:
    """The options that were given."""
    if options is None:
        return {}
    return {k: v for k, v in dataclasses.asdict(options).items() if v is not None}


def _option(
    name: str, f: dataclasses.Field[Any], hint: Any, group: Group | None, several: bool
) -> Made:
    if hint == tuple[str, ...] | None:
        hint = str | None  # the request splits it
    help_text = f.metadata["help"]
    extra: dict[str, Any] = {}
    if "[default" not in help_text and f.default is not False:
        help_text += f" [default: {setting(f.default)}]"
    if several and hint is not bool and not takes_several(f):
        extra = {"converter": _values, "n_tokens": 1, "negative": ""}
        hint = list[hint]
    elif hint is bool and f.default is False and group is not RECIPE:
        extra = {"negative": ""}
    elif takes_several(f):
        extra = {"negative_iterable": ""}
    if group is not None:
        extra["group"] = group
    parameter = Parameter(help=help_text, show_default=False, **extra)
    return name, Annotated[hint | None, parameter], None


def _values(type_: Any, tokens: Sequence[cyclopts.Token]) -> Any:
    """One value, or a list where there is a comma. The setting checks them."""
    (hint,) = get_args(type_)
    words = {word for word in (hint, *get_args(hint)) if isinstance(word, str)}

    def read(text: str) -> Any:
        return text if text in words else read_value(text)

    text = ",".join(token.value for token in tokens)
    if "," not in text:
        return read(text)
    return [read(part) for part in map(str.strip, text.split(",")) if part]
