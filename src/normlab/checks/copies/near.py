"""Near duplicates: images made from one photograph, however they were turned, cropped or saved.

Candidates are each image's nearest neighbours by descriptors that a copy shares
(:mod:`.candidates`). Each is laid on the image as well as an affine map allows (:mod:`.alignment`),
the two are compared detail by detail (:mod:`.agreement`), and what is measured becomes a
probability (:mod:`.probability`). The search looks at pixels alone: neither labels nor splits nor
names nor the order of files change what is found.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...cache_files import keep_arrays, kept_arrays, one_at_a_time
from ...data.array_file import ArrayFile
from ...data.cache import Progress
from ...destinations import explained_disk_errors
from ...places import cache_folder
from ..image_set import ImageSet
from . import agreement, alignment, thumbnails
from .candidates import Candidates, find_candidates, laid
from .probability import SURE, listed, probability_of
from .repeats import LEAST_MOVE, moved_onto_itself
from .thumbnails import COARSE, FINE, chunks

METHOD = 7
"""Raised when the search finds different pairs."""

_COARSELY_ALIKE = 0.65
_ALIKE = 0.6
_SIMILAR = 0.42
_ANY = -2.0
_JUDGED = 6

_COARSE_BAND = (0.6, 5.0)
_FINE_BAND = (0.7, 3.0)

_CHUNK = 500


@dataclass(frozen=True, eq=False)
class NearCopies:
    """Pairs of images that are probably copies of one photograph, surest first.

    Pairs are between different pixels; files whose pixels are equal are represented by the first.

    Attributes:
        pairs: (k, 2) rows of the image set.
        probability: (k,) that a pair is a copy, at least :data:`.probability.LISTED`.
        maps: (k, 2, 3), where a point of the second image is in the first, coordinates -1 to 1.
        compared: pairs that were aligned and judged.
    """

    pairs: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]
    compared: int

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def sure(self) -> npt.NDArray[np.bool_]:
        """Which pairs are so likely copies that they may form groups."""
        return self.probability >= SURE


def near_copies(image_set: ImageSet, *, progress: Progress | None = None) -> NearCopies:
    """Find near duplicates among all images of a source, whatever their class and split.

    The result is kept in the cache.

    Args:
        image_set: the images.
        progress: called with a stage, and how many of how many are done.
    """
    rows = distinct(image_set)
    name = _name(image_set, rows)
    tell = progress or (lambda stage, done, total: None)

    def waiting() -> None:
        tell("Waiting for another process that compares these images", 0, len(rows))

    known = _kept(name, rows)
    if known is not None:
        return known
    with one_at_a_time("copies", name, waiting):
        known = _kept(name, rows)
        if known is not None:
            return known
        with _all_threads(), torch.inference_mode(), _scratch() as scratch:
            found = Search(image_set, rows, tell, scratch).run()
        keep_arrays("copies", name, found.__dict__)
    return _placed(found, rows)


def _kept(name: str, rows: npt.NDArray[np.int64]) -> NearCopies | None:
    kept = kept_arrays("copies", name)
    with suppress(KeyError, TypeError, IndexError):
        if kept is not None:
            return _placed(NearCopies(**{**kept, "compared": int(kept["compared"])}), rows)  # type: ignore[arg-type]
    return None


def _placed(found: NearCopies, rows: npt.NDArray[np.int64]) -> NearCopies:
    """With rows of this image set in place of numbers among its distinct images."""
    return NearCopies(rows[found.pairs], found.probability, found.maps, found.compared)


def distinct(image_set: ImageSet) -> npt.NDArray[np.int64]:
    """The first row of each different image, in an order that depends on the pixels alone."""
    return np.unique(image_set.digests, return_index=True)[1].astype(np.int64)


def _name(image_set: ImageSet, rows: npt.NDArray[np.int64]) -> str:
    size, channels = image_set.data.image_size, image_set.data.channels
    hashed = hashlib.blake2b(
        json.dumps([METHOD, size, channels, torch.__version__]).encode(), digest_size=16
    )
    hashed.update(np.ascontiguousarray(image_set.digests[rows]).tobytes())
    return hashed.hexdigest()


@contextmanager
def _all_threads() -> Iterator[None]:
    """Use all cores, or as many as OMP_NUM_THREADS says, and then as many as before."""
    before = torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(asked) if asked.isdigit() and int(asked) else os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder in the cache that is deleted at the end."""
    folder = cache_folder("copies")
    with explained_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            yield Path(made)


