"""Which image goes into which split: drawing what a source lacks, dealing folds, limiting images.

All draws are keyed by the split seed and the image's name. They do not depend on the order in
which files are listed, and adding or removing a file moves few others. Unlike with a plain
stratified shuffle, even a small class is in every split, and images that belong together are never
separated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..keyed import hash_each, key
from ..splits import SPLITS

Rows = npt.NDArray[np.int64]
Told = Callable[[int], str]

_LEAST_TO_DEAL = 4
"""Groups of a class, if it is to be in training, validation and test whichever of two folds is the
test."""


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
    together: Rows | None = None,
    told: Told = lambda row: "copies of one image",
) -> dict[str, Rows]:
    """Take the splits that were not found out of train, class by class.

    Fractions are of train as found; each class gives at least one image to each split. Images that
    belong together go as one, where their classes come closest to their shares.

    >>> labels = np.repeat([0, 1], 20)
    >>> ids = np.arange(40, dtype=np.uint64)
    >>> shares = {"val": 0.15, "test": 0.15}
    >>> splits = carve({"train": np.arange(40)}, labels, ids, ["ant", "bee"], shares, seed=0)
    >>> {name: np.bincount(labels[rows]).tolist() for name, rows in splits.items()}
    {'train': [14, 14], 'val': [3, 3], 'test': [3, 3]}

    Args:
        found: rows of the splits there are.
        labels, ids: of every row.
        classes: their names.
        fractions: share of train that becomes each missing split.
        seed: of the draw.
        together: rows with the same number stay together; None where each is alone.
        told: what keeps a row's group together, for errors.

    Raises:
        InputError: a class has too few images, or too few groups of them, to be in every split.
    """
    missing = [name for name in ("test", "val") if name not in found]
    splits = dict(found)
    if not missing:
        return splits
    pool = _Pool.of(found["train"], labels, ids, len(classes), together)
    _check(pool, classes, missing, told)
    totals = pool.images.copy()
    for rest, split in reversed(list(enumerate(reversed(missing)))):
        share = fractions[split]
        wanted = [
            min(max(1, round(total * share)), left - 1 - rest)
            for total, left in zip(totals.tolist(), pool.images.tolist(), strict=True)
        ]
        order = _by_draw(pool.first, ids, seed, "carve", split)
        splits[split] = pool.take(order, wanted, totals.tolist(), rest + 1)
    splits["train"] = pool.remaining()
    for name in ("train", *missing):
        _check_classes(splits[name], labels, classes, name)
    return {name: splits[name] for name in SPLITS}


def deal(
    labels: npt.NDArray[np.int64],
    ids: npt.NDArray[np.uint64],
    classes: Sequence[str],
    number: int,
    seed: int,
    together: Rows | None = None,
    told: Told = lambda row: "copies of one image",
) -> list[Rows]:
    """Deal all rows into ``number`` folds of about equal size, class by class.

    Without groups, the folds' numbers of images of a class differ by one at most, and so do their
    sizes. Images that belong together go as one, as in :func:`carve`.

    >>> labels = np.repeat([0, 1], [9, 6])
    >>> folds = deal(labels, np.arange(15, dtype=np.uint64), ["ant", "bee"], 3, seed=0)
    >>> [np.bincount(labels[rows]).tolist() for rows in folds]
    [[3, 2], [3, 2], [3, 2]]

    Args:
        labels, ids: of every row.
        classes: their names.
        number: how many folds, at least 2.
        seed: of the draw.
        together: rows with the same number stay together; None where each is alone.
        told: what keeps a row's group together, for errors.

    Raises:
        InputError: a class has too few images, or too few groups of them, to be in every fold and
            in training and validation besides.
    """
    pool = _Pool.of(np.arange(len(labels)), labels, ids, len(classes), together)
    _check_folds(pool, classes, number, told)
    order = _by_draw(pool.first, ids, seed, "deal")
    totals = pool.images.tolist()
    folds = []
    for left in range(number, 1, -1):
        # Every left-th image of those that remain, were they in the order of their classes.
        before = np.cumsum([0, *pool.images.tolist()])
        share = np.diff(-(-before // left)).tolist()
        wanted = [
            min(max(1, one), most - (left - 1))
            for one, most in zip(share, pool.images.tolist(), strict=True)
        ]
        folds.append(pool.take(order, wanted, totals, left - 1))
    folds.append(pool.remaining())
    for index, rows in enumerate(folds):
        _check_classes(rows, labels, classes, f"fold {index + 1} of {number}")
    return folds


def _check_classes(
    rows: Rows, labels: npt.NDArray[np.int64], classes: Sequence[str], name: str
) -> None:
    """Refuse a split without any image of a class."""
    counts = np.bincount(labels[rows], minlength=len(classes))
    for index in np.flatnonzero(counts == 0).tolist():
        raise InputError(
            f"Class {classes[index]} would have no images in {name}: too many of its images "
            "belong together with images of other classes. Add images, or remove the class."
        )


@dataclass
class _Pool:
    """Images that have no split yet, by units: images that stay together, or one alone.

    Attributes:
        first: a row of each free unit: the one with the smallest id, which the draw goes by.
        rows: first row to all rows of the unit.
        classes: first row to how many images of which class the unit has.
        images: free images by class; ``units`` free units that have the class.
    """

    first: Rows
    rows: Mapping[int, Rows]
    classes: Mapping[int, Mapping[int, int]]
    images: npt.NDArray[np.int64]
    units: list[int]
    taken: set[int] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        rows: Rows,
        labels: npt.NDArray[np.int64],
        ids: npt.NDArray[np.uint64],
        classes: int,
        together: Rows | None,
    ) -> _Pool:
        number = np.arange(len(labels)) if together is None else together
        order = rows[np.lexsort((rows, ids[rows], number[rows]))]
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        members = dict(zip(order[starts].tolist(), np.split(order, starts[1:]), strict=True))
        counted: dict[int, dict[int, int]] = {}
        units = [0] * classes
        for first, unit in members.items():
            kinds = counted.setdefault(first, {})
            for label in labels[unit].tolist():
                kinds[label] = kinds.get(label, 0) + 1
            for label in kinds:
                units[label] += 1
        return cls(
            first=order[starts],
            rows=members,
            classes=counted,
            images=np.bincount(labels[rows], minlength=classes),
            units=units,
        )

    def take(self, order: Rows, wanted: list[int], totals: list[int], needed: int) -> Rows:
        """Units for one split, in this order; each class of the rest keeps ``needed`` units.

        A unit is taken if that brings the split closer to what is wanted: the sum over classes of
        (images - wanted)^2 / total falls.
        """
        have = [0] * len(wanted)
        chosen: list[int] = []
        free = [unit for unit in order.tolist() if unit not in self.taken]
        of_class: list[list[int]] = [[] for _ in wanted]
        for unit in free:
            for label in self.classes[unit]:
                of_class[label].append(unit)

        def cost(unit: int) -> float:
            """How much further from what is wanted the split is with this unit."""
            return sum(
                count * (count + 2 * (have[label] - wanted[label])) / totals[label]
                for label, count in self.classes[unit].items()
            )

        def spared(unit: int) -> bool:
            return unit not in self.taken and all(
                self.units[label] > needed for label in self.classes[unit]
            )

        def add(unit: int) -> None:
            self.taken.add(unit)
            chosen.append(unit)
            for label, count in self.classes[unit].items():
                have[label] += count
                self.images[label] -= count
                self.units[label] -= 1

        # Where units have several classes, those with the least choice come first.
        for label in sorted(range(len(wanted)), key=lambda label: len(of_class[label])):
            for unit in of_class[label]:
                if have[label] >= wanted[label]:
                    break
                if spared(unit) and cost(unit) < 0:
                    add(unit)
            if not have[label]:
                # Every unit is more than twice what is wanted.
                rest = [unit for unit in of_class[label] if spared(unit)]
                if rest:
                    add(min(rest, key=cost))
        return self._rows(chosen)

    def remaining(self) -> Rows:
        """The rows of all units that are free."""
        return self._rows([unit for unit in self.first.tolist() if unit not in self.taken])

    def _rows(self, units: Sequence[int]) -> Rows:
        parts = [np.empty(0, np.int64), *(self.rows[unit] for unit in units)]
        return np.sort(np.concatenate(parts))


def _check(pool: _Pool, classes: Sequence[str], missing: Sequence[str], told: Told) -> None:
    """Refuse classes that cannot be in every split."""
    into = " and ".join(["train", *missing]) if len(missing) == 1 else "train, val and test"
    for index, name in enumerate(classes):
        total, units = int(pool.images[index]), pool.units[index]
        if total <= len(missing):
            raise InputError(
                f"Class {name} has {total} image{'s' * (total != 1)} to split into {into}: at "
                f"least {len(missing) + 1} are needed. Add images, or remove the class."
            )
        if units <= len(missing):
            largest = _largest_of(pool, index)
            count = pool.classes[largest][index]
            most = "All" if count == total else f"{count} of the"
            raise InputError(
                f"Class {name} cannot be split into {into}: images that belong together stay in "
                f"one split, and its {total} images are only {units} "
                f"group{'s' * (units != 1)}, where {len(missing) + 1} are needed. {most} {total} "
                f"are {told(largest)}. Add other images, or remove the class."
            )


def _check_folds(pool: _Pool, classes: Sequence[str], number: int, told: Told) -> None:
    """Refuse classes that cannot be in every fold, and in training and validation besides."""
    needed = max(number, _LEAST_TO_DEAL)
    for index, name in enumerate(classes):
        total, units = int(pool.images[index]), pool.units[index]
        if units >= needed:
            continue
        fewer = f"Use --folds {units} or fewer, add" if units >= _LEAST_TO_DEAL else "Add"
        have = f"{total} image{'s' * (total != 1)}"
        if units < total:
            largest = _largest_of(pool, index)
            count = pool.classes[largest][index]
            have += (
                f" in {units} group{'s' * (units != 1)} that stay in one fold ({count} of the "
                f"{total} are {told(largest)})"
            )
        raise InputError(
            f"Class {name} has {have}. {number} folds need at least {needed} "
            f"{'groups' if units < total else 'images'} of each class. {fewer} other images, or "
            "remove the class."
        )


def _largest_of(pool: _Pool, label: int) -> int:
    """The unit with most images of a class."""
    having = (unit for unit in pool.classes if label in pool.classes[unit])
    return max(having, key=lambda unit: pool.classes[unit][label])


def limit(
    splits: Mapping[str, Rows],
    labels: npt.NDArray[np.int64],
    ids: npt.NDArray[np.uint64],
    classes: Sequence[str],
    most: int,
    seed: int,
    *,
    all_splits: bool = False,
) -> dict[str, Rows]:
    """At most ``most`` training images of each class.

    Args:
        splits: rows of each split.
        labels, ids: of every row.
        classes: their names.
        most: the limit.
        seed: of the draw.
        all_splits: limit the other splits too, in proportion; otherwise they stay whole.
    """
    kept: dict[str, list[Rows]] = {name: [] for name in splits}
    for index in range(len(classes)):
        of_class = {name: rows[labels[rows] == index] for name, rows in splits.items()}
        trained = len(of_class["train"])
        for name, rows in of_class.items():
            if trained > most and (all_splits or name == "train"):
                take = most if name == "train" else max(1, round(len(rows) * most / trained))
                rows = _by_draw(rows, ids, seed, "limit", name)[:take]
            kept[name].append(rows)
    return {name: np.sort(np.concatenate(rows)) for name, rows in kept.items()}
