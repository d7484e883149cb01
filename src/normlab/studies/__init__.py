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
from .study import Study, prepare_study

__all__ = [
    "CurveReading",
    "Plan",
    "Reporter",
    "Results",
    "Run",
    "RunProgress",
    "Spread",
    "Study",
    "carry_out",
    "default_workers",
    "estimate_seconds",
    "keep_memory",
    "make_plan",
    "prepare_study",
    "presets",
    "read_curves",
    "read_results",
    "write_results_csv",
]
