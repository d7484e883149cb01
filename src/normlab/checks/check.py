"""Running the checks: all of them in full, or what each can say within seconds."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .. import __version__
from ..data.cache import Progress
from ..keyed import key
from ..pages.findings import Finding, Level, worst
from ..pages.words import counted, listed
from .image_set import ImageSet
from .pace import Pace
from .protocol import Check, Findings, PagePart, R, Result, Results
from .registry import CHECKS

FORMAT = "normlab data check 1"

LISTED = 200
"""Entries of a list in data.json; tables next to it have the others."""


@dataclass(frozen=True, eq=False)
class DataCheck:
    """What the checks of an image set found.

    Attributes:
        image_set: the images.
        results: what each check found; empty after a quick check.
        seconds: how long each check took, by its name.
        glances: after a quick check, what each check said at a glance, by its name.
    """

    image_set: ImageSet
    results: Results
    seconds: dict[str, float]
    glances: dict[str, Findings] = field(default_factory=dict)

    def of(self, check: Check[R]) -> R:
        """What this check found."""
        return self.results.of(check)

    @property
    def quick(self) -> bool:
        """Whether each check only took a glance."""
        return bool(self.glances)

    @cached_property
    def scope(self) -> tuple[str, ...]:
        """What was not looked at, in sentences; empty if everything was."""
        said = []
        image_set = self.image_set
        if image_set.sample is not None:
            said.append(
                f"Only a sample was checked: {len(image_set):,} of "
                f"{counted(image_set.in_source, 'file')}, at most "
                f"{counted(image_set.sample, 'training image')} per class and the same share of "
                "the other splits. All counts are of the sample; nothing is said about the whole "
                "set, and copies of images outside the sample were not looked for."
            )
        if self.quick:
            lacking = listed(
                words
                for check in CHECKS
                if not check.remembers(image_set)
                for words in check.thorough
            )
            said.append(
                f"This was a quick check. It did not look for {lacking}; a check without --quick "
                "does."
            )
        return tuple(said)

    def findings(self) -> list[Finding]:
        """Every finding, in the order of the checks.

        Of a sample, a finding says so, and none says that it invalidates numbers: what holds for
        the whole set is not known.
        """
        found = [
            finding
            for check in CHECKS
            for finding in (
                self.glances[check.name].findings()
                if check.name in self.glances
                else self.of(check).findings()
                if not self.quick
                else ()
            )
        ]
        if self.image_set.sample is None:
            return found
        return [
            replace(
                finding,
                sentence=f"In the sample: {finding.sentence}",
                level=min(finding.level, Level.LOOK, key=lambda level: level.rank),
            )
            for finding in found
        ]

    @cached_property
    def parts(self) -> tuple[PagePart, ...]:
        """Every check's part of the page, in their order."""
        parts = (
            check.glance_part(self.image_set)
            if self.quick
            else check.page_part(self.image_set, self.results.only(check, *check.needs))
            for check in CHECKS
        )
        return tuple(part for part in parts if part is not None)

    def describe(self) -> dict[str, Any]:
        """data.json. Its lists have at most :data:`LISTED` entries, so that it stays small. What
        was cut is named under ``shortened``, with the number of entries.
        """
        findings = self.findings()
        data = self.image_set.data.describe()
        found = (
            {
                check.key: glance.describe()
                for check in CHECKS
                if isinstance(glance := self.glances.get(check.name), Result)
            }
            if self.quick
            else {check.key: self.of(check).describe() for check in CHECKS}
        )
        cut: dict[str, int] = {}
        described = {
            "verdict": str(worst(findings)),
            "scope": {
                "quick": self.quick,
                "sample": self.image_set.sample,
                "images": len(self.image_set),
                "files_in_source": self.image_set.in_source,
                "left_out": list(self.scope),
            },
            "findings": [finding.describe() for finding in findings],
            **{
                name: data[name]
                for name in (
                    "source", "kind", "name", "fingerprint", "classes", "counts", "images",
                    "image_size", "channels", "resize_rule", "split_policy", "split_seed", "config",
                )
            },
            **found,
            "tables": {table.name: table.what for part in self.parts for table in part.tables},
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "versions": versions(),
        }  # fmt: skip
        return {"format": FORMAT, **_cut(described, "", cut), "shortened": cut}


def _cut(content: Any, name: str, cut: dict[str, int]) -> Any:
    """The content with long lists and tables cut; what was cut is noted with its length."""
    if isinstance(content, dict):
        if len(content) > LISTED:
            cut[name] = len(content)
        kept = list(content.items())[:LISTED]
        return {key: _cut(one, f"{name}.{key}".lstrip("."), cut) for key, one in kept}
    if isinstance(content, (list, tuple)):
        if len(content) > LISTED:
            cut[name] = len(content)
        return [_cut(one, f"{name}[]", cut) for one in content[:LISTED]]
    return content


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
        progress: called with a stage, which includes the time that is left, and how many of how
            many are done.
    """
    pace = None
    if progress is not None:
        pace = Pace(len(image_set), progress)
        pace.begin()
    results = Results()
    seconds = {}
    for check in CHECKS:
        began = time.perf_counter()
        results.add(check, check.run(image_set, results.only(*check.needs), pace))
        seconds[spoken(check)] = time.perf_counter() - began
    return DataCheck(image_set, results, seconds)


def glance_check(image_set: ImageSet) -> DataCheck:
    """What the checks can say within seconds, with a page."""
    seconds, glances = {}, {}
    for check in CHECKS:
        began = time.perf_counter()
        found = check.glance(image_set)
        if found is not None:
            glances[check.name] = found
            seconds[spoken(check)] = time.perf_counter() - began
    return DataCheck(image_set, Results(), seconds, glances)


def quick_check(image_set: ImageSet) -> list[Finding]:
    """What the checks can say within seconds."""
    return glance_check(image_set).findings()


def quick_name(image_set: ImageSet) -> str:
    """Names what :func:`quick_check` says of this image set, for a cache.

    It changes with the images, with what any check finds or how it says it, and once an earlier
    full check lets a check say more.
    """
    states = [f"{check.version}{check.remembers(image_set)}" for check in CHECKS]
    pattern = image_set.data.config.group_by
    groups = [] if pattern is None else [f"{key(pattern):016x}"]
    return "-".join([image_set.data.fingerprint, *states, *groups])


def spoken(check: Check[Any]) -> str:
    """A check's name as people read it."""
    return check.name.replace("-", " ")
