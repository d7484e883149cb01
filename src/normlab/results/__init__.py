"""Reading a study back: its runs, predictions, curves and tuned settings.

``results.statistics`` says what they support. Nothing here needs torch.
"""

from .predictions import Answers, HardImage, answers, class_f1, confusion, hardest
from .reading import Results, Run, Spread, how_lost, read_results, read_run, write_results_csv
from .trends import CurveReading, read_curves
from .tuning import Tuning, UnfinishedTuning, read_tunings, unfinished_tunings

__all__ = [
    "Answers",
    "CurveReading",
    "HardImage",
    "Results",
    "Run",
    "Spread",
    "Tuning",
    "UnfinishedTuning",
    "answers",
    "class_f1",
    "confusion",
    "hardest",
    "how_lost",
    "read_curves",
    "read_results",
    "read_run",
    "read_tunings",
    "unfinished_tunings",
    "write_results_csv",
]
