"""Where commands put what they make, unless told otherwise."""

from __future__ import annotations

from datetime import date
from pathlib import Path

STUDIES = Path("studies")
RUNS = Path("runs")
CHECKS = Path("checks")
EXPLANATION = "explain"
"""Folder of a gallery, in the folder of its run or study."""


def dated(folder: Path, *parts: str) -> Path:
    """A folder named by today's date and these parts.

    >>> dated(CHECKS, "photos").name[10:]
    '-photos'
    """
    return folder / "-".join([date.today().isoformat(), *parts])
