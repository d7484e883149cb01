"""Groups of images that come from one photograph, and what the splits share through them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.cache import Progress
from ...data.cache_files import keep_arrays, kept_arrays
from ...data.grouping import joined
from ...pages.findings import Finding, Level
from ...pages.words import counted, percent
from ...splits import SPLIT_WORDS
from ..image_set import ImageSet
from .exact import CLEAN_SPLIT, ExactCopies, Shared, exact_copies, shared_between
from .near import METHOD, NearCopies, near_copies

Rows = npt.NDArray[np.int64]

_LARGE = 100
_SHARE_OF_CLASS = 0.2


@dataclass(frozen=True, eq=False)
class Copies:
    """Exact and near duplicates together.

    Near duplicates with different labels do not join groups, since a rotated 6 is a 9. They are
    listed as conflicts to look at.

    Attributes:
        image_set: the images that were checked.
        exact: the exact duplicates.
        near: the near duplicates, whatever their labels.
        group: (n,) images of one photograph have the same number.
    """

    image_set: ImageSet
    exact: ExactCopies
    near: NearCopies
    group: Rows

    @cached_property
    def conflicts(self) -> npt.NDArray[np.int64]:
        """Places in ``near.pairs`` of pairs with two labels."""
        labels = self.image_set.labels[self.near.pairs]
        return np.flatnonzero(labels[:, 0] != labels[:, 1])

    @cached_property
    def shared(self) -> tuple[Shared, ...]:
        """What validation shares with training, and test with both, copies included."""
        return shared_between(self.image_set, self.group)

    @cached_property
    def sizes(self) -> Rows:
        """Images in each group, by its number."""
        return np.bincount(self.group)

    def largest(self, most: int) -> list[Rows]:
        """Rows of the largest groups that have more than one different image, largest first."""
        digests = self.image_set.digests
        found: list[Rows] = []
        for number in np.argsort(-self.sizes, kind="stable"):
            if self.sizes[number] < 2 or len(found) == most:
                break
            rows = np.flatnonzero(self.group == number)
            if len(np.unique(digests[rows])) > 1:
                found.append(rows)
        return found

    def findings(self) -> list[Finding]:
        """On what the splits share, on labels, on groups."""
        known = KnownCopies(self.shared, self.exact.shared)
        return [*known.findings(), self._conflicts(), self._groups()]

    def _conflicts(self) -> Finding:
        count = len(self.conflicts)
        if not count:
            return Finding(
                "near-conflicts", Level.FINE, "No near duplicates have different labels."
            )
        return Finding(
            "near-conflicts",
            Level.LOOK,
            f"{counted(count, 'pair')} of near duplicates "
            f"{'have' if count != 1 else 'has'} different labels.",
            "Look at the pairs on the page: a label may be wrong, or an object may look like "
            "another class when it is turned.",
        )

    def _groups(self) -> Finding:
        images = int((self.sizes[self.group] > 1).sum())
        photographs, total = len(self.sizes), len(self.image_set)
        largest = int(self.sizes.max(initial=0))
        of_class = np.bincount(self.image_set.labels).max(initial=1)
        chained = largest > max(_LARGE, _SHARE_OF_CLASS * of_class)
        said = (
            f"As far as the search can tell, {total:,} images come from {photographs:,} different "
            f"photographs: {images:,} have a copy, and the largest group has {largest:,}."
            if images
            else f"The search found no copies among {counted(total, 'image')}."
        )
        return Finding(
            "photographs",
            Level.LOOK if chained else Level.FINE,
            said,
            "Look at the largest group on the page: wrong pairs may have linked different "
            "photographs."
            if chained
            else "",
        )

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; images go by their names."""
        image_set, near = self.image_set, self.near
        pairs = [
            {
                "first": str(image_set.names[one]),
                "second": str(image_set.names[two]),
                "same_label": bool(image_set.labels[one] == image_set.labels[two]),
                "confidence": round(float(sure), 4),
                "evidence": round(float(evidence), 3),
                "needed": round(float(needed), 3),
                "correlation": round(float(correlation), 4),
            }
            for (one, two), sure, evidence, needed, correlation in zip(
                near.pairs, near.probability, near.evidence, near.needed, near.correlation,
                strict=True,
            )
        ]  # fmt: skip
        sizes = np.bincount(self.sizes)
        return {
            "pairs": pairs,
            "pairs_compared": near.compared,
            "shared": [shared.describe() for shared in self.shared],
            "photographs": len(self.sizes),
            "groups_by_size": {int(s): int(sizes[s]) for s in np.flatnonzero(sizes)},
            "conflicts": len(self.conflicts),
        }


