"""Settings as values of Python, and as text (on a command line, in an arm, in a grid to tune over);
numbers that JSON does not have."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

_WORDS: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False, "none": None}


def plain(value: Any) -> Any:
    """A value as Python's own: a path as text, a number of NumPy or torch as a number.

    >>> from pathlib import Path
    >>> plain(Path("photos")), plain(3), plain([1])
    ('photos', 3, [1])
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value


def read_value(text: str) -> Any:
    """A whole number, a number, true or yes, false or no, or none; anything else stays text."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_values(text: str) -> list[Any]:
    """Values separated by commas; empty ones are left out."""
    return [read_value(part) for part in text.split(",") if part.strip()]


def read_options(parts: Iterable[str], what: str, example: str) -> dict[str, Any]:
    """Options that are written as ``name=value``.

    >>> read_options(["groups=4", "eps=1e-3"], "the arm", "")
    {'groups': 4, 'eps': 0.001}

    Args:
        parts: each an option.
        what: they are of, for a message.
        example: of how options are written, for a message.

    Raises:
        ValueError: a part of another form, or a name that is given twice.
    """
    options: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name or not value:
            raise ValueError(f"cannot read {part!r} in {what}. Write options as {example}.")
        if name in options:
            raise ValueError(f"option {name!r} is given twice in {what}.")
        options[name] = read_value(value)
    return options


def write_value(value: Any) -> str:
    """The reverse of :func:`read_value`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def json_numbers(content: Any) -> Any:
    """Content for a JSON file, which has no infinity: such a number is written as text.

    >>> json_numbers({"loss": float("inf"), "accuracy": 0.5})
    {'loss': 'inf', 'accuracy': 0.5}
    """
    if isinstance(content, Mapping):
        return {name: json_numbers(value) for name, value in content.items()}
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    return content


def read_numbers(content: Any) -> Any:
    """The reverse of :func:`json_numbers`."""
    if isinstance(content, Mapping):
        return {name: read_numbers(value) for name, value in content.items()}
    return float(content) if content in ("inf", "-inf", "nan") else content
