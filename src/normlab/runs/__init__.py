"""The run folder: its files, their columns, and how they are written and read.

The only owner of that format. It needs no torch, and knows neither who makes runs nor who reads
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of
from .config import AS_IS, FIELDS, OUR_NETWORK, RunConfig, check_fields
from .identities import RECIPE, has_smoothed_loss, identity, is_same_run, is_superseded
from .layout import (
    CHECKPOINTS,
    MODEL,
    RECORD,
    SPLIT,
    STUDY,
    WEIGHTS,
    is_run,
    is_study,
    run_folder,
    study_of,
    superseded_folder,
    tuning_folder,
)
from .metrics import METRICS, RUNNING, Metrics
from .record import (
    COMPLETE,
    DIVERGED,
    FAILED,
    FEATURE_COLUMNS,
    HISTORY_COLUMNS,
    INTERRUPTED,
    PERCENTILES,
    ended_record,
    is_result,
    read_features,
    read_history,
    read_record,
    write_features,
    write_history,
    write_record,
)

if TYPE_CHECKING:
    from .predictions import SplitPredictions, read_predictions, write_predictions

_HOME = {
    "predictions": ("SplitPredictions", "read_predictions", "write_predictions"),
}

__all__ = [
    "AS_IS",
    "CHECKPOINTS",
    "COMPLETE",
    "DIVERGED",
    "FAILED",
    "FEATURE_COLUMNS",
    "FIELDS",
    "HISTORY_COLUMNS",
    "INTERRUPTED",
    "METRICS",
    "MODEL",
    "OUR_NETWORK",
    "PERCENTILES",
    "RECIPE",
    "RECORD",
    "RUNNING",
    "SPLIT",
    "STUDY",
    "WEIGHTS",
    "Metrics",
    "RunConfig",
    "SplitPredictions",
    "check_fields",
    "ended_record",
    "has_smoothed_loss",
    "identity",
    "is_result",
    "is_run",
    "is_same_run",
    "is_superseded",
    "is_study",
    "read_features",
    "read_history",
    "read_predictions",
    "read_record",
    "run_folder",
    "study_of",
    "superseded_folder",
    "tuning_folder",
    "write_features",
    "write_history",
    "write_predictions",
    "write_record",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
