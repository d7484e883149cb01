"""Exact and near copies together: what the splits share, which labels conflict, which images are
one photograph."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache_files import keep_arrays, kept_arrays
from ...data.cache import Progress
from ...pages.findings import Finding, Level
from ...pages.words import counted, listed, percent
from ...splits import SPLIT_WORDS
from ..image_set import ImageSet
from .counts import Copied, copied_between
from .decisions import Decisions, decisions_of
from .exact import CLEAN_SPLIT, ExactCopies, exact_copies
from .links import Judged, Links, judge, link
from .near import METHOD, NearCopies, near_copies

Rows = npt.NDArray[np.int64]

TABLE = "pairs.csv"
"""The table of all copies, next to the page."""

_LARGE = 100
_SHARE_OF_CLASS = 0.2
_FORMAT = 2
"""Raised when what is remembered has other parts."""


@dataclass(frozen=True, eq=False)
class Copies:
    """Exact and near duplicates together.

    Near duplicates with different labels do not join photographs, since a rotated 6 is a 9. They
    are listed as conflicts to look at.

    Attributes:
        image_set: the images that were checked.
        exact: the exact duplicates.
        near: the near duplicates that the search lists, whatever their labels.
        decisions: what a person decided about pairs.
        judged: ``near`` after these decisions.
        links: all of it as one graph.
    """

    image_set: ImageSet
    exact: ExactCopies
    near: NearCopies
    decisions: Decisions
    judged: Judged
    links: Links

    @property
    def group(self) -> Rows:
        """(n,) images of one photograph have the same number."""
        return self.links.photograph

    @cached_property
    def standing(self) -> npt.NDArray[np.bool_]:
        """Which of ``near.pairs`` were not rejected."""
        return self.judged.decision >= 0

    @cached_property
    def conflicts(self) -> Rows:
        """Places in ``near.pairs`` of pairs without a label in common, rejected ones left out."""
        nodes = np.sort(self.exact.group[self.near.pairs], axis=1)
        apart = self.links.pairs[~self.links.linked]
        unlinked = {tuple(pair) for pair in apart.tolist()}
        return np.array(
            [
                place
                for place, pair in enumerate(map(tuple, nodes.tolist()))
                if pair in unlinked and self.standing[place]
            ],
            np.int64,
        )

    @cached_property
    def shared(self) -> tuple[Copied, ...]:
        """What validation has from training, and test from both."""
        return copied_between(self.image_set, self.links)

    @cached_property
    def sizes(self) -> Rows:
        """Images of each photograph, by its number; 0 for numbers that are not used."""
        return np.bincount(self.group)

    @property
    def photographs(self) -> int:
        """How many there are."""
        return int((self.sizes > 0).sum())

    def largest(self, most: int) -> list[Rows]:
        """Rows of the largest groups that have more than one different image, largest first."""
        node = self.exact.group
        found: list[Rows] = []
        for number in np.argsort(-self.sizes, kind="stable"):
            if self.sizes[number] < 2 or len(found) == most:
                break
            rows = np.flatnonzero(self.group == number)
            if len(np.unique(node[rows])) > 1:
                found.append(rows)
        return found

    def findings(self) -> list[Finding]:
        """On what the splits share, on labels, on photographs, on decisions."""
        known = KnownCopies(self.shared, self.decisions)
        return [*known.findings(), self._conflicts(), self._groups()]

    def _conflicts(self) -> Finding:
        count = len(self.conflicts)
        if not count:
            return Finding(
                "near-conflicts", Level.FINE, "No likely near copies have different labels."
            )
        expected = round(float(self.near.probability[self.conflicts].sum()))
        if expected == count:
            said = (
                f"{counted(count, 'pair')} of images with different labels "
                f"{'are' if count > 1 else 'is'} likely copies of one photograph."
            )
        elif count == 1:
            said = "1 pair of images with different labels may be copies of one photograph."
        else:
            said = (
                f"Of {count:,} pairs of images with different labels that look like copies of one "
                f"photograph, about {expected:,} {'is' if expected == 1 else 'are'}."
            )
        return Finding(
            "near-conflicts",
            Level.LOOK,
            said,
            "Look at the pairs on the page: a label may be wrong, or an object may look like "
            "another class when it is turned.",
        )

    def _groups(self) -> Finding:
        images = int((self.sizes[self.group] > 1).sum())
        total = len(self.image_set)
        largest = int(self.sizes.max(initial=0))
        of_class = np.bincount(self.image_set.labels).max(initial=1)
        chained = largest > max(_LARGE, _SHARE_OF_CLASS * of_class)
        near = self.photographs < len(np.unique(self.exact.group))
        about = "about " if near else ""
        said = (
            f"By exact copies and sure pairs, {total:,} images come from {about}"
            f"{self.photographs:,} different photographs: {images:,} have a copy, and the largest "
            f"group has {largest:,}."
            if images
            else f"No image of {total:,} has an exact or a sure near copy."
        )
        return Finding(
            "photographs",
            Level.LOOK if chained else Level.FINE,
            said,
            "Look at the largest group on the page: wrong pairs may have linked different "
            "photographs. Pairs that you reject there divide it (--decisions)."
            if chained
            else "",
        )

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; the pairs themselves are in the table."""
        sizes = np.bincount(self.sizes)
        links = self.links
        return {
            "table": TABLE,
            "pairs": len(self.near),
            "sure": int(self.near.sure.sum()),
            "expected": round(float(links.probability.sum()), 2),
            "confirmed_by_hand": int(links.confirmed.sum()),
            "rejected_by_hand": len(self.judged.rejected),
            "decisions": self.decisions.describe(),
            "shared": [shared.describe() for shared in self.shared],
            "photographs": self.photographs,
            "groups_by_size": {int(s): int(sizes[s]) for s in np.flatnonzero(sizes) if s},
            "conflicts": len(self.conflicts),
        }


