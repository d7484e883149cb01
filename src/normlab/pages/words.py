"""How names, numbers and times are written, on pages and in terminals alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MOST = 8
"""Names that a shortened list shows."""
NO_VALUE = "–"
_NEVER = "".join(
    chr(plane + end) for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF)
)
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    f"\ud800-\udfff\ufdd0-\ufdef{_NEVER}]"
)
"""Control characters, separators of lines, bytes that are no text, turns of direction, what has no
width, and code points that are no characters."""
_TITLES = {"lr": "learning rate", "n": "blocks per stage (n)"}
_SPELLED = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip


def setting_title(name: str) -> str:
    """A setting as people say it.

    >>> setting_title("lr"), setting_title("weight_decay")
    ('learning rate', 'weight decay')
    """
    return _TITLES.get(name, name.replace("_", " "))


def listed(names: Iterable[str], last: str = "and") -> str:
    """``a, b and c``.

    >>> listed(["bn", "gn", "none"]), listed(["bn", "gn"], last="or")
    ('bn, gn and none', 'bn or gn')
    """
    every = list(names)
    return f" {last} ".join(filter(None, [", ".join(every[:-1]), *every[-1:]]))


def shortened(names: Iterable[str], most: int = MOST) -> str:
    """``a, b and c``; after eight names ``and N more``.

    >>> shortened(["bn", "in", "ln", "gn"], most=2)
    'bn, in and 2 more'
    """
    every = list(names)
    if len(every) > most:
        return f"{', '.join(every[:most])} and {len(every) - most} more"
    return listed(every)


def counted(number: int, one: str, many: str = "") -> str:
    """``1 class``, ``2 classes``, ``3,000 images``.

    >>> counted(1, "class", "classes"), counted(3000, "image")
    ('1 class', '3,000 images')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """A share as a percentage that is 0 or 100 only when it is, to a digit below 10.

    >>> percent(0.0004), percent(0.034), percent(0.9996), percent(1)
    ('below 0.1 %', '3.4 %', '99.9 %', '100 %')
    """
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if value < 0.1:
        return "below 0.1 %"
    if value < 9.95:
        return f"{value:.1f} %"
    return f"{value:.0f} %" if value < 99.5 else f"{min(value, 99.9):.1f} %"


def span(low: float, high: float) -> str:
    """``12 % to 15 %``, or one number where they read the same.

    >>> span(0.12, 0.153)
    '12 % to 15 %'
    """
    one, two = percent(low), percent(high)
    return one if one == two else f"{one} to {two}"


def duration(seconds: float) -> str:
    """``8.2 s``, ``45 s``, ``3 min 20 s``, ``2 h 5 min``.

    >>> duration(8.21), duration(200), duration(7500)
    ('8.2 s', '3 min 20 s', '2 h 5 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def setting(value: Any) -> str:
    """A setting's value: ``yes``, ``0.02``, ``0.5, 0.75``, ``none``.

    >>> setting((0.5, 0.75)), setting(True), setting(None)
    ('0.5, 0.75', 'yes', 'none')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def visible(text: str, keep: str = "") -> str:
    r"""Text in which nothing is hidden: what a name may have but no one can see is an escape.

    Those are control characters (a line break, the start of a terminal's commands), bytes that are
    no text, marks that turn the direction of reading or have no width, and what Unicode says is no
    character. What joins letters stays, since some scripts need it.

    >>> print(visible("two\nlines"), visible("Bäume"))
    two\nlines Bäume

    Args:
        text: which may contain a person's names of files and classes.
        keep: characters that stay.
    """
    return _HIDDEN.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(),
        text,
    )


def seeds_between(fewest: int, most: int) -> str:
    """How many seeds arms have.

    >>> seeds_between(3, 3), seeds_between(3, 8)
    ('3 seeds', '3 to 8 seeds')
    """
    return counted(most, "seed") if fewest == most else f"{fewest} to {most} seeds"


def spelled(number: int) -> str:
    """A count in words up to twelve, in digits above."""
    return _SPELLED[number] if 0 <= number < len(_SPELLED) else f"{number:,}"
