"""All images of a set dealt into K folds, so that each is tested once in every K runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..keyed import key
from ..once import Once
from ..splits import SPLITS
from . import splitting
from .dataset import Split, moments
from .grouping import Together

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Folds(Once):
    """Which images the run with each seed trains, validates and tests on.

    The run with seed s belongs to repetition ``s // number`` and is tested on fold ``s % number``
    of it. Every repetition deals all images anew. What a run is not tested on is divided into
    validation and training.

    Attributes:
        number: how many folds there are, K.
        whole: all images.
        together: which of them are never separated.
        classes: their names.
        val_fraction: share of what a run is not tested on that becomes its validation.
        split_seed: of all draws.
        sums, squares: (n, C) sums over each image's pixels, and over their squares.
        pixels: how many an image has.
    """

    number: int
    whole: Split
    together: Together
    classes: tuple[str, ...]
    val_fraction: float
    split_seed: int
    sums: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    pixels: int

    def place(self, seed: int) -> tuple[int, int]:
        """Repetition and fold of the run with this seed, both from 0."""
        return divmod(seed, self.number)

    def named(self, seed: int) -> str:
        """The fold in words, counted from 1."""
        repetition, fold = self.place(seed)
        return f"fold {fold + 1} of {self.number}, repetition {repetition + 1}"

    def rows(self, seed: int) -> dict[str, Rows]:
        """The rows of ``whole`` in each split of the run with this seed.

        Raises:
            InputError: a class cannot be in every fold, or not in every split.
        """
        return self.once(("rows", seed), lambda: self._rows(seed))

    def splits(self, seed: int) -> dict[str, Split]:
        """The splits of the run with this seed."""
        return {name: self.whole.part(rows) for name, rows in self.rows(seed).items()}

    def moments(self, seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the training pixels of this run."""
        trained = self.rows(seed)["train"]
        return moments(self.sums[trained], self.squares[trained], self.pixels)

    def describe(self) -> dict[str, Any]:
        """Ready for JSON: how many images there are, and in the splits of the first repetition."""
        rows = [self.rows(seed) for seed in range(self.number)]
        counts = np.bincount(self.whole.labels, minlength=len(self.classes)).tolist()
        return {
            "number": self.number,
            "images": len(self.whole),
            "counts": dict(zip(self.classes, counts, strict=True)),
            "sizes": {name: [len(of_run[name]) for of_run in rows] for name in SPLITS},
        }

    def _dealt(self, repetition: int) -> list[Rows]:
        return splitting.deal(
            self.whole.labels,
            self.whole.ids,
            self.classes,
            self.number,
            key(self.split_seed, "folds", repetition),
            self.together.number,
            self.together.told,
        )

    def _rows(self, seed: int) -> dict[str, Rows]:
        repetition, fold = self.place(seed)
        dealt = self.once(("dealt", repetition), lambda: self._dealt(repetition))
        others = [rows for index, rows in enumerate(dealt) if index != fold]
        return splitting.carve(
            {"train": np.sort(np.concatenate(others)), "test": dealt[fold]},
            self.whole.labels,
            self.whole.ids,
            self.classes,
            {"val": self.val_fraction},
            key(self.split_seed, "folds", repetition, fold),
            self.together.number,
            self.together.told,
        )
