"""Running the checks: all of them in full, or what each can say within seconds."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import __version__
from ..data.cache import Progress
from ..keyed import key
from ..pages.findings import Finding, worst
from .image_set import ImageSet
from .protocol import Check, PagePart, R, Results
from .registry import CHECKS

FORMAT = "normlab data check 1"


@dataclass(frozen=True, eq=False)
class DataCheck:
    """What the checks of an image set found.

    Attributes:
        image_set: the images.
        results: what each check found.
        seconds: how long each check took, by its name.
    """

    image_set: ImageSet
    results: Results
    seconds: dict[str, float]

    def of(self, check: Check[R]) -> R:
        """What this check found."""
        return self.results.of(check)

    def findings(self) -> list[Finding]:
        """Every finding, in the order of the checks."""
        return [finding for check in CHECKS for finding in self.of(check).findings()]

    @cached_property
    def parts(self) -> tuple[PagePart, ...]:
        """Every check's part of the page, in their order."""
        parts = (
            check.page_part(self.image_set, self.results.only(check, *check.needs))
            for check in CHECKS
        )
        return tuple(part for part in parts if part is not None)

    def describe(self) -> dict[str, Any]:
        """data.json."""
        findings = self.findings()
        data = self.image_set.data.describe()
        return {
            "format": FORMAT,
            "verdict": str(worst(findings)),
            "findings": [finding.describe() for finding in findings],
            **{
                name: data[name]
                for name in (
                    "source", "kind", "name", "fingerprint", "classes", "counts", "images",
                    "image_size", "channels", "resize_rule", "split_policy", "split_seed", "config",
                )
            },
            **{check.key: self.of(check).describe() for check in CHECKS},
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "versions": versions(),
        }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of the programs that decide the findings."""
    import torch

    return {
        "normlab": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def full_check(image_set: ImageSet, *, progress: Progress | None = None) -> DataCheck:
    """Run every check in full. 45,000 images of 64 x 64 pixels take minutes on two cores.

    Args:
        image_set: the images.
        progress: called with a stage, and how many of how many are done.
    """
    results = Results()
    seconds = {}
    for check in CHECKS:
        began = time.perf_counter()
        results.add(check, check.run(image_set, results.only(*check.needs), progress))
        seconds[spoken(check)] = time.perf_counter() - began
    return DataCheck(image_set, results, seconds)


def quick_check(image_set: ImageSet) -> list[Finding]:
    """What the checks can say within seconds."""
    glances = (check.glance(image_set) for check in CHECKS)
    return [finding for glance in glances if glance for finding in glance.findings()]


def quick_name(image_set: ImageSet) -> str:
    """Names what :func:`quick_check` says of this image set, for a cache.

    It changes with the images, with what any check finds or how it says it, and once an earlier
    full check lets a check say more.
    """
    states = [f"{check.version}{'+' * check.remembers(image_set)}" for check in CHECKS]
    pattern = image_set.data.config.group_by
    groups = [] if pattern is None else [f"{key(pattern):016x}"]
    return "-".join([image_set.data.fingerprint, *states, *groups])


def spoken(check: Check[Any]) -> str:
    """A check's name as people read it."""
    return check.name.replace("-", " ")
