"""Near duplicates: images made from one photograph, however they were turned, cropped or saved.

Candidates are each image's nearest neighbours by descriptors that a copy shares (`descriptors`).
Each is laid on the image as well as an affine map allows (`alignment`), and the two are compared
detail by detail. How well two different images can be made to agree depends on the images: two
pairs of trousers agree better than two birds. So pairs drawn at random within each class are
aligned in the same way, and a pair counts as a copy if its evidence is far above theirs.
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

from ...data.array_file import ArrayFile
from ...data.cache import Progress
from ...data.cache_files import keep_arrays, kept_arrays, one_at_a_time
from ...destinations import explained_disk_errors
from ...keyed import rng
from ...places import cache_folder
from ..image_set import ImageSet
from . import alignment, descriptors, thumbnails
from .alignment import Agreement
from .thumbnails import BROAD, COARSE, FINE, chunks

METHOD = 4
"""Raised when the search finds different pairs."""

SURE = 0.95
"""Pairs of at least this probability are sure; the others are likely."""

NEIGHBOURS = 20
"""Candidates per image."""

_ROUGH = 0.55
_ALIKE = 0.6
_KEPT = 6
_CORRELATION = 0.8
_EVIDENCE = 7.0
_ABOVE = 6.0
_SHARED = 0.25
_DRAWN, _DRAWN_ALL = 120, 4000
_FEW = 20

_COARSE_BAND = (0.6, 5.0)
_FINE_BAND = (0.7, 3.0)
_TILE = 9
_MOST_TILES = 7

_CHUNK = 500
_STEEP = 10.0


@dataclass(frozen=True, eq=False)
class NearCopies:
    """Pairs of images that are copies of one photograph, surest first.

    Pairs are between different pixels; files whose pixels are equal are represented by the first.

    Attributes:
        pairs: (k, 2) rows of the image set.
        evidence: see :class:`.alignment.Agreement`; ``needed`` is the threshold for that pair.
        needed: likewise.
        correlation: of the aligned details.
        maps: (k, 2, 3), where a point of the second image is in the first, coordinates -1 to 1.
        thresholds: by class, the evidence that two images of it need.
        compared: pairs that were aligned and judged.
    """

    pairs: npt.NDArray[np.int64]
    evidence: npt.NDArray[np.float32]
    needed: npt.NDArray[np.float32]
    correlation: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]
    thresholds: npt.NDArray[np.float32]
    compared: int

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def sure(self) -> npt.NDArray[np.bool_]:
        """Which pairs are so likely copies that they may form groups."""
        return self.probability >= SURE

    @property
    def probability(self) -> npt.NDArray[np.float32]:
        """That a pair is a copy: logistic in evidence over what is needed, 0.5 at the threshold."""
        return np.asarray(1 / (1 + np.exp(-_STEEP * (self.evidence / self.needed - 1))), np.float32)


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

    known = _kept(name)
    if known is not None:
        return known
    with one_at_a_time("copies", name, waiting):
        known = _kept(name)
        if known is not None:
            return known
        with _all_threads(), torch.inference_mode(), _scratch() as scratch:
            found = _Search(image_set, rows, tell, scratch).run()
        keep_arrays("copies", name, found.__dict__)
    return found


def _kept(name: str) -> NearCopies | None:
    kept = kept_arrays("copies", name)
    with suppress(KeyError, TypeError):
        if kept is not None:
            return NearCopies(**{**kept, "compared": int(kept["compared"])})  # type: ignore[arg-type]
    return None


def distinct(image_set: ImageSet) -> npt.NDArray[np.int64]:
    """The first row of each different image."""
    return np.sort(np.unique(image_set.digests, return_index=True)[1]).astype(np.int64)


def _name(image_set: ImageSet, rows: npt.NDArray[np.int64]) -> str:
    size, channels = image_set.data.image_size, image_set.data.channels
    hashed = hashlib.blake2b(
        json.dumps([METHOD, size, channels, torch.__version__]).encode(), digest_size=16
    )
    for part in (rows, image_set.digests[rows], image_set.labels[rows]):
        hashed.update(np.ascontiguousarray(part).tobytes())
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


class _Search:
    """One search; rows here are places among the distinct images."""

    def __init__(
        self, image_set: ImageSet, rows: npt.NDArray[np.int64], tell: Progress, scratch: Path
    ) -> None:
        self.image_set, self.rows, self.tell = image_set, rows, tell
        self.count = count = len(rows)
        self.tiles = min(max(image_set.data.image_size // _TILE, 2), _MOST_TILES)
        self.boxes = np.concatenate(
            [
                thumbnails.content_boxes(image_set.images(rows[part]))
                for part in chunks(count, _CHUNK)
            ]
        )
        channels = image_set.data.channels
        self.broad = torch.empty(count, channels, BROAD, BROAD, dtype=torch.float16)
        self.details = torch.empty(count, 1, COARSE, COARSE, dtype=torch.float16)
        # On the disk, so that memory stays flat while the set grows.
        self.finely = ArrayFile.create(scratch / "details.npy", (count, 1, FINE, FINE), np.float16)

    def run(self) -> NearCopies:
        first, second, maps = self._candidates()
        agreed, maps = self._judged(first, second, maps, "Comparing pairs")
        thresholds = self._thresholds()
        labels = torch.from_numpy(self.image_set.labels[self.rows])
        needed = torch.maximum(thresholds[labels[first]], thresholds[labels[second]])
        same = (
            (agreed.evidence >= needed)
            & (agreed.correlation >= _CORRELATION)
            & (agreed.shared >= _SHARED)
        )
        picked = torch.nonzero(same)[:, 0]
        picked = picked[torch.argsort(agreed.evidence[picked] / needed[picked], descending=True)]
        pairs = torch.stack([first[picked], second[picked]], 1).numpy()
        return NearCopies(
            pairs=self.rows[pairs],
            evidence=agreed.evidence[picked].numpy(),
            needed=needed[picked].numpy(),
            correlation=agreed.correlation[picked].numpy(),
            maps=maps[picked].numpy(),
            thresholds=thresholds.numpy(),
            compared=len(first),
        )

    def _pixels(self, places: npt.NDArray[np.int64], size: int) -> Tensor:
        return thumbnails.squares(
            self.image_set.images(self.rows[places]), self.boxes[places], size
        )

    def _colours(self, places: npt.NDArray[np.int64]) -> Tensor:
        return thumbnails.opponent(self._pixels(places, COARSE))

    def _candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs worth a close look, and their rough maps, ordered by the first image."""
        count = self.count
        described = descriptors.describe_all(
            self._colours, count, lambda done: self.tell("Describing images", done, count)
        )
        others = descriptors.neighbours(
            described, NEIGHBOURS, lambda done: self.tell("Finding neighbours", done, count)
        )
        k = others.shape[1]
        if k == 0:
            empty = torch.empty(0, dtype=torch.int64)
            return empty, empty, torch.empty(0, 2, 3)
        centres = self._centres()
        first, second, alike, maps = [], [], [], []
        for part in chunks(count, 128):
            places = np.arange(part.start, part.stop)
            found, lie = alignment.rough(self._colours(places), centres[others[part]])
            here = torch.arange(part.start, part.stop)[:, None].expand_as(found)
            keep = found >= _ROUGH
            one, two = here[keep], others[part][keep]
            refined, agrees = self._aligned(one, two, lie[keep])
            good = agrees >= _ALIKE
            first.append(one[good])
            second.append(two[good])
            alike.append(agrees[good])
            maps.append(refined[good])
            self.tell("Aligning images", part.stop, count)
        return _best(torch.cat(first), torch.cat(second), torch.cat(alike), torch.cat(maps), count)

    def _aligned(self, first: Tensor, second: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Rough maps refined at the coarse size, and how well the pairs then agree."""
        one, two = self.details[first].float(), self.details[second].float()
        return alignment.refine(one, two, maps, points=18, reach=0.8, steps=5)

    def _centres(self) -> Tensor:
        """Spectra of the middles; the details at both sizes are kept on the way."""
        found = []
        for part in chunks(self.count, _CHUNK):
            places = np.arange(part.start, part.stop)
            pixels = self._pixels(places, COARSE)
            found.append(alignment.centre_spectra(thumbnails.opponent(pixels)))
            self.details[part] = thumbnails.band(thumbnails.luma(pixels), *_COARSE_BAND).half()
            self.broad[part] = thumbnails.broad(pixels).half()
            pixels = thumbnails.luma(self._pixels(places, FINE))
            self.finely.write(places, thumbnails.band(pixels, *_FINE_BAND).half().numpy())
            self.tell("Extracting details", part.stop, self.count)
        return torch.cat(found)

    def _judged(
        self, first: Tensor, second: Tensor, maps: Tensor, stage: str
    ) -> tuple[Agreement, Tensor]:
        """Agreement of pairs after the last refinement, and their maps."""
        agreed, refined = [], []
        for part in chunks(len(first), 256):
            one, two = first[part], second[part]
            a, b = self._details(one), self._details(two)
            moved, _ = alignment.refine(a, b, maps[part], points=26, reach=0.95, steps=4)
            colours = self.broad[one].float(), self.broad[two].float()
            agreed.append(alignment.agreement((a, b), colours, moved, self.tiles))
            refined.append(moved)
            self.tell(stage, part.stop, len(first))
        if not agreed:
            empty = torch.empty(0)
            return Agreement(empty, empty, empty), maps
        return Agreement.joined(agreed), torch.cat(refined)

    def _details(self, places: Tensor) -> Tensor:
        return torch.from_numpy(self.finely.read(places.numpy())).float()

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """Pairs of different images drawn within each class, up to 120 per class."""
        labels = self.image_set.labels[self.rows]
        classes = len(self.image_set.classes)
        each = min(_DRAWN, max(_FEW, _DRAWN_ALL // classes))
        first, second = [], []
        for label in range(classes):
            members = np.flatnonzero(labels == label)
            if len(members) < 2:
                continue
            draw = rng(0, "unrelated", label, len(members))
            one = draw.integers(len(members), size=each)
            two = (one + draw.integers(1, len(members), size=each)) % len(members)
            first.append(members[one])
            second.append(members[two])
        if not first:
            return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        return torch.from_numpy(np.concatenate(first)), torch.from_numpy(np.concatenate(second))

    def _thresholds(self) -> Tensor:
        """By class, from pairs drawn at random: median and six robust standard deviations."""
        first, second = self._drawn()
        classes = len(self.image_set.classes)
        floor = torch.full((classes,), _EVIDENCE)
        if not len(first):
            return floor
        maps = []
        for part in chunks(len(first), 256):
            centres = alignment.centre_spectra(self._colours(second[part].numpy()))
            _, lie = alignment.rough(self._colours(first[part].numpy()), centres[:, None])
            maps.append(self._aligned(first[part], second[part], lie[:, 0])[0])
        agreed, _ = self._judged(first, second, torch.cat(maps), "Comparing unrelated pairs")
        labels = torch.from_numpy(self.image_set.labels[self.rows])[first]
        whole = _far_above(agreed.evidence)
        found = [
            _far_above(agreed.evidence[labels == label])
            if int((labels == label).sum()) >= _FEW
            else whole
            for label in range(classes)
        ]
        return torch.maximum(floor, torch.stack(found))


def _far_above(evidence: Tensor) -> Tensor:
    middle = evidence.median()
    spread = 1.4826 * (evidence - middle).abs().median()
    return middle + _ABOVE * spread


def _best(
    first: Tensor, second: Tensor, alike: Tensor, maps: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Each pair once, from its better side; of each image only the most alike."""
    order = torch.argsort(alike, descending=True, stable=True)
    first, second, maps = first[order], second[order], maps[order]
    pair = (torch.minimum(first, second) * count + torch.maximum(first, second)).numpy()
    _, once = np.unique(pair, return_index=True)
    once = np.sort(once)  # still most alike first
    one, two = first.numpy()[once], second.numpy()[once]
    # A pair stays when it is among the most alike of either of its images.
    stay = once[np.minimum(*_ranks(one, two)) < _KEPT]
    stay = stay[np.argsort(first.numpy()[stay], kind="stable")]
    kept = torch.from_numpy(stay)
    return first[kept], second[kept], maps[kept]


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
