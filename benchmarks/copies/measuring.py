"""What the search measures on planted copies."""

from __future__ import annotations

import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from normlab.checks.copies.near import Judged, Search, distinct
from normlab.checks.image_set import ImageSet, read_image_set
from normlab.data import DataConfig

from .kinds import Kind
from .planting import Planted


@dataclass(frozen=True)
class Measured:
    """Pairs of one kind of pictures, and which of them are copies.

    Attributes:
        kind: the name of the kind.
        family: kinds of one family are left out together.
        measures: (k, m), one row per pair that was judged.
        true: (k,) whether the pair is a picture and its copy.
        numbers: (k, 2) numbers of the two pictures.
        names: (k, 2) their files.
        planted: number of a picture to the way of its copy and the strength; only copies whose
            pixels differ from their picture's.
        found: numbers of pictures whose copy was among the candidates.
        images: how many there are.
        seconds: of processor time for the search.
    """

    kind: str
    family: str
    measures: np.ndarray
    true: np.ndarray
    numbers: np.ndarray
    names: np.ndarray
    planted: dict[int, tuple[str, int]]
    found: frozenset[int]
    images: int
    seconds: float


def number_of(name: str) -> int:
    """Of a planted file."""
    return int(re.search(r"(\d{6})\.\w+$", name).group(1))  # type: ignore[union-attr]


@dataclass(frozen=True)
class Searched:
    """One kind, with what other methods need to be measured on it."""

    measured: Measured
    image_set: ImageSet
    rows: np.ndarray
    search: Search
    judged: Judged


@contextmanager
def searched(kind: Kind, planted: Planted) -> Iterator[Searched]:
    """Search a folder with planted copies.

    Args:
        kind: what the folder has.
        planted: the folder.
    """
    image_set = read_image_set(DataConfig(str(planted.root)))
    rows = distinct(image_set)
    names = image_set.names[rows]
    numbers = np.array([number_of(name) for name in names.tolist()])
    began = time.process_time()
    with torch.inference_mode(), tempfile.TemporaryDirectory() as scratch:
        search = Search(image_set, rows, lambda *_: None, Path(scratch))
        candidates = search.candidates()
        judged = search.judged(candidates)
        seconds = time.process_time() - began
        first, second = judged.first.numpy(), judged.second.numpy()
        ends = np.stack([numbers[first], numbers[second]], 1)
        offered = numbers[candidates.first.numpy()] == numbers[candidates.second.numpy()]
        measured = Measured(
            kind.name,
            kind.family,
            judged.measures.numpy(),
            ends[:, 0] == ends[:, 1],
            ends,
            np.stack([names[first], names[second]], 1),
            _different(planted, image_set),
            frozenset(numbers[candidates.first.numpy()[offered]].tolist()),
            len(image_set),
            seconds,
        )
        yield Searched(measured, image_set, rows, search, judged)


def _different(planted: Planted, image_set: ImageSet) -> dict[int, tuple[str, int]]:
    """Copies that differ from their picture in what the network sees."""
    pixels = defaultdict(set)
    for name, digest in zip(image_set.names.tolist(), image_set.digests.tolist(), strict=True):
        pixels[number_of(name)].add(digest)
    return {number: way for number, way in planted.ways.items() if len(pixels[number]) > 1}
