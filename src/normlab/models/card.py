"""A model's card: what else to know about the model than how to rebuild it.

A card may have any further entries. Those that normlab writes are checked when they are read, since
they are printed, and a command made from one is run by people.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..launch import without_start
from .info import LONGEST, is_name, is_number, is_whole

_Check = Callable[[Any], bool]
_COMMAND = 10 * LONGEST
_OTHER = ("inf", "-inf", "nan")
"""JSON has no such numbers."""


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


def _count(value: Any) -> bool:
    return is_whole(value) and 0 <= value < 1 << 63


def _epoch(value: Any) -> bool:
    return value is None or _count(value)


def _map_of(check: _Check) -> _Check:
    return lambda value: (
        isinstance(value, Mapping)
        and all(_text(name) and check(one) for name, one in value.items())
    )


def _metrics(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and all(is_number(one) or one in _OTHER for one in value.values())
        and is_number(value.get("accuracy"))
        and 0 <= value["accuracy"] <= 1
    )


def _site(value: Any) -> bool:
    return isinstance(value, Mapping) and all(is_name(value.get(key)) for key in ("name", "layer"))


def _sites(value: Any) -> bool:
    return isinstance(value, list) and all(map(_site, value))


def _data(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and all(_text(value.get(key, "")) for key in ("name", "fingerprint", "resize_rule", "fold"))
        and _map_of(_count)(value.get("images", {}))
    )


def _command(value: Any) -> bool:
    """Words of ``normlab train``, by torchrun or not, and no place where it would write."""
    if not isinstance(value, str) or len(value) > _COMMAND:
        return False
    try:
        words = without_start(shlex.split(value))
    except ValueError:
        return False
    return words[:2] == ["normlab", "train"] and not any(word.startswith("--out") for word in words)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_name, value))


_KNOWN: Mapping[str, tuple[_Check, str]] = {
    "arm": (is_name, "text"),
    "seed": (_count, "a whole number"),
    "layers": (_count, "a whole number"),
    "parameters": (_count, "a whole number"),
    "sites": (_sites, "a list of sites, each with name and layer"),
    "parts": (_sites, "a list of parts, each with name and layer"),
    "code": (_map_of(_text), "file names and their SHA-256"),
    "origin": (_text, "a folder"),
    "network_origin": (_text, "a folder"),
    "network": (is_name, "text"),
    "data": (_data, "an object with name, fingerprint and counts of images"),
    "metrics": (_map_of(_metrics), "splits, each with an accuracy from 0 to 1 and other numbers"),
    "metrics_note": (_text, "text"),
    "chosen_epoch": (_epoch, "a whole number or null"),
    "command": (_command, "a command of normlab train"),
    "versions": (_map_of(_text), "names and versions"),
    "changes": (_texts, "a list of sentences: what was done to the model after training"),
}


def checked_card(card: Any, where: str | Path) -> dict[str, Any]:
    """The card, once every entry that normlab knows is what it must be.

    Raises:
        InputError: naming ``where``, the entry and what it must be.
    """
    if not isinstance(card, Mapping):
        raise InputError(f"{where}: card must be a JSON object, got {card!r:.60}.")
    for name, (check, be) in _KNOWN.items():
        if name in card and not check(card[name]):
            raise InputError(f"{where}: {name} of card must be {be}, got {card[name]!r:.60}.")
    return dict(card)


def command_of(card: Mapping[str, Any], norm: str) -> str:
    """The command that makes the model's run again, quoted for a shell; empty where the card has
    none, or one for another layer than the model's."""
    words = shlex.split(card.get("command", ""))
    norms = [
        word.partition("=")[2] or (words[place + 1] if place + 1 < len(words) else "")
        for place, word in enumerate(words)
        if word.partition("=")[0] == "--norm"
    ]
    return shlex.join(words) if norms == [norm] else ""
