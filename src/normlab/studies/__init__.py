"""Grids of runs: what to run, running it, reading it back."""

from .curves import CurveReading, read_curves
from .plan import Plan, make_plan, presets
from .results import Results, Run, Spread, read_results, write_results_csv
from .runner import (
    Reporter,
    RunProgress,
    carry_out,
    default_workers,
    estimate_seconds,
    keep_memory,
)
from .same_function import SameFunction, compare_functions, read_same_function
from .statistics import Difference, paired_difference
from .study import Study, prepare_study, recorded_data

__all__ = [
    "CurveReading",
    "Difference",
    "Plan",
    "Reporter",
    "Results",
    "Run",
    "SameFunction",
    "RunProgress",
    "Spread",
    "Study",
    "carry_out",
    "compare_functions",
    "default_workers",
    "estimate_seconds",
    "keep_memory",
    "make_plan",
    "paired_difference",
    "prepare_study",
    "presets",
    "read_curves",
    "read_results",
    "read_same_function",
    "recorded_data",
    "write_results_csv",
]
