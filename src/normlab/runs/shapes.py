"""A declarative check of plain content: what a field must be, and a message where it is not.

A *shape* is a function of a value and the name of its place; it raises :class:`MismatchError`.
Shapes are put together as the content is: a table of fields, a list of one kind, an entry for each
name. It is this small because messages, bounds and shapes are all that is needed here: a library of
schemas would be one more dependency, and its messages would have to be translated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..pages.words import visible

Shape = Callable[[Any, str], None]

LONG = 100_000
"""Characters of the longest text in a record, a message or a note."""
SHORT = 1_000
"""Characters of a name."""
MANY = 100_000
"""Entries of the longest list."""
HUGE = 2**53
"""Above it a number in JSON is no longer exact."""
_SHOWN = 60


class MismatchError(ValueError):
    """A field is not what it must be."""

    def __init__(self, place: str, value: Any, expected: str) -> None:
        where = visible(place) or "its content"
        super().__init__(f"{where} is {found(value)}, and must be {expected}")


def check(content: Any, shape: Shape, path: Path) -> None:
    """Check the content of a file.

    Raises:
        InputError: with the file, the field, what was found and what is expected.
    """
    try:
        shape(content, "")
    except MismatchError as error:
        raise unfit(path, error) from None


def unfit(path: Path, error: object) -> InputError:
    """The message about a file whose content is not what normlab writes."""
    return InputError(
        f"{path} cannot be used: {str(error).rstrip('.')}. normlab did not write it like that."
    )


def found(value: Any) -> str:
    """A value as a message shows it: short, and with nothing hidden.

    >>> found({}), found([1, 2]), found("bn")
    ('a table', 'a list', "'bn'")
    """
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    for kind, name in ((Mapping, "a table"), (list, "a list")):
        if isinstance(value, kind):
            return name
    if isinstance(value, int) and abs(value) >= HUGE:
        return "a number of too many digits"
    shown = visible(repr(value[: 2 * _SHOWN] if isinstance(value, str) else value))
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def anything(value: Any, place: str) -> None:
    """Whatever can be in a file."""


def text(most: int = LONG, least: int = 0) -> Shape:
    """Text of so many characters, all of which can be written."""

    def shape(value: Any, place: str) -> None:
        if not isinstance(value, str) or not least <= len(value) <= most:
            length = f"{least} to {most:,}" if least else f"at most {most:,}"
            raise MismatchError(place, value, f"text of {length} characters")
        try:
            value.encode()
        except UnicodeEncodeError:  # bytes of a name that are no text, half of a pair
            raise MismatchError(place, value, "valid Unicode") from None

    return shape


def matching(pattern: str, expected: str) -> Shape:
    """Text that a regular expression describes."""
    compiled = re.compile(pattern)

    def shape(value: Any, place: str) -> None:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise MismatchError(place, value, expected)

    return shape


def one_of(*words: str) -> Shape:
    """One of these words."""

    def shape(value: Any, place: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise MismatchError(place, value, f"one of {', '.join(words)}")

    return shape


def flag(value: Any, place: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise MismatchError(place, value, "true or false")


def whole(least: int = 0, most: int = HUGE) -> Shape:
    """A whole number within bounds."""

    def shape(value: Any, place: str) -> None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        if not good:
            raise MismatchError(place, value, f"a whole number {_span(least, most)}")

    return shape


def number(least: float = 0, most: float = HUGE, *, open: bool = False) -> Shape:
    """A finite number within bounds, which themselves are left out where ``open``."""
    bounds = f"above {least:g} and below {most:g}" if open else _span(least, most)

    def shape(value: Any, place: str) -> None:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (good and (least < value < most if open else least <= value <= most)):
            raise MismatchError(place, value, f"a number {bounds}")

    return shape


def any_number(value: Any, place: str) -> None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
        raise MismatchError(place, value, "a number")


def magnitude(value: Any, place: str) -> None:
    """A number of at least 0, infinity, or no number."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and not value < 0
    if not good or (isinstance(value, int) and not _finite(value)):
        raise MismatchError(place, value, "a number of at least 0, inf or nan")


def optional(shape: Shape) -> Shape:
    """None, or what a shape says."""

    def either(value: Any, place: str) -> None:
        if value is not None:
            shape(value, place)

    return either


def any_of(expected: str, *shapes: Shape) -> Shape:
    """What one of several shapes says."""

    def either(value: Any, place: str) -> None:
        for shape in shapes:
            try:
                return shape(value, place)
            except MismatchError:
                continue
        raise MismatchError(place, value, expected)

    return either


def items(shape: Shape, most: int = MANY, least: int = 0, *, different: bool = False) -> Shape:
    """A list whose entries have one shape, and differ where ``different``."""

    def every(value: Any, place: str) -> None:
        if not isinstance(value, list):
            raise MismatchError(place, value, "a list")
        if not least <= len(value) <= most:
            raise MismatchError(
                f"the number of entries in {place}", len(value), f"from {least} to {most:,}"
            )
        for index, one in enumerate(value):
            shape(one, f"{place}[{index}]")
        if different and len(set(value)) < len(value):
            twice = next(one for one in value if value.count(one) > 1)
            raise MismatchError(place, twice, "there only once")

    return every


def entries(shape: Shape, most: int = MANY, key: Shape | None = None) -> Shape:
    """A table whose values have one shape, whatever its names are."""
    named = key or text(SHORT)

    def every(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise MismatchError(place, value, "a table")
        if len(value) > most:
            raise MismatchError(
                f"the number of entries in {place}", len(value), f"at most {most:,}"
            )
        for name, one in value.items():
            named(name, f"a name in {place}")
            shape(one, within(place, name))

    return every


def fields(needed: Mapping[str, Shape], others: Mapping[str, Shape] | None = None) -> Shape:
    """A table with the fields that are ``needed``, and ``others`` that may be missing.

    Fields that neither names pass: a later version may have added them, and nothing here reads
    them.
    """
    known = {**needed, **(others or {})}

    def every(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise MismatchError(place, value, "a table")
        for name in needed:
            if name not in value:
                raise MismatchError(within(place, name), None, "there")
        for name, shape in known.items():
            if name in value:
                shape(value[name], within(place, name))

    return every


def within(place: str, name: str) -> str:
    """The place of a field in a table."""
    short = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return f"{place}.{short}" if place else short


def _span(least: float, most: float) -> str:
    return f"of at least {least:,}" if most >= HUGE else f"from {least:,} to {most:,}"


def _finite(value: float) -> bool:
    """Also of a whole number, whether it can be computed with."""
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= HUGE
