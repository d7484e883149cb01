"""Settings as values of Python, and as text (on a command line, in an arm, in a grid to tune over);
numbers that JSON does not have."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
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
