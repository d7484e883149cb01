"""Work in other processes, which may die.

:func:`in_processes` gives jobs to processes of their own, which are kept for the next call. A
process that dies takes nothing with it: its job is tried again, and the others go on. A process
ends when the one that started it ends, however that ends: it reads its jobs from a pipe, and the
system closes that pipe.
"""

from __future__ import annotations

from .causes import Death
from .engine import Engine
from .own import cores
from .pool import DiedError, Outcome, as_they_end, in_processes, in_turn
from .worker import tell

__all__ = [
    "Death",
    "DiedError",
    "Engine",
    "Outcome",
    "as_they_end",
    "cores",
    "in_processes",
    "in_turn",
    "tell",
]
