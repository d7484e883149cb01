"""The jobs from end to end, for the command line and for notebooks alike.

Light to import: a job is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .checking import DataReport, check_data
    from .comparison import Comparison, check_out, compare, train_one
    from .explanation import Explanation, explain
    from .exporting import export
    from .prediction import PredictionReport, predict
    from .watching import Estimate, Watcher

_HOME = {
    "Comparison": "comparison",
    "DataReport": "checking",
    "Estimate": "watching",
    "Explanation": "explanation",
    "PredictionReport": "prediction",
    "Watcher": "watching",
    "check_data": "checking",
    "check_out": "comparison",
    "compare": "comparison",
    "explain": "explanation",
    "export": "exporting",
    "predict": "prediction",
    "train_one": "comparison",
}

__all__ = [
    "Comparison",
    "DataReport",
    "Estimate",
    "Explanation",
    "PredictionReport",
    "Watcher",
    "check_data",
    "check_out",
    "compare",
    "explain",
    "export",
    "predict",
    "train_one",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
