"""The two checks for copies: exact duplicates, and near duplicates with the groups they form."""

from __future__ import annotations

from typing import Any

from ..image_set import ImageSet
from ..protocol import Check, PagePart, Progress, Results
from .exact import ExactCopies, exact_copies, shared_between
from .groups import Copies, KnownCopies, find_copies, known_groups
from .near import METHOD


class _Exact(Check[ExactCopies]):
    """Files with equal bytes, and images with equal pixels."""

    name = "exact-duplicates"
    key = "exact"
    version = "2"

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> ExactCopies:
        return self.glance(image_set)

    def glance(self, image_set: ImageSet) -> ExactCopies:
        return image_set.once(self.name, lambda: exact_copies(image_set))

    def page_part(self, image_set: ImageSet, results: Results) -> PagePart:
        from .page import exact_part

        return exact_part()


EXACT = _Exact()


class _Near(Check[Copies]):
    """Images made from one photograph, and the groups of all copies."""

    name = "near-duplicates"
    key = "near"
    version = f"2.{METHOD}"
    needs: tuple[Check[Any], ...] = (EXACT,)

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> Copies:
        return find_copies(image_set, earlier.of(EXACT), progress=progress)

    def glance(self, image_set: ImageSet) -> KnownCopies | None:
        group = known_groups(image_set)
        if group is None:
            return None
        return KnownCopies(shared_between(image_set, group), EXACT.glance(image_set).shared)

    def remembers(self, image_set: ImageSet) -> bool:
        return known_groups(image_set) is not None

    def page_part(self, image_set: ImageSet, results: Results) -> PagePart:
        from .page import near_part

        return near_part(results.of(self))


NEAR = _Near()
