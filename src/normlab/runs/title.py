"""The title of a study, which says what was run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..pages.words import spelled

_ARMS = "{arms}"
_NETWORKS = "{networks}"
_OF_NETWORKS = ("model", "n", "shortcut")
"""Fields that make another network."""
_FIXED = "Seven normalizations of one residual network"
"""The title that the preset ``norms`` once gave to studies of any number of arms."""


def shown_title(stated: str, what: str, arms: Mapping[str, Mapping[str, Any]]) -> str:
    """A stated title in which ``{arms}`` and ``{networks}`` have become the numbers of
    normalizations and networks, in words.

    >>> shown_title("{arms} normalizations of {networks}", "norms", {"bn": {}, "gn": {}})
    'Two normalizations of one network'

    Args:
        stated: the title in study.toml or a preset.
        what: the preset.
        arms: name to the fields that vary. Arms that share a normalization count once.
    """
    if what == "norms" and stated == _FIXED:
        stated = f"{_ARMS} normalizations of one residual network"
    if _NETWORKS in stated:
        networks = {str([f.get(name) for name in _OF_NETWORKS]) for f in arms.values()}
        noun = "network" if len(networks) == 1 else "networks"
        stated = stated.replace(_NETWORKS, f"{spelled(len(networks))} {noun}")
    if _ARMS not in stated:
        return stated
    number = len({str(fields.get("norm", arm)) for arm, fields in arms.items()})
    if number == 1:
        stated = re.sub(r"\{arms\} (\w+)s\b", r"{arms} \1", stated)
    counted = spelled(number)
    return stated.replace(_ARMS, counted[0].upper() + counted[1:])
