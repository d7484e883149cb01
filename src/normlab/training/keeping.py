"""How a run is made and kept: settings of a call, which change no result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..options import checked, fields_of, option

Resume = Literal["same", "changed", "restart"]


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How often a run's state is saved, when an interrupted run may resume, and what it keeps in
    memory. Like the number of workers, it is no part of a run's identity.

    >>> Keeping(checkpoint_minutes=0.5).resume
    'same'

    Raises:
        InputError: an impossible value.
    """

    checkpoint_minutes: float = option(
        1.0,
        "Minutes between checkpoints, from which an interrupted run resumes to the same bits. 0 "
        "saves after every update. Does not change results.",
        ">= 0",
    )
    resume: Resume = option(
        "same",
        "What happens to a run that was interrupted. same: it resumes if the versions and the "
        "machine are those of its checkpoint; changed: it resumes in any case, and what changed is "
        "recorded; restart: it starts over.",
    )
    save_memory: bool = option(
        False,
        "Keep about half as much memory for the backward pass, at a little more time: the outputs "
        "of layers that kernels in C can compute (bn, in, bin, ln, gn and more) are computed again "
        "there. Other layers and the arm none keep what they keep without it. Does not change "
        "results.",
    )

    def __post_init__(self) -> None:
        for name, value in checked(self).items():
            object.__setattr__(self, name, value)


KEEPING_FIELDS = fields_of(Keeping)
"""Name to dataclass field."""
