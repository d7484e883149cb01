"""All of what a terminal shows.

Light to import: what needs rich's tables or a report is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .printed import (
        print_check,
        print_comparison,
        print_explanation,
        print_inspection,
        print_line,
        print_mcnemar,
        print_norm,
        print_norms,
        print_predictions,
        print_reports,
        print_run,
    )
    from .progress import ConsoleWatcher, RunWatcher, StageWatcher
    from .streams import lasting_output

_HOME = {
    "printed": (
        "print_check",
        "print_comparison",
        "print_explanation",
        "print_inspection",
        "print_line",
        "print_mcnemar",
        "print_norm",
        "print_norms",
        "print_predictions",
        "print_reports",
        "print_run",
    ),
    "progress": ("ConsoleWatcher", "RunWatcher", "StageWatcher"),
    "streams": ("lasting_output",),
}

__all__ = [
    "ConsoleWatcher",
    "RunWatcher",
    "StageWatcher",
    "lasting_output",
    "print_check",
    "print_comparison",
    "print_explanation",
    "print_inspection",
    "print_line",
    "print_mcnemar",
    "print_norm",
    "print_norms",
    "print_predictions",
    "print_reports",
    "print_run",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