def copied_finding(copied: Copied) -> Finding:
    """What one split has from others, in words that say no more than is known."""
    check, split = "near-duplicates", SPLIT_WORDS[copied.split]
    others = " or ".join(SPLIT_WORDS[name] for name in copied.others)
    if not copied.confirmed and not copied.likely:
        said = (
            f"Apart from exact duplicates, no {split} image has a likely copy in {others}."
            if copied.exact
            else f"No {split} image has a likely copy in {others}."
        )
        return Finding(check, Level.FINE, said)
    facts = [
        f"{count:,} {'is' if count == 1 else 'are'} {how}"
        for count, how in ((copied.exact, "exact"), (copied.confirmed, "confirmed by hand"))
        if count
    ]
    if not copied.likely:
        return Finding(
            check,
            copied.level,
            f"{copied.number:,} of {counted(copied.total, f'{split} image')} "
            f"({percent(copied.share)}) {'is a copy' if copied.number == 1 else 'are copies'} of a "
            f"{others} image: {listed(facts)}.",
            CLEAN_SPLIT,
        )
    if copied.upper == 1:
        begin = f"1 of {counted(copied.total, f'{split} image')} is likely a copy"
        if copied.expected < 0.5:
            begin = f"1 of {counted(copied.total, f'{split} image')} may be a copy"
    else:
        are = "is likely a copy" if copied.number == 1 else "are likely copies"
        begin = (
            f"About {copied.number:,} of {counted(copied.total, f'{split} image')} "
            f"({_range(copied)}) {are}"
        )
    more = f"; {listed(facts)}" if facts else ""
    return Finding(
        check,
        copied.level,
        f"{begin} of a {others} image: turned, mirrored, cropped or saved again{more}.",
        "Look at the pairs on the page, in order of doubt; what you confirm or reject there counts "
        f"with --decisions. {CLEAN_SPLIT}",
    )


def _range(copied: Copied) -> str:
    share = f"{percent(copied.share)}, " if copied.number else ""
    return f"{share}{copied.lower:,} to {copied.upper:,}"


@dataclass(frozen=True)
class KnownCopies:
    """What the splits share, by this or an earlier full check.

    Attributes:
        shared: for each split that may share images with others.
        decisions: what a person decided about pairs.
    """

    shared: tuple[Copied, ...]
    decisions: Decisions

    def findings(self) -> list[Finding]:
        """One for each split, and one on decisions if there are any."""
        return [*map(copied_finding, self.shared), *self.decisions.findings()]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "shared": [shared.describe() for shared in self.shared],
            "decisions": self.decisions.describe(),
        }


def find_copies(
    image_set: ImageSet, exact: ExactCopies | None = None, *, progress: Progress | None = None
) -> Copies:
    """Find near duplicates, and join them with the exact ones and with a person's decisions.

    Args:
        image_set: the images.
        exact: the exact duplicates, if they are known already.
        progress: called with a stage, and how many of how many are done.
    """
    near = near_copies(image_set, progress=progress)
    return grouped(image_set, exact or exact_copies(image_set), near)


def grouped(image_set: ImageSet, exact: ExactCopies, near: NearCopies) -> Copies:
    """Join exact and near duplicates, and remember the result unless it is of a sample."""
    decisions = decisions_of(image_set)
    judged = judge(image_set, exact.group, near, decisions)
    links = link(image_set, exact, near, judged)
    if image_set.sample is None:
        _remember(image_set, links, decisions)
    return Copies(image_set, exact, near, decisions, judged, links)


def known_links(image_set: ImageSet) -> Links | None:
    """The graph by an earlier full check of the same source, or None.

    The image set may be part of the source, split differently or of another size: images are known
    by content. If the source was checked at several sizes, the largest counts, since small images
    hide copies and make different images look alike.
    """
    kept = _kept(image_set)
    if kept is None or _decisions_in(kept) != decisions_of(image_set).everything:
        return None
    known = kept["contents"]
    at = np.searchsorted(known, image_set.contents)
    if not ((at < len(known)).all() and (known[at] == image_set.contents).all()):
        return None
    parts = {name: kept[name] for name in _PARTS}
    return Links(**parts).at(at)


_PARTS = ("node", "photograph", "together", "pairs", "probability", "confirmed", "linked")


def _kept(image_set: ImageSet) -> dict[str, npt.NDArray[Any]] | None:
    kept = kept_arrays(
        "groups",
        _name(image_set),
        "What it said about copies is missing until this is run again: normlab check-data "
        f"{shlex.quote(image_set.data.source)}",
    )
    if kept is None or not {"contents", "size", "decisions", *_PARTS} <= set(kept):
        return None
    return kept


def _decisions_in(kept: dict[str, npt.NDArray[Any]]) -> str:
    return str(kept["decisions"].reshape(-1)[0])


def _remember(image_set: ImageSet, links: Links, decisions: Decisions) -> None:
    before = _kept(image_set)
    size = image_set.data.image_size
    contents, first = np.unique(image_set.contents, return_index=True)
    if (
        before is not None
        and _decisions_in(before) == decisions.everything
        and (len(before["contents"]), int(before["size"])) > (len(contents), size)
    ):
        return
    parts = links.at(first)
    keep_arrays(
        "groups",
        _name(image_set),
        {
            "contents": contents,
            "size": np.array(size),
            "decisions": np.array([decisions.everything], np.str_),
            **{name: getattr(parts, name) for name in _PARTS},
        },
    )


def _name(image_set: ImageSet) -> str:
    return f"{image_set.listing_hash}-{METHOD}-{_FORMAT}"
