"""The jobs from end to end, for the command line and for notebooks alike.

Light to import: a job is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .after_training import ChangedModel, fold_run, freeze_run, recalibrate_run
    from .checking import DataReport, check_data
    from .comparison import Comparison, compare
    from .converting import convert_run
    from .explanation import Explanation, explain
    from .exporting import export
    from .importing import ImportedModel, import_model
    from .inspection import Inspection, inspect
    from .prediction import PredictionReport, predict
    from .reporting import compare_models, report
    from .running import TrainedRun, train_one
    from .watching import Estimate, Watcher

_HOME = {
    "after_training": ("ChangedModel", "fold_run", "freeze_run", "recalibrate_run"),
    "checking": ("DataReport", "check_data"),
    "comparison": ("Comparison", "compare"),
    "explanation": ("Explanation", "explain"),
    "converting": ("convert_run",),
    "exporting": ("export",),
    "importing": ("ImportedModel", "import_model"),
    "inspection": ("Inspection", "inspect"),
    "prediction": ("PredictionReport", "predict"),
    "reporting": ("compare_models", "report"),
    "running": ("TrainedRun", "train_one"),
    "watching": ("Estimate", "Watcher"),
}

__all__ = [
    "ChangedModel",
    "Comparison",
    "DataReport",
    "Estimate",
    "Explanation",
    "ImportedModel",
    "Inspection",
    "PredictionReport",
    "TrainedRun",
    "Watcher",
    "check_data",
    "compare",
    "compare_models",
    "convert_run",
    "explain",
    "export",
    "fold_run",
    "freeze_run",
    "import_model",
    "inspect",
    "predict",
    "recalibrate_run",
    "report",
    "train_one",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
