"""Settings written as text: on a command line, in an arm's options, in a grid to tune over."""

from __future__ import annotations

from typing import Any

_WORDS: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False, "none": None}


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
