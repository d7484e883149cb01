"""Grids of runs: what to run, running it, reading it back."""

from .curves import CurveReading, read_curves
from .pictures import keep_pictures, read_pictures
from .plan import Plan, make_plan, presets
from .predictions import (
    Answers,
    HardImage,
    SplitPredictions,
    answers,
    class_f1,
    confusion,
    hardest,
    split_predictions,
)
from .results import Results, Run, Spread, read_results, read_run, write_results_csv
from .rule import LOOKS, Rule, Verdict
from .runner import (
    Reporter,
    RunProgress,
    carry_out,
    default_workers,
    estimate_seconds,
    keep_memory,
)
from .same_function import SameFunction, compare_functions, read_same_function
from .statistics import (
    Difference,
    Judgement,
    McNemar,
    PairedComparison,
    every_pair,
    judge,
    mcnemar,
    paired_difference,
)
from .study import Study, prepare_study, recorded_data
from .tuning import Tuning, read_tunings

__all__ = [
    "Answers",
    "PairedComparison",
    "CurveReading",
    "Difference",
    "HardImage",
    "Judgement",
    "LOOKS",
    "McNemar",
    "Plan",
    "Reporter",
    "Results",
    "Rule",
    "Run",
    "SameFunction",
    "RunProgress",
    "SplitPredictions",
    "Spread",
    "Study",
    "Tuning",
    "Verdict",
    "answers",
    "carry_out",
    "class_f1",
    "compare_functions",
    "confusion",
    "default_workers",
    "every_pair",
    "estimate_seconds",
    "hardest",
    "judge",
    "keep_memory",
    "keep_pictures",
    "make_plan",
    "mcnemar",
    "paired_difference",
    "prepare_study",
    "presets",
    "read_curves",
    "read_pictures",
    "read_results",
    "read_run",
    "read_same_function",
    "read_tunings",
    "recorded_data",
    "split_predictions",
    "write_results_csv",
]
