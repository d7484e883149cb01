"""The laboratory for normalization layers in convolutional networks.

``normlab.compare()`` runs the comparison, ``normlab.load_model(RUN)`` gives a trained model back,
``normlab.norms`` holds the layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from .models import load_model
    from .workflow import compare

__version__ = "0.1.0"
__all__ = ["InputError", "__version__", "compare", "load_model"]

_LATE = {"compare": ".workflow", "load_model": ".models"}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the command line must answer --help without torch.
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(_LATE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
