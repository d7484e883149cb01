"""Names of arms, which become names of folders, and how large a study can be."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ..errors import InputError
from ..pages.words import visible
from .layout import file_name

MOST_ARMS, MOST_SEEDS, MOST_RUNS = 1_000, 1_000, 10_000
"""Of a study. What is larger is a slip of the keyboard, or no one's honest question."""
_BYTES = 200
"""Of an arm's name; a file system takes 255, and ``.json`` follows it."""
_SEPARATORS = "/\\"
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{name}{k}" for name in ("com", "lpt") for k in range(1, 10))}
)
"""Names that Windows takes for devices, whatever follows after a dot."""


def check_arms(arms: Sequence[str]) -> None:
    """Refuse names that cannot be those of folders side by side inside a study.

    >>> check_arms(["bn", "gn:groups=4", "mine.layers:Norm"])
    >>> check_arms(["../bn"])
    Traceback (most recent call last):
    normlab.errors.InputError: '../bn' cannot be the name of an arm: it has '/'. ...

    Raises:
        InputError: naming the arm and what is wrong with it, or two that would share a folder.
    """
    if len(arms) > MOST_ARMS:
        raise InputError(
            f"A study can have {MOST_ARMS:,} arms at most, and these are {len(arms):,}."
        )
    taken: dict[str, str] = {}
    for arm in arms:
        wrong = _wrong(arm)
        if wrong:
            raise InputError(
                f"{visible(repr(arm[:_BYTES]))} cannot be the name of an arm: {wrong}. It becomes "
                "the name of a folder in the study."
            )
        # What some file systems take for the same name: other case, other composition of accents.
        folder = unicodedata.normalize("NFC", file_name(arm)).casefold()
        if taken.setdefault(folder, arm) != arm:
            raise InputError(
                f"The arms {taken[folder]} and {arm} would share a folder: their names differ only "
                "in case, or in a comma for a colon."
            )


def _wrong(arm: str) -> str:
    """What is wrong with a name; nothing for a good one."""
    if not arm or arm != arm.strip():
        return "it is empty, or has space around it"
    hidden = next((c for c in arm if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"), "")
    if hidden:
        return f"it has the character U+{ord(hidden):04X}, which cannot be seen"
    forbidden = next((c for c in arm if c in _SEPARATORS), "")
    if forbidden:
        return f"it has {forbidden!r}"
    if arm.endswith(".") or arm.startswith("."):
        return "it begins or ends with a dot"
    if file_name(arm).split(".")[0].casefold() in _DEVICES:
        return "Windows takes it for a device"
    size = len(arm.encode())
    return f"it has {size:,} bytes, and {_BYTES} are the most" if size > _BYTES else ""
