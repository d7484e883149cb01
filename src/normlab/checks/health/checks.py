"""The check of balance and health."""

from __future__ import annotations

from ..image_set import ImageSet
from ..protocol import Check, PagePart, Progress, Results
from .health import Health, health, quick_health


class _Health(Check[Health]):
    """How many images of what, and what looks like a mistake in handling files."""

    name = "health"
    key = "health"
    version = "3"
    thorough = ("unusual file sizes", "grey images")

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> Health:
        return health(image_set, progress=progress)

    def glance(self, image_set: ImageSet) -> Health:
        return image_set.once("quick health", lambda: quick_health(image_set))

    def glance_part(self, image_set: ImageSet) -> PagePart:
        from .page import health_part

        return health_part(image_set, self.glance(image_set))

    def page_part(self, image_set: ImageSet, results: Results) -> PagePart:
        from .page import health_part

        return health_part(image_set, results.of(self))


HEALTH = _Health()
