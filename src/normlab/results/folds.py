"""The folds of a study, read back: how many images its runs train and are tested on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Folds:
    """What data.json says of folds.

    Attributes:
        number: how many there are, K; K seeds in a row test every image once.
        images: how many there are in all.
        counts: of each class.
        sizes: split to its number of images in each run of the first repetition.
    """

    number: int
    images: int
    counts: Mapping[str, int]
    sizes: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Folds | None:
        """None for a study whose runs all have the same splits."""
        found = data.get("folds")
        return None if found is None else cls(**{name: found[name] for name in _NAMES})

    def shared(self, split: str = "test") -> float:
        """Images that a run is tested on per training image, n_test / n_train: how much the
        training images that runs share add to the variance of a mean, see
        :func:`~normlab.results.statistics.t_interval`."""
        return statistics.fmean(self.sizes[split]) / statistics.fmean(self.sizes["train"])

    def size(self, split: str) -> str:
        """How many images a run has in a split, in words: "180", "179 to 181"."""
        least, most = min(self.sizes[split]), max(self.sizes[split])
        return f"{least:,}" if least == most else f"{least:,} to {most:,}"

    def repetitions(self, seeds: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Seeds by the repetition that they belong to, those of whole repetitions alone.

        >>> Folds(2, 4, {}, {}).repetitions([0, 1, 2])
        {0: (0, 1)}
        """
        found: dict[int, list[int]] = {}
        for seed in sorted(set(seeds)):
            found.setdefault(seed // self.number, []).append(seed)
        return {k: tuple(of_k) for k, of_k in found.items() if len(of_k) == self.number}


_NAMES = ("number", "images", "counts", "sizes")
