"""The jobs from end to end, for the command line and for notebooks alike."""

from .comparison import Comparison, Estimate, Watcher, check_out, compare, train_one

__all__ = ["Comparison", "Estimate", "Watcher", "check_out", "compare", "train_one"]
