"""A class whose file names hold the number of the photograph: Brown-Headed-Barbet."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np

from normlab.checks.copies.near import near_copies
from normlab.checks.copies.probability import LISTED, SURE
from normlab.checks.image_set import ImageSet, read_image_set
from normlab.data import DataConfig

LEAST = (LISTED, SURE)
_CLASS = "Brown-Headed-Barbet"
_TEST = 2


def birds(root: Path) -> None:
    """Print how many of its test images are found by a pair with train or val of the same number.

    Args:
        root: the folder with train, val and test.
    """
    whole = read_image_set(DataConfig(str(root)))
    began = time.perf_counter()
    found = near_copies(whole)
    seconds = time.perf_counter() - began
    of_class = whole.labels == whole.classes.index(_CLASS)
    numbers = np.array([_number(name) for name in whole.names.tolist()])
    test = whole.split == _TEST
    pool = set(numbers[of_class & ~test].tolist()) - {""}
    wanted = set(np.flatnonzero(of_class & test & np.isin(numbers, list(pool))).tolist())
    print(f"\nBirds: {len(whole):,} images, {len(found):,} pairs, {seconds:.0f} s\n")
    print("| probability at least | found | recall | pairs with test | same number | precision |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for least in LEAST:
        hit, right, every = _hits(whole, found.pairs[found.probability >= least], numbers, of_class)
        share = len(hit & wanted) / len(wanted)
        print(
            f"| {least} | {len(hit & wanted)} of {len(wanted)} | {100 * share:.1f} % | {every} | "
            f"{right} | {100 * right / max(every, 1):.1f} % |"
        )


def _number(name: str) -> str:
    found = re.search(r"Bird-Image(\d+)", name)
    return found[1] if found else ""


def _hits(
    whole: ImageSet, pairs: np.ndarray, numbers: np.ndarray, of_class: np.ndarray
) -> tuple[set[int], int, int]:
    """Test images that a pair finds, pairs of equal numbers, and pairs, between test and others."""
    test = whole.split == _TEST
    same: dict[int, list[int]] = {}
    for row in np.flatnonzero(of_class).tolist():
        same.setdefault(int(whole.digests[row]), []).append(row)
    hit: set[int] = set()
    right = every = 0
    for one, two in pairs.tolist():
        for a in same.get(int(whole.digests[one]), ()):
            for b in same.get(int(whole.digests[two]), ()):
                if test[a] == test[b]:
                    continue
                every += 1
                if numbers[a] == numbers[b]:
                    right += 1
                    hit.add(a if test[a] else b)
    for rows in same.values():
        if any(not test[row] for row in rows):
            hit |= {row for row in rows if test[row]}
    return hit, right, every
