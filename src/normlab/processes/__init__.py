"""Work in other processes, which may die.

:func:`in_processes` gives jobs to processes of their own, which are kept for the next call. A
process that dies takes nothing with it: its job is tried again, and the others go on. A process
ends when the one that started it ends, however that ends: it reads its jobs from a pipe, and the
system closes that pipe. An :class:`Engine` says where the processes are: on this machine, or on
those of a :class:`Cluster`. What becomes of a job is decided in one place, for all of them.
"""

from __future__ import annotations

from .causes import Death
from .cluster import Cluster, Needs, check_installed, joined, on_every_machine
from .engine import Engine
from .own import cores
from .pool import DiedError, Outcome, as_they_end, in_processes, in_turn
from .worker import tell

__all__ = [
    "Cluster",
    "Death",
    "DiedError",
    "Engine",
    "Needs",
    "Outcome",
    "as_they_end",
    "check_installed",
    "cores",
    "in_processes",
    "in_turn",
    "joined",
    "on_every_machine",
    "tell",
]
