"""Images: sources are decoded once into one uint8 memory map, from which batches are made.

Names are imported when they are first used: the processes that decode need neither torch nor
scikit-learn, and neither does a command's ``--help``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batches import Augmentation, DeviceSplit, epoch_order
    from .config import DataConfig
    from .dataset import DataSet, Split
    from .loading import load

_HOME = {
    "Augmentation": "batches",
    "DataConfig": "config",
    "DataSet": "dataset",
    "DeviceSplit": "batches",
    "Split": "dataset",
    "epoch_order": "batches",
    "load": "loading",
}

__all__ = ["Augmentation", "DataConfig", "DataSet", "DeviceSplit", "Split", "epoch_order", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
