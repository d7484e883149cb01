"""Images: sources are decoded once into one uint8 memory map, from which batches are read.

Names are imported when they are first used: the processes that decode need neither torch nor
scikit-learn, and neither does a command's ``--help``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .batches import Augmentation, DeviceSplit, epoch_order
    from .config import DataConfig
    from .dataset import DataSet, Split
    from .loading import load

_HOME = {
    "batches": ("Augmentation", "DeviceSplit", "epoch_order"),
    "config": ("DataConfig",),
    "dataset": ("DataSet", "Split"),
    "loading": ("load",),
}

__all__ = ["Augmentation", "DataConfig", "DataSet", "DeviceSplit", "Split", "epoch_order", "load"]

__getattr__, __dir__ = names_of(__name__, _HOME)