def near_finding(shared: Shared, exact: Shared) -> Finding:
    """The finding on what one split shares with others through copies of any kind."""
    split = SPLIT_WORDS[shared.split]
    others = " or ".join(SPLIT_WORDS[name] for name in shared.others)
    if not shared.files:
        return Finding(
            "near-duplicates", Level.FINE, f"No {split} image has a near duplicate in {others}."
        )
    if shared.files == exact.files:
        return Finding(
            "near-duplicates",
            Level.FINE,
            f"Apart from exact duplicates, no {split} image has a copy in {others}.",
        )
    exactly = (
        f"; {exact.files:,} of them {'is' if exact.files == 1 else 'are'} exact"
        if exact.files
        else ""
    )
    return Finding(
        "near-duplicates",
        shared.level,
        f"{shared.files:,} of {shared.total:,} {split} images ({percent(shared.share)}) are "
        f"copies of a {others} image: turned, mirrored, cropped or saved again{exactly}.",
        CLEAN_SPLIT,
    )


@dataclass(frozen=True)
class KnownCopies:
    """What the splits share, by the groups of an earlier full check.

    Attributes:
        shared: through copies of any kind; ``exact`` through exact ones alone.
    """

    shared: tuple[Shared, ...]
    exact: tuple[Shared, ...]

    def findings(self) -> list[Finding]:
        """One for each split that may share images with others."""
        return [
            near_finding(shared, exact)
            for shared, exact in zip(self.shared, self.exact, strict=True)
        ]


def find_copies(
    image_set: ImageSet, exact: ExactCopies | None = None, *, progress: Progress | None = None
) -> Copies:
    """Find near duplicates, and group them with the exact ones.

    Args:
        image_set: the images.
        exact: the exact duplicates, if they are known already.
        progress: called with a stage, and how many of how many are done.
    """
    near = near_copies(image_set, progress=progress)
    return grouped(image_set, exact or exact_copies(image_set), near)


def grouped(image_set: ImageSet, exact: ExactCopies, near: NearCopies) -> Copies:
    """Join exact and near duplicates (of one label) into groups, and remember them."""
    labels = image_set.labels[near.pairs]
    links = near.pairs[labels[:, 0] == labels[:, 1]]
    first = np.unique(exact.group, return_index=True)[1]
    group = joined(
        len(image_set), np.stack([first[exact.group], np.arange(len(image_set))], 1), links
    )
    _remember(image_set, group)
    return Copies(image_set, exact, near, group)


def known_groups(image_set: ImageSet) -> Rows | None:
    """Groups from an earlier full check of the same source, or None.

    The image set may be part of the source or split differently: images are known by content.
    """
    kept = kept_arrays(
        "groups",
        _name(image_set),
        "What it said about copies is missing until this is run again: normlab check-data "
        f"{shlex.quote(image_set.data.source)}",
    )
    if kept is None or not {"contents", "group"} <= set(kept):
        return None
    contents, group = kept["contents"], kept["group"]
    at = np.searchsorted(contents, image_set.contents)
    if not ((at < len(contents)).all() and (contents[at] == image_set.contents).all()):
        return None
    return np.asarray(group[at], dtype=np.int64)


def _remember(image_set: ImageSet, group: Rows) -> None:
    contents, first = np.unique(image_set.contents, return_index=True)
    keep_arrays("groups", _name(image_set), {"contents": contents, "group": group[first]})


def _name(image_set: ImageSet) -> str:
    return f"{image_set.listing_hash}-{METHOD}"
