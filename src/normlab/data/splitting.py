"""Which image goes into which split: drawing what a source lacks, and limiting images per class.

Both draws are keyed by the split seed and the image's name. They do not depend on the order in
which files are listed, and adding or removing a file moves few others. Unlike with a plain
stratified shuffle, even a small class is in every split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..keyed import hash_each, key
from ..splits import SPLITS

Rows = npt.NDArray[np.int64]


def _by_draw(rows: Rows, ids: npt.NDArray[np.uint64], *parts: int | str) -> Rows:
    """These rows in an order decided by the key."""
    return rows[np.lexsort((ids[rows], hash_each(key(*parts), ids[rows])))]


def carve(
    found: Mapping[str, Rows],
    labels: npt.NDArray[np.int64],
    ids: npt.NDArray[np.uint64],
    classes: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
) -> dict[str, Rows]:
    """Take the splits that were not found out of train, class by class.

    Fractions are of train as found; each class gives at least one image to each split.

    >>> labels = np.repeat([0, 1], 20)
    >>> ids = np.arange(40, dtype=np.uint64)
    >>> shares = {"val": 0.15, "test": 0.15}
    >>> splits = carve({"train": np.arange(40)}, labels, ids, ["ant", "bee"], shares, seed=0)
    >>> {name: np.bincount(labels[rows]).tolist() for name, rows in splits.items()}
    {'train': [14, 14], 'val': [3, 3], 'test': [3, 3]}
    """
    missing = [name for name in ("test", "val") if name not in found]
    splits = dict(found)
    if not missing:
        return splits
    parts: dict[str, list[Rows]] = {name: [] for name in ("train", *missing)}
    for index, name in enumerate(classes):
        rows = found["train"][labels[found["train"]] == index]
        total, rest = len(rows), len(missing)
        if total <= rest:
            into = " and ".join(["train", *missing[::-1]]) if rest == 1 else "train, val and test"
            raise InputError(
                f"Class {name} has {total} image{'s' * (total != 1)} to split into {into}: at "
                f"least {rest + 1} are needed. Add images, or remove the class."
            )
        for split in missing:
            rest -= 1
            take = min(max(1, round(total * fractions[split])), len(rows) - 1 - rest)
            order = _by_draw(rows, ids, seed, "carve", split)
            parts[split].append(order[:take])
            rows = order[take:]
        parts["train"].append(rows)
    splits |= {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}
    return {name: splits[name] for name in SPLITS}


def limit(
    splits: Mapping[str, Rows],
    labels: npt.NDArray[np.int64],
    ids: npt.NDArray[np.uint64],
    classes: Sequence[str],
    most: int,
    seed: int,
) -> dict[str, Rows]:
    """At most ``most`` training images of each class, the other splits in proportion."""
    kept: dict[str, list[Rows]] = {name: [] for name in splits}
    for index in range(len(classes)):
        of_class = {name: rows[labels[rows] == index] for name, rows in splits.items()}
        trained = len(of_class["train"])
        for name, rows in of_class.items():
            if trained > most:
                take = most if name == "train" else max(1, round(len(rows) * most / trained))
                rows = _by_draw(rows, ids, seed, "limit", name)[:take]
            kept[name].append(rows)
    return {name: np.sort(np.concatenate(rows)) for name, rows in kept.items()}
