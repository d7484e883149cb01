"""Asking: a grid of runs, its folder, and the processes that make the runs.

Light to import: what needs torch is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .allocator import keep_memory
    from .cluster import StudyCluster, making_runs
    from .estimate import estimate_seconds
    from .machines import MACHINES_FIELDS, Machines
    from .plan import Plan, make_plan
    from .progress import Reporter, RunProgress
    from .request import Request, presets
    from .room import check_room
    from .runner import carry_out, default_workers
    from .same_function import compare_functions
    from .study import Study, default_folder, prepare_study, recorded_data

_HOME = {
    "allocator": ("keep_memory",),
    "cluster": ("StudyCluster", "making_runs"),
    "estimate": ("estimate_seconds",),
    "machines": ("MACHINES_FIELDS", "Machines"),
    "plan": ("Plan", "make_plan"),
    "progress": ("Reporter", "RunProgress"),
    "request": ("Request", "presets"),
    "room": ("check_room",),
    "runner": ("carry_out", "default_workers"),
    "same_function": ("compare_functions",),
    "study": ("Study", "default_folder", "prepare_study", "recorded_data"),
}

__all__ = [
    "MACHINES_FIELDS",
    "Machines",
    "Plan",
    "Reporter",
    "Request",
    "RunProgress",
    "Study",
    "StudyCluster",
    "carry_out",
    "check_room",
    "compare_functions",
    "default_folder",
    "default_workers",
    "estimate_seconds",
    "keep_memory",
    "make_plan",
    "making_runs",
    "prepare_study",
    "presets",
    "recorded_data",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
