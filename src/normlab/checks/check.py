"""The whole check of a source, and the cheap part that every study makes."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..data.cache import Progress
from ..pages.findings import Finding, worst
from .copies import near
from .copies.exact import ExactCopies, exact_copies, shared_between
from .copies.groups import Copies, copies, near_finding
from .health.health import Health, health, quick_health
from .image_set import ImageSet
from .shortcuts.shortcuts import Shortcuts, filled_corners, shortcuts

FORMAT = "normlab data check 1"
METHOD = f"1.{near.METHOD}"
"""Raised when the checks find other things."""


@dataclass(frozen=True, eq=False)
class DataCheck:
    """What the check of a source found.

    Attributes:
        subject: the images.
        copies: exact and near duplicates, and the groups they form.
        shortcuts: what tells the class besides the object.
        health: counts, sizes, unreadable files, names, the size of the test split.
        seconds: what each part took.
    """

    subject: ImageSet
    copies: Copies
    shortcuts: Shortcuts
    health: Health
    seconds: dict[str, float]

    @property
    def exact(self) -> ExactCopies:
        """Exact duplicates alone."""
        return self.copies.exact

    def findings(self) -> list[Finding]:
        """Every finding, in the order of the checks."""
        return [
            *self.exact.findings(),
            *self.copies.findings(),
            *self.shortcuts.findings(),
            *self.health.findings(),
        ]

    def describe(self) -> dict[str, Any]:
        """data.json."""
        findings = self.findings()
        data = self.subject.data.describe()
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
            "exact": self.exact.describe(),
            "near": self.copies.describe(),
            "shortcuts": self.shortcuts.describe(),
            "health": self.health.describe(),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "versions": versions(),
        }  # fmt: skip


def versions() -> dict[str, str]:
    """Of what decides the findings."""
    import torch

    return {
        "normlab": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def check(subject: ImageSet, *, progress: Progress | None = None) -> DataCheck:
    """Make every check. 45,000 images of 64 x 64 pixels take minutes on two cores.

    Args:
        subject: the images.
        progress: called with a stage, and how many of how many are done.
    """
    seconds = {}
    began = time.perf_counter()

    def took(what: str) -> None:
        nonlocal began
        now = time.perf_counter()
        seconds[what], began = now - began, now

    exact = exact_copies(subject)
    took("exact duplicates")
    found = near.near_copies(subject, progress=progress)
    grouped = copies(subject, exact, found)
    took("near duplicates")
    cues = shortcuts(subject, progress=progress)
    took("shortcuts")
    healthy = health(subject, progress=progress)
    took("health")
    return DataCheck(subject, grouped, cues, healthy, seconds)


def quick_check(subject: ImageSet, group: npt.NDArray[np.int64] | None = None) -> list[Finding]:
    """What can be said in seconds: exact duplicates, filled corners, counts and names.

    Args:
        subject: the images.
        group: their groups, where the source was searched for near duplicates before
            (:func:`.copies.known_groups`).
    """
    exact = exact_copies(subject)
    findings = exact.findings()
    if group is not None:
        findings += [
            near_finding(shared, plain)
            for shared, plain in zip(shared_between(subject, group), exact.shared, strict=True)
        ]
    return [*findings, *filled_corners(subject).findings(), *quick_health(subject).findings()]
