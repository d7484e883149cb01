"""Settings declared once: default, bounds and words, for checks, help pages and commands alike."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import Field, field, fields
from typing import Any, get_args, get_type_hints

from .errors import InputError, did_you_mean
from .values import plain, write_value

Fields = Mapping[str, Field[Any]]
LONGEST = 1_000
"""Characters of a title."""
_DIGITS = 20
"""Of the longest whole number that a message repeats."""


def option(default: Any, help: str, check: str = "") -> Any:
    """A field of a dataclass with the sentence that describes it.

    Args:
        default: of the setting.
        help: one sentence, as the help page prints it.
        check: bounds of a number: ``">= 1"``, ``"> 0"``, ``"in [0, 1)"``, ``">= 1 and <= 1000"``
    """
    return field(default=default, metadata={"help": help, "check": check})


def fields_of(cls: type) -> dict[str, Field[Any]]:
    """Name to field; ``metadata["help"]`` describes it."""
    return {f.name: f for f in fields(cls)}


def check_names(
    values: Mapping[str, Any], known: Fields, what: str, listed: Iterable[str] = ()
) -> None:
    """Refuse names that are not settings.

    Args:
        values: whose names are checked.
        known: the settings.
        what: a setting is.
        listed: the names to say, where these are not just those of ``known``.

    Raises:
        InputError: with the name that was probably meant.
    """
    names = list(listed) or list(known)
    for name in values:
        if name not in known:
            raise InputError(
                f"{name!r} is not {what}{did_you_mean(name, names)}. There are {', '.join(names)}."
            )


def checked(instance: Any) -> dict[str, Any]:
    """Every field of a dataclass instance in its declared type and within its bounds.

    Raises:
        InputError: naming the field, the value and what is possible.
    """
    cls: Any = type(instance)
    hints = _hints(cls)
    values = {}
    for name, f in fields_of(cls).items():
        values[name] = _coerced(name, plain(getattr(instance, name)), hints[name])
        _check_bounds(name, values[name], f.metadata["check"])
    return values


@functools.cache
def _hints(cls: Any) -> Mapping[str, Any]:
    return get_type_hints(cls)


def in_type(name: str, value: Any, hint: Any) -> Any:
    """The value in a declared type, as :func:`checked` reads one field.

    Raises:
        InputError: naming the field, the value and what is possible.
    """
    return _coerced(name, plain(value), hint)


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number of at least ``least`` and at most ``most``, NumPy's included.

    Raises:
        InputError: naming what it is for.
    """
    found = plain(value)
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {shown(value)}.")
    if most is not None and found > most:
        raise InputError(f"{name} must be at most {most:,}, got {shown(found)}.")
    return found


def text_of(name: str, value: Any) -> str:
    """Text of at most :data:`LONGEST` characters.

    Raises:
        InputError: naming what it is for.
    """
    if not isinstance(value, str) or len(value) > LONGEST:
        got = f"{len(value):,}" if isinstance(value, str) else shown(value)
        raise InputError(f"{name} must be text of at most {LONGEST:,} characters, got {got}.")
    return value


def several(name: str, values: Any) -> list[Any]:
    """Values from a list, a tuple, an array or whatever gives them in an order; text is one.

    Raises:
        InputError: a set, whose order is no one's choice, or what gives no values.
    """
    if isinstance(values, str):
        return [values]
    if isinstance(values, (Set, Mapping)) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a list, got {values!r}.")
    return [plain(value) for value in values]


def names_in(texts: str | Iterable[str], known: Iterable[str]) -> list[str]:
    """Names, where a text may have several with commas or semicolons between them.

    What is known is never taken apart, so a name may have commas itself: the longest known name is
    read first.

    >>> names_in("ash,cedar, old", ["ash", "cedar, old", "old"])
    ['ash', 'cedar, old']
    >>> names_in(["cedar, old", "oak"], ["ash", "cedar, old"])
    ['cedar, old', 'oak']
    """
    names = set(known)
    found = []
    for text in [texts] if isinstance(texts, str) else texts:
        if text in names:
            found.append(text)
            continue
        parts = re.split("([,;])", text)
        start = 0
        while start < len(parts):
            for end in range(len(parts), start, -2):
                candidates = ("".join(parts[start:end]), "".join(parts[start:end]).strip())
                name = next((one for one in candidates if one in names), None)
                if name is not None or end == start + 1:
                    break
            name = name or candidates[1]
            found += [name] if name else []
            start = end + 1
    return found


def takes_several(f: Field[Any]) -> bool:
    """Whether one value of the setting is a list."""
    return isinstance(f.default, tuple)


def words(values: Mapping[str, Any], known: Fields) -> list[str]:
    """Values as the words of a command line; nothing for None.

    A list of values for a setting that takes one is an axis, written with commas; an axis with
    one value has a comma after it.
    """
    written: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            written.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            if name in known and takes_several(known[name]):
                written += [word for item in value for word in (f"--{flag}", write_value(item))]
            else:
                text = ",".join(map(write_value, value))
                written += [f"--{flag}", text if len(value) > 1 else f"{text},"]
        elif value is not None:
            written += [f"--{flag}", write_value(value)]
    return written


def _coerced(name: str, value: Any, hint: Any) -> Any:
    """The value in the field's type, or an error: 3 is a fine float, True is not an int."""
    choices = get_args(hint)
    if choices and all(isinstance(choice, str) for choice in choices):
        if value not in choices:
            hinted = did_you_mean(str(value), choices)
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}{hinted}.")
        return value
    if type(None) in choices:
        return None if value is None else _coerced(name, value, choices[0])
    if hint == tuple[float, ...]:
        if not isinstance(value, (tuple, list)):
            raise InputError(f"{name} must be a list of numbers, got {value!r}.")
        return tuple(_coerced(name, plain(item), float) for item in value)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    good = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**_DIGITS:
            raise InputError(f"{name} must be a number of fewer digits, got {shown(value)}.")
        value, good = float(value), True
    if not good:
        raise InputError(f"{name} must be {names[hint]}, got {shown(value)}.")
    return value


_BOUNDS = {
    ">= 0": lambda v: v >= 0,
    ">= 1": lambda v: v >= 1,
    "> 0": lambda v: v > 0,
    "in [0, 1]": lambda v: 0 <= v <= 1,
    "in [0, 1)": lambda v: 0 <= v < 1,
    "in (0, 1)": lambda v: 0 < v < 1,
}


def _check_bounds(name: str, value: Any, check: str) -> None:
    if not check or value is None:
        return
    for item in value if isinstance(value, tuple) else (value,):
        for bound in check.split(" and "):
            if not (_finite(item) and _holds(bound, item)):
                raise InputError(f"{name} must be {bound}, got {shown(item)}.")


def _holds(bound: str, value: float) -> bool:
    if bound.startswith("<= "):
        return value <= float(bound.removeprefix("<= "))
    return bool(_BOUNDS[bound](value))


def _finite(value: float) -> bool:
    """Whole numbers are, also those that are too large for a float."""
    return isinstance(value, int) or math.isfinite(value)


def shown(value: Any) -> str:
    """A value in a message, which a number of a thousand digits would fill.

    >>> shown("two"), shown(10**60)
    ("'two'", 'a number of 61 digits')
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_DIGITS:
        digits = math.floor(math.log10(abs(value))) + 1
        return f"a number of {digits:,} digits"
    return repr(value)
