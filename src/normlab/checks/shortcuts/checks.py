"""The check for shortcuts: what gives a class away without the object."""

from __future__ import annotations

from ..image_set import ImageSet
from ..protocol import Check, PagePart, Progress, Results
from .corners import FilledCorners, filled_corners
from .shortcuts import Shortcuts, shortcuts


class _Shortcuts(Check[Shortcuts]):
    """Filled corners, padding and marks by class, and how much of it each cue gives away."""

    name = "shortcuts"
    key = "shortcuts"
    version = "4"
    thorough = ("most shortcuts",)

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> Shortcuts:
        return shortcuts(image_set, progress=progress)

    def glance(self, image_set: ImageSet) -> FilledCorners:
        return filled_corners(image_set)

    def page_part(self, image_set: ImageSet, results: Results) -> PagePart:
        from .page import shortcuts_part

        return shortcuts_part(image_set, results.of(self))


SHORTCUTS = _Shortcuts()
