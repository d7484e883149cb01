"""Whether the data can be trusted: copies, leaks between splits, shortcuts, balance, health.

Each check follows :class:`~.protocol.Check` and is listed in :mod:`.registry`. Names are imported
when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .check import FORMAT, DataCheck, full_check, glance_check, quick_check, quick_name
    from .copies.checks import EXACT, NEAR
    from .copies.clean import CleanSplit, clean_split, groups_file
    from .copies.clean_section import clean_part
    from .copies.decisions import decide, decisions_about, read_decisions
    from .copies.groups import Copies, find_copies
    from .health.checks import HEALTH
    from .image_set import ImageSet, read_image_set
    from .page.page import render
    from .protocol import Check, PagePart, Result, Results, Section, Table
    from .registry import CHECKS
    from .shortcuts.checks import SHORTCUTS

_HOME = {
    "check": ("DataCheck", "FORMAT", "full_check", "glance_check", "quick_check", "quick_name"),
    "copies.checks": ("EXACT", "NEAR"),
    "copies.clean": ("CleanSplit", "clean_split", "groups_file"),
    "copies.clean_section": ("clean_part",),
    "copies.decisions": ("decide", "decisions_about", "read_decisions"),
    "copies.groups": ("Copies", "find_copies"),
    "health.checks": ("HEALTH",),
    "image_set": ("ImageSet", "read_image_set"),
    "page.page": ("render",),
    "protocol": ("Check", "PagePart", "Result", "Results", "Section", "Table"),
    "registry": ("CHECKS",),
    "shortcuts.checks": ("SHORTCUTS",),
}

__all__ = [
    "CHECKS",
    "EXACT",
    "FORMAT",
    "HEALTH",
    "NEAR",
    "SHORTCUTS",
    "Check",
    "CleanSplit",
    "Copies",
    "DataCheck",
    "ImageSet",
    "PagePart",
    "Result",
    "Results",
    "Section",
    "Table",
    "clean_part",
    "clean_split",
    "decide",
    "decisions_about",
    "find_copies",
    "full_check",
    "glance_check",
    "groups_file",
    "quick_check",
    "quick_name",
    "read_decisions",
    "read_image_set",
    "render",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
