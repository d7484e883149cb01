"""The section of the page about the clean split."""

from __future__ import annotations

import numpy as np

from ...splits import SPLIT_WORDS, SPLITS
from ..protocol import PagePart, Section
from .clean import CleanSplit
from .groups import Copies


def clean_part(copies: Copies, split: CleanSplit | None) -> PagePart:
    """What moved, or how to get a clean split.

    Args:
        copies: what the near duplicates check found.
        split: the clean split, if one was written.
    """
    context = {
        "clean": None if split is None else _moves(copies, split),
        "leaks": any(copied.certain or copied.likely for copied in copies.shared),
    }
    section = Section("clean", "A clean split", "clean.html.j2", context)
    return PagePart(__package__, sections=(section,))


def _moves(copies: Copies, split: CleanSplit) -> dict[str, object]:
    names = (*(SPLIT_WORDS[name] for name in SPLITS), "left out")
    moves = np.zeros((len(SPLITS), len(names)), np.int64)
    # The last column is -1, what was left out.
    before = copies.image_set.split.astype(np.int64)
    np.add.at(moves, (before, split.split.astype(np.int64)), 1)
    return {
        "sentences": split.sentences(),
        "names": names,
        "moves": [
            (names[index], [int(number) for number in row], index)
            for index, row in enumerate(moves)
        ],
        "after": [int(number) for number in moves.sum(0)],
    }
