"""Asking: a grid of runs, its folder, and the processes that make the runs."""

from .estimate import estimate_seconds
from .memory import keep_memory
from .plan import Plan, make_plan, presets
from .progress import Reporter, RunProgress
from .runner import carry_out, default_workers
from .same_function import compare_functions
from .study import Study, prepare_study, recorded_data

__all__ = [
    "Plan",
    "Reporter",
    "RunProgress",
    "Study",
    "carry_out",
    "compare_functions",
    "default_workers",
    "estimate_seconds",
    "keep_memory",
    "make_plan",
    "prepare_study",
    "presets",
    "recorded_data",
]
