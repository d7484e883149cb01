"""Whether the clean split of a planted folder is clean by the check's own account."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from normlab.checks.copies.clean import clean_split
from normlab.checks.copies.groups import Copies, find_copies
from normlab.checks.copies.probability import SURE
from normlab.checks.image_set import read_image_set
from normlab.data import DataConfig

from .planting import Planted


def print_header() -> None:
    """Of the table that :func:`print_clean` fills."""
    print("\nPairs of images in different splits, as shipped and in the clean split.\n")
    print("| kind | exact or sure | clean | less sure | clean |")
    print("| --- | ---: | ---: | ---: | ---: |")


def print_clean(kind: str, planted: Planted, work: Path) -> None:
    """Check a folder, write its clean split, and check that.

    Args:
        kind: the name of the kind.
        planted: the folder.
        work: where the split file goes.
    """
    found = find_copies(read_image_set(DataConfig(str(planted.root))))
    path = work / "clean.json"
    clean_split(found).file().write(path)
    again = find_copies(read_image_set(DataConfig(str(planted.root), split=str(path))))
    (exact, likely), (exact_after, likely_after) = _between(found), _between(again)
    print(f"| {kind} | {exact} | {exact_after} | {likely} | {likely_after} |", flush=True)


def _between(copies: Copies) -> tuple[int, int]:
    """Pairs of images in different splits: exact or sure ones, and others."""
    links, split = copies.links, copies.image_set.split
    lies_in = np.zeros((int(links.node.max()) + 1, 3), np.bool_)
    lies_in[links.node, split] = True
    one, two = lies_in[links.pairs[links.linked]].transpose(1, 0, 2)
    # They are in one place if both lie in one split, and in the same.
    apart = (one | two).sum(1) > 1
    sure = links.probability[links.linked] >= SURE
    exact = int((lies_in.sum(1) > 1).sum())
    return exact + int((apart & sure).sum()), int((apart & ~sure).sum())
