"""The laboratory for normalization layers in convolutional networks.

``normlab.check_data()`` checks images, ``normlab.compare()`` runs the comparison,
``normlab.load_model(RUN)`` gives a trained model back, ``normlab.norms`` has the layers.
``normlab.convert()`` puts another normalization into any network; ``normlab.recalibrate()``,
``normlab.freeze()`` and ``normlab.fold()`` change what a trained network has of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import InputError
from .lazy import names_of

if TYPE_CHECKING:
    from .conversion import convert, fold, freeze, recalibrate
    from .models import load_model
    from .workflow import check_data, compare

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "__version__",
    "check_data",
    "compare",
    "convert",
    "fold",
    "freeze",
    "load_model",
    "recalibrate",
]

_HOME = {
    "conversion": ("convert", "fold", "freeze", "recalibrate"),
    "models": ("load_model",),
    "workflow": ("check_data", "compare"),
}

__getattr__, __dir__ = names_of(__name__, _HOME)
