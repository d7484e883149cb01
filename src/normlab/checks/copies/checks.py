"""The two checks for copies: exact duplicates, and near duplicates with the groups they form."""

from __future__ import annotations

from typing import Any

from ..image_set import ImageSet
from ..protocol import Check, PagePart, Progress, Results
from .counts import copied_between
from .decisions import decisions_of
from .exact import ExactCopies, exact_copies
from .groups import Copies, KnownCopies, find_copies, known_links
from .near import METHOD


class _Exact(Check[ExactCopies]):
    """Files with equal bytes, and images with equal pixels."""

    name = "exact-duplicates"
    key = "exact"
    version = "3"

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> ExactCopies:
        return self.glance(image_set)

    def glance(self, image_set: ImageSet) -> ExactCopies:
        return image_set.once(self.name, lambda: exact_copies(image_set))

    def page_part(self, image_set: ImageSet, results: Results) -> PagePart:
        from .page import exact_part

        return exact_part()

    def glance_part(self, image_set: ImageSet) -> PagePart:
        from .page import exact_alone

        return exact_alone(self.glance(image_set))


EXACT = _Exact()


class _Near(Check[Copies]):
    """Images made from one photograph, and the groups of all copies."""

    name = "near-duplicates"
    key = "near"
    version = f"3.{METHOD}"
    needs: tuple[Check[Any], ...] = (EXACT,)
    thorough = ("near copies",)

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> Copies:
        return find_copies(image_set, earlier.of(EXACT), progress=progress)

    def glance(self, image_set: ImageSet) -> KnownCopies | None:
        links = known_links(image_set)
        if links is None:
            return None
        return KnownCopies(copied_between(image_set, links), decisions_of(image_set))

    def remembers(self, image_set: ImageSet) -> str:
        if known_links(image_set) is None:
            return ""
        return f"+{decisions_of(image_set).everything}"

    def page_part(self, image_set: ImageSet, results: Results) -> PagePart:
        from .page import near_part

        return near_part(results.of(self))


NEAR = _Near()
