"""One run: its configuration, the loop, and the folder it leaves.

Light to import: what needs torch is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of
from .config import FIELDS, RunConfig, check_fields

if TYPE_CHECKING:
    from .environment import resolve_device
    from .run import HISTORY_COLUMNS, RUNNING, Progress, build, evaluate, train, train_step

_LATE = {
    "resolve_device": "environment",
    "HISTORY_COLUMNS": "run",
    "RUNNING": "run",
    "Progress": "run",
    "build": "run",
    "evaluate": "run",
    "train": "run",
    "train_step": "run",
}

__all__ = [
    "FIELDS",
    "HISTORY_COLUMNS",
    "RUNNING",
    "Progress",
    "RunConfig",
    "build",
    "check_fields",
    "evaluate",
    "resolve_device",
    "train",
    "train_step",
]

__getattr__, __dir__ = names_of(__name__, _LATE)