@dataclass(frozen=True, eq=False)
class Judged:
    """Pairs that were laid on each other.

    Attributes:
        first: places of the images; ``second`` of the others.
        maps: see :class:`NearCopies`.
        measures: columns :data:`.agreement.MEASURES`.
    """

    first: Tensor
    second: Tensor
    maps: Tensor
    measures: Tensor


class Search:
    """One search. Images go by their place among the distinct ones."""

    def __init__(
        self, image_set: ImageSet, rows: npt.NDArray[np.int64], tell: Progress, scratch: Path
    ) -> None:
        self.image_set, self.rows, self.tell = image_set, rows, tell
        self.count = count = len(rows)
        boxes = [
            thumbnails.content_boxes(image_set.images(rows[part])) for part in chunks(count, _CHUNK)
        ]
        self.boxes = np.concatenate([np.empty((0, 3), np.int64), *boxes])
        self.sides = torch.from_numpy(self.boxes[:, 2]).float()
        self.coarse = torch.empty(count, 1, COARSE, COARSE, dtype=torch.float16)
        self.details = torch.empty(count)
        # On the disk, so that memory stays flat while the set grows.
        self.finely = ArrayFile.create(scratch / "details.npy", (count, 1, FINE, FINE), np.float16)

    def run(self) -> NearCopies:
        """Find the pairs, surest first."""
        found = self.judged(self.candidates())
        chance = probability_of(found.measures)
        picked = torch.nonzero(listed(chance, found.measures))[:, 0]
        picked = picked[torch.argsort(chance[picked], descending=True, stable=True)]
        return NearCopies(
            pairs=torch.stack([found.first[picked], found.second[picked]], 1).numpy(),
            probability=chance[picked].float().numpy(),
            maps=found.maps[picked].numpy(),
            compared=len(chance),
        )

    def candidates(self) -> Candidates:
        """Pairs that are worth laying on each other."""
        return find_candidates(self._colours, self.count, self.tell)

    def judged(self, candidates: Candidates) -> Judged:
        """Those that agree once they are laid on each other, and how well."""
        self._extract_details()
        first, second, maps, agrees = self._refined(candidates)
        measures = self._measured(first, second, maps, agrees, "Comparing pairs")
        good = measures[:, 0] >= _SIMILAR
        first, second, maps, measures = first[good], second[good], maps[good], measures[good]
        ends = torch.stack([first, second], 1)
        places = torch.unique(ends)
        usual, repeats = self._usual(places, candidates.unrelated), self._repeats(places)
        return Judged(
            first, second, maps, agreement.beside_usual(measures, usual[ends], repeats[ends])
        )

    def opponents(self, places: npt.NDArray[np.int64], size: int) -> Tensor:
        """Images without bars, (n, C, size, size) in opponent colours."""
        pixels = self.image_set.images(self.rows[places])
        return thumbnails.opponent(thumbnails.squares(pixels, self.boxes[places], size))

    def _measured(
        self, first: Tensor, second: Tensor, maps: Tensor, agrees: Tensor, stage: str
    ) -> Tensor:
        measures = [torch.empty(0, len(agreement.MEASURES) - agreement.BESIDE)]
        for part in chunks(len(first), 128):
            one, two = first[part], second[part]
            number = torch.minimum(self.details[one], self.details[two])
            pixels = torch.minimum(self.sides[one], self.sides[two])
            image, other = (self.opponents(places.numpy(), FINE) for places in (one, two))
            measures.append(
                agreement.measured(image, other, maps[part], agrees[part], number, pixels)
            )
            self.tell(stage, part.stop, len(first))
        return torch.cat(measures)

    def _usual(self, places: Tensor, unrelated: Tensor) -> Tensor:
        """By place: how well an image agrees with others that look much like it, (n,)."""
        stage = "Comparing unrelated pairs"
        found = torch.zeros(self.count)
        if not len(places):
            return found
        first, second, maps, _ = laid(self._colours, unrelated[places], places, lambda *_: None)
        refined = [
            self._moved(first[part], second[part], maps[part], _ANY)
            for part in chunks(len(first), 1024)
        ]
        first, second, maps, agrees = (torch.cat(each) for each in zip(*refined, strict=True))
        similarity = self._measured(first, second, maps, agrees, stage)[:, 0]
        # Of several, the lower median: one of them may be a copy after all.
        order = torch.argsort(similarity, stable=True)
        order = order[torch.argsort(first[order], stable=True)]
        here, times = torch.unique_consecutive(first[order], return_counts=True)
        starts = times.cumsum(0) - times
        found[here] = similarity[order[starts + (times - 1) // 2]]
        return found

    def _repeats(self, places: Tensor) -> Tensor:
        """By place: how well an image agrees with itself once it is moved, (n,)."""
        stage = "Comparing images with themselves"
        found = torch.zeros(self.count)
        if not len(places):
            return found
        moved = []
        for part in chunks(len(places), 1024):
            here = places[part]
            maps = moved_onto_itself(self.coarse[here].float()[:, 0])
            moved.append(self._moved(here, here, maps, _ANY))
        here, _, maps, agrees = (torch.cat(each) for each in zip(*moved, strict=True))
        similarity = self._measured(here, here, maps, agrees, stage)[:, 0]
        # The refinement may find the way back.
        away = maps[:, :, 2].norm(dim=1) >= LEAST_MOVE / 2
        found[here] = torch.where(away, similarity, torch.zeros_like(similarity))
        return found

    def _colours(self, places: npt.NDArray[np.int64]) -> Tensor:
        return self.opponents(places, COARSE)

    def _extract_details(self) -> None:
        for part in chunks(self.count, _CHUNK):
            places = np.arange(part.start, part.stop)
            pixels, boxes = self.image_set.images(self.rows[places]), self.boxes[places]
            coarse, fine = (
                thumbnails.band(thumbnails.luma(thumbnails.squares(pixels, boxes, size)), *band)
                for size, band in ((COARSE, _COARSE_BAND), (FINE, _FINE_BAND))
            )
            self.coarse[part] = coarse.half()
            self.details[part] = agreement.details_in(coarse)
            self.finely.write(places, fine.half().numpy())
            self.tell("Extracting details", part.stop, self.count)

    def _refined(self, found: Candidates) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pairs that agree under their refined maps, and how well; of each image the most alike."""
        first, second = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
        maps, alike = [torch.empty(0, 2, 3)], [torch.empty(0)]
        for part in chunks(len(found), 1024):
            kept = self._moved(
                found.first[part], found.second[part], found.maps[part], _COARSELY_ALIKE
            )
            good = kept[3] >= _ALIKE
            for every, some in zip((first, second, maps, alike), kept, strict=True):
                every.append(some[good])
            self.tell("Aligning images", part.stop, len(found))
        return _best(
            torch.cat(first), torch.cat(second), torch.cat(maps), torch.cat(alike), self.count
        )

    def _moved(
        self, one: Tensor, two: Tensor, maps: Tensor, least: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pairs that agree at the coarse size, their maps refined at both, and how well they agree
        at the fine one."""
        image, other = self.coarse[one].float(), self.coarse[two].float()
        maps, agrees = alignment.refine(image, other, maps, points=18, reach=0.8, steps=8)
        good = agrees >= least
        one, two, maps = one[good], two[good], maps[good]
        image, other = self._fine_details(one), self._fine_details(two)
        maps, agrees = alignment.refine(image, other, maps, points=26, reach=0.95, steps=4)
        return one, two, maps, agrees

    def _fine_details(self, places: Tensor) -> Tensor:
        return torch.from_numpy(self.finely.read(places.numpy())).float()


def _best(
    first: Tensor, second: Tensor, maps: Tensor, alike: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each pair once, from its better side; of each image only the most alike."""
    order = torch.argsort(alike, descending=True, stable=True)
    pair = torch.minimum(first, second) * count + torch.maximum(first, second)
    _, once = np.unique(pair[order].numpy(), return_index=True)
    order = order[torch.from_numpy(np.sort(once))]  # still most alike first
    # A pair stays when it is among the most alike of either of its images.
    ranks = _ranks(first[order].numpy(), second[order].numpy())
    order = order[torch.from_numpy(np.minimum(*ranks) < _JUDGED)]
    order = order[torch.argsort(first[order], stable=True)]
    return first[order], second[order], maps[order], alike[order]


def _ranks(
    one: npt.NDArray[np.int64], two: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For pairs in order: its rank among the pairs of its first and of its second image."""
    ends = np.stack([one, two], 1).reshape(-1)
    order = np.argsort(ends, kind="stable")
    sorted_ends = ends[order]
    starts = np.searchsorted(sorted_ends, sorted_ends)
    rank = np.empty(len(ends), np.int64)
    rank[order] = np.arange(len(ends)) - starts
    return rank[0::2], rank[1::2]
