"""The check of the groups that ``--group-by`` names: patients, sessions, photographers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...pages.findings import Finding, Level
from ...pages.words import counted, listed
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from ..protocol import Check, Progress, Results


@dataclass(frozen=True)
class KnownGroups:
    """How the splits treat the groups of a pattern.

    Attributes:
        pattern: of ``--group-by``; None where nobody gave one.
        groups: how many groups there are.
        separated: group to the splits it is in, for groups that are in several.
    """

    pattern: str | None
    groups: int
    separated: dict[str, tuple[str, ...]]

    def findings(self) -> list[Finding]:
        """One, or none without a pattern."""
        if self.pattern is None:
            return []
        by = f"By the pattern '{self.pattern}'"
        if not self.separated:
            return [
                Finding(
                    "groups",
                    Level.FINE,
                    f"{by}, there are {counted(self.groups, 'group')}, each in one split.",
                )
            ]
        name, splits = next(iter(self.separated.items()))
        one = len(self.separated) == 1
        words = listed(SPLIT_WORDS[split] for split in splits)
        return [
            Finding(
                "groups",
                Level.INVALID,
                f"{by}, {len(self.separated):,} of {counted(self.groups, 'group')} "
                f"{'is' if one else 'are'} in more than one split, such as {name!r} in {words}.",
                "Use a clean split, which keeps groups whole: add --clean-split to compare, or "
                "write one with normlab check-data SOURCE --group-by PATTERN --write-split F.json.",
            )
        ]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "pattern": self.pattern,
            "groups": self.groups,
            "separated": {name: list(splits) for name, splits in self.separated.items()},
        }


def known_groups(image_set: ImageSet) -> KnownGroups:
    """Which groups are in more than one split."""
    names = image_set.group_names
    if not names:
        return KnownGroups(None, 0, {})
    groups, number = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
    inside = np.zeros((len(groups), len(SPLITS)), np.bool_)
    inside[number, image_set.split] = True
    separated = {
        str(groups[row]): tuple(np.array(SPLITS)[inside[row]].tolist())
        for row in np.flatnonzero(inside.sum(1) > 1).tolist()
    }
    return KnownGroups(image_set.data.config.group_by, len(groups), separated)


class _Groups(Check[KnownGroups]):
    """Whether the splits separate what a person knows to belong together."""

    name = "groups"
    key = "groups"
    version = "1"

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> KnownGroups:
        return self.glance(image_set)

    def glance(self, image_set: ImageSet) -> KnownGroups:
        return known_groups(image_set)


GROUPS = _Groups()
