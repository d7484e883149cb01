"""Images that belong together: copies of one another, and what a pattern on their paths joins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .config import compiled

Rows = npt.NDArray[np.int64]


def group_names(names: Sequence[str], pattern: str, source: str) -> list[str]:
    """The name of each image's group: what the pattern captures in its path, or the whole match.

    >>> group_names(["a/p1-x.png", "b/p1-y.png", "b/p20-z.png"], r"p(\\d+)-", "photos")
    ['1', '1', '20']

    Args:
        names: paths of the images inside the source.
        pattern: a regular expression, searched in each path. What several brackets capture is
            joined by a slash; brackets that took no part are left out.
        source: for the error.

    Raises:
        InputError: it is not a regular expression, or does not match every path.
    """
    search = compiled(pattern).search
    found: list[str] = []
    unmatched: list[str] = []
    for name in names:
        match = search(name)
        parts = [part for part in match.groups() if part is not None] if match else []
        group = "/".join(parts) if any(parts) else match.group() if match else ""
        found.append(group)
        if not group:
            unmatched.append(name)
    if unmatched:
        every = len(unmatched) == len(names)
        raise InputError(
            f"group_by '{pattern}' matches nothing in {len(unmatched):,} of {len(names):,} images "
            f"of {source}, such as {unmatched[0]}. "
            + (
                "It is searched in the path inside the source, with / between folders."
                if every
                else f"To make each of these a group of its own, give '{_with_rest(pattern)}'."
            )
        )
    return found


def _with_rest(pattern: str) -> str:
    """The pattern, with a path that it does not match as a group of its own."""
    flags, bare = re.match(r"(\(\?[aiLmsux]+\))?(.*)", pattern, re.DOTALL).groups()  # type: ignore[union-attr]
    opening = "(?:" if re.compile(pattern).groups else "("
    return f"{flags or ''}(?s:.*?){opening}{bare})|(?s:.*)"


def joined(count: int, *links: Rows) -> Rows:
    """Numbers of the connected components of ``count`` rows under (k, 2) links, in order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([np.empty((0, 2), np.int64), *links])
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def same(values: npt.NDArray[np.generic]) -> Rows:
    """Links from each row to the first with the same value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.stack([first[inverse], np.arange(len(values))], axis=1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Together:
    """Which images are never separated.

    Attributes:
        number: (n,) images that belong together have the same number.
        digests: (n,) hash of each image's pixels.
        names: (n,) the name of each image's group by the pattern; empty without a pattern.
    """

    number: Rows
    digests: npt.NDArray[np.uint64]
    names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, digests: npt.NDArray[np.uint64], names: Sequence[str] = (), *links: Rows
    ) -> Together:
        """Images with equal pixels, images whose groups have the same name, and linked ones.

        Equal files have equal pixels, so hashes of the pixels the network sees find all that the
        check of the data calls an exact copy.

        Args:
            digests: hash of each image's pixels.
            names: of the groups by a pattern; none without a pattern.
            links: (k, 2) pairs of rows that belong together for another reason.
        """
        known = [same(digests), *links]
        if names:
            known.append(same(np.array(names, dtype=np.str_)))
        return cls(joined(len(digests), *known), digests, tuple(names))

    def copied(self, rows: Rows) -> int:
        """How many of these images have an exact copy among them."""
        _, counts = np.unique(self.digests[rows], return_counts=True)
        return int(counts[counts > 1].sum())

    def told(self, row: int) -> str:
        """A group in words, by one of its images."""
        return f"the group {self.names[row]!r}" if self.names else "copies of one image"
