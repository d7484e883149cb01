"""Which images count as one photograph: groups of sure pairs that more than one pair holds."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from ...data.grouping import joined

Rows = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.int64]

_FREE = 3
"""Up to this many members, one sure pair is enough to join two groups."""
_LOOSE_SHARE = 0.1
"""Of a class: more files than this do not hang together by likely pairs."""
_LOOSE_LEAST = 8
"""This many may, however small their class is."""


def photographs(
    count: int,
    sure: Pairs,
    *,
    confirmed: Pairs | None = None,
    rejected: Pairs | None = None,
) -> Rows:
    """Number the photographs that ``count`` images come from.

    Of a hundred sure pairs a few are wrong, and a chain is as weak as its weakest pair: joined one
    after the other, a few wrong pairs would make one photograph of a whole class. So two groups are
    joined by one sure pair only if the result has at most three members. Beyond that there must be
    at least two sure pairs between them, which reach at least two members of each group that has
    three members or more. One exception: a group of three takes a member that is sure with the
    one that both others are sure with, as an original is with its copies. A wrong pair between two
    photographs is rarely repeated by their other copies; a right one is, since each image is
    compared with its nearest neighbours, and copies are each other's.

    What a person confirmed is always joined. Two groups between which a person rejected a pair are
    not, unless confirmed pairs join them.

    The order of the images changes only the numbers, as long as the order of the pairs is the same.

    Args:
        count: images, numbered from 0.
        sure: (k, 2) pairs, surest first.
        confirmed: (k, 2) pairs that are facts.
        rejected: (k, 2) pairs that a person called different.

    Returns:
        (count,): images of one photograph have the same number.

    >>> chain = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])
    >>> photographs(5, chain).tolist()
    [0, 0, 0, 1, 1]
    """
    none = np.empty((0, 2), np.int64)
    facts = none if confirmed is None else confirmed
    first = joined(count, facts)
    groups = _Groups(first, sure, none if rejected is None else rejected)
    groups.join_all()
    return joined(count, groups.links, facts)


class _Groups:
    """Groups of images under sure pairs, joined while one more can be."""

    def __init__(self, start: Rows, sure: Pairs, rejected: Pairs) -> None:
        self.start = start
        self.sure = [(int(a), int(b)) for a, b in sure.tolist()]
        self.of = dict(enumerate(start.tolist()))
        self.members: dict[int, list[int]] = defaultdict(list)
        touched = {image for pair in self.sure for image in pair}
        touched |= set(np.flatnonzero(np.isin(start, start[sorted(touched)])).tolist())
        for image in sorted(touched):
            self.members[self.of[image]].append(image)
        self.apart: dict[int, set[int]] = defaultdict(set)
        for a, b in rejected.tolist():
            self.apart[self.of[a]].add(self.of[b])
            self.apart[self.of[b]].add(self.of[a])
        self.between: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(dict)
        self.within: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for pair in self.sure:
            one, two = self.of[pair[0]], self.of[pair[1]]
            if one == two:
                self.within[one].append(pair)
                continue
            self.between[one].setdefault(two, []).append(pair)
            self.between[two].setdefault(one, []).append(pair)

    @property
    def links(self) -> Pairs:
        """From the members of each group to its first."""
        links = [(image, every[0]) for every in self.members.values() for image in every[1:]]
        return np.array(links, np.int64).reshape(-1, 2)

    def join_all(self) -> None:
        """Surest pairs first, again and again until no pair joins anything."""
        waiting = self.sure
        joins = True
        while joins:
            joins, left = False, []
            for pair in waiting:
                one, two = self.of[pair[0]], self.of[pair[1]]
                if one == two:
                    continue
                if self._held(one, two):
                    self._join(one, two)
                    joins = True
                else:
                    left.append(pair)
            waiting = left

    def _held(self, one: int, two: int) -> bool:
        if two in self.apart[one]:
            return False
        sizes = len(self.members[one]), len(self.members[two])
        pairs = self.between[one][two]
        if sum(sizes) <= _FREE:
            return True
        if sorted(sizes) == [1, 3] and len(pairs) == 1:
            return self._middle(one if sizes[0] == 3 else two) in pairs[0]
        return len(pairs) > 1 and all(
            len({image for pair in pairs for image in pair if self.of[image] == group}) > 1
            for group, size in zip((one, two), sizes, strict=True)
            if size >= _FREE
        )

    def _middle(self, group: int) -> int:
        """Of three members, the one that is sure with both others; -1 if that is no single one."""
        degree: dict[int, int] = defaultdict(int)
        for pair in self.within[group]:
            for image in pair:
                degree[image] += 1
        both = [image for image, found in degree.items() if found == 2]
        return both[0] if len(both) == 1 else -1

    def _join(self, one: int, two: int) -> None:
        if len(self.members[one]) < len(self.members[two]):
            one, two = two, one
        self.within[one] += self.within.pop(two, []) + self.between[one].pop(two)
        self.between[two].pop(one)
        for other, pairs in self.between.pop(two).items():
            self.between[other].pop(two)
            self.between[one].setdefault(other, []).extend(pairs)
            self.between[other][one] = self.between[one][other]
        for other in self.apart.pop(two, set()) - {one, two}:
            self.apart[other].discard(two)
            self.apart[other].add(one)
            self.apart[one].add(other)
        for image in self.members.pop(two):
            self.of[image] = one
            self.members[one].append(image)


def kept_together(files: Rows, sizes: Rows, sure: Pairs, likely: Pairs) -> Rows:
    """Number what a clean split keeps in one split: more than photographs, since that costs little.

    Every sure pair is kept together, however it is chained. A likely one is too, surest first,
    unless more files would then hang together than a tenth of their class has, and more than eight:
    they could no longer be divided.

    Args:
        files: (count,) files of each image.
        sizes: (count,) files of each image's class.
        sure: (k, 2) pairs that may never be separated.
        likely: (k, 2) the other pairs, surest first.

    Returns:
        (count,): images that are kept together have the same number.
    """
    group = joined(len(sizes), sure)
    if not len(likely):
        return group
    weight = np.bincount(group, weights=files.astype(np.float64)).tolist()
    leader = list(range(len(weight)))

    def led(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = leader[at]
        return at

    links = [sure]
    for (a, b), (one, two) in zip(likely.tolist(), group[likely].tolist(), strict=True):
        one, two = led(one), led(two)
        most = max(_LOOSE_SHARE * min(sizes[a], sizes[b]), _LOOSE_LEAST)
        if one != two and weight[one] + weight[two] > most:
            continue
        leader[two] = one
        weight[one] += weight[two] * (one != two)
        links.append(np.array([[a, b]]))
    return joined(len(sizes), np.concatenate(links))
