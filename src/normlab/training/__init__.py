"""One run: the network, the loop, and the folder it leaves.

Light to import: what needs torch is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .code import code_of_run, own_code, weights_of_run
    from .environment import (
        check_kernels,
        kernels_of,
        resolve_device,
        versions,
        why_not_compiled,
    )
    from .evaluation import evaluate
    from .failed import write_failed
    from .frozen_parts import train_mode
    from .group import Group, joined
    from .keeping import KEEPING_FIELDS, Keeping
    from .layer_check import LayerTraits, check_layer
    from .network import (
        build,
        check_arm,
        check_factory,
        layers_of,
        methods,
        name_of_layer,
        started,
    )
    from .run import Progress, train
    from .step import train_step

_HOME = {
    "environment": (
        "check_kernels",
        "kernels_of",
        "resolve_device",
        "versions",
        "why_not_compiled",
    ),
    "evaluation": ("evaluate",),
    "failed": ("write_failed",),
    "group": ("Group", "joined"),
    "keeping": ("KEEPING_FIELDS", "Keeping"),
    "layer_check": ("LayerTraits", "check_layer"),
    "code": ("code_of_run", "own_code", "weights_of_run"),
    "network": (
        "build",
        "check_arm",
        "check_factory",
        "layers_of",
        "methods",
        "name_of_layer",
        "started",
    ),
    "frozen_parts": ("train_mode",),
    "run": ("Progress", "train"),
    "step": ("train_step",),
}

__all__ = [
    "KEEPING_FIELDS",
    "Group",
    "Keeping",
    "LayerTraits",
    "Progress",
    "build",
    "check_arm",
    "check_factory",
    "check_kernels",
    "check_layer",
    "code_of_run",
    "evaluate",
    "joined",
    "kernels_of",
    "layers_of",
    "methods",
    "name_of_layer",
    "own_code",
    "resolve_device",
    "started",
    "train",
    "train_mode",
    "train_step",
    "versions",
    "weights_of_run",
    "why_not_compiled",
    "write_failed",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
