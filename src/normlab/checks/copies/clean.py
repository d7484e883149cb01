"""A clean split: all images of one photograph in one split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...data.grouping import joined, same
from ...data.splitfile import LEFT_OUT, SplitFile
from ...errors import InputError
from ...keyed import key
from ...pages.words import counted, shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from .groups import Copies

Rows = npt.NDArray[np.int64]
TestPolicy = Literal["auto", "keep", "redraw"]

_TEST = SPLITS.index("test")


@dataclass(frozen=True, eq=False)
class CleanSplit:
    """Where each image goes.

    Attributes:
        copies: the groups.
        split: (n,) index into ``SPLITS``; -1 means left out.
        reasons: row to the reason why it was left out.
        policy: what was done with the test split, in words.
        seed: of the draw.
    """

    copies: Copies
    split: npt.NDArray[np.int8]
    reasons: dict[int, str]
    policy: str
    seed: int

    @property
    def moved(self) -> Rows:
        """Rows that are in another split than before, or in none."""
        return np.flatnonzero(self.split != self.copies.image_set.split)

    def sentences(self) -> list[str]:
        """What moved, in words."""
        image_set = self.copies.image_set
        moves = Counter(
            (int(image_set.split[row]), int(self.split[row])) for row in self.moved.tolist()
        )
        before = np.bincount(image_set.split, minlength=len(SPLITS))
        kept = self.split[self.split >= 0]
        after = np.bincount(kept, minlength=len(SPLITS))
        said = [self.policy]
        for (old, new), count in sorted(moves.items()):
            images = counted(count, "image")
            said.append(
                f"{images} left out of {SPLIT_WORDS[SPLITS[old]]}."
                if new == LEFT_OUT
                else f"{images} moved from {SPLIT_WORDS[SPLITS[old]]} to "
                f"{SPLIT_WORDS[SPLITS[new]]}."
            )
        if not moves:
            said.append("Nothing moved.")
        said.append(
            "Images: "
            + ", ".join(
                f"{name} {was:,} → {now:,}"
                for name, was, now in zip(SPLITS, before, after, strict=True)
            )
            + "."
        )
        return said

    def file(self) -> SplitFile:
        """The split file, for ``--split``."""
        image_set = self.copies.image_set
        images: dict[str, dict[int, str]] = {name: {} for name in SPLITS}
        left_out: dict[int, dict[str, str]] = {}
        for row, (content, name, split) in enumerate(
            zip(
                image_set.contents.tolist(),
                image_set.names.tolist(),
                self.split.tolist(),
                strict=True,
            )
        ):
            if split == LEFT_OUT:
                left_out.setdefault(content, {"image": name, "why": self.reasons[row]})
            else:
                images[SPLITS[split]].setdefault(content, name)
        return SplitFile(
            source=image_set.data.name,
            classes=image_set.classes,
            seed=self.seed,
            images=images,
            left_out=left_out,
            notes=tuple(self.sentences()),
            moved=[
                [
                    str(image_set.names[row]),
                    SPLITS[image_set.split[row]],
                    "left out" if self.split[row] == LEFT_OUT else SPLITS[self.split[row]],
                ]
                for row in self.moved.tolist()
            ],
        )

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"seed": self.seed, "notes": self.sentences(), "moved": len(self.moved)}


def clean_split(
    copies: Copies,
    *,
    seed: int = 0,
    test: TestPolicy = "auto",
    drop_conflicts: bool = False,
    also: Sequence[npt.NDArray[np.generic]] = (),
) -> CleanSplit:
    """Assign whole groups to one split, stratified by class.

    A group is all images of one photograph and, where the data has a pattern that names groups,
    all images whose group has the same name.

    A group that is in one split stays there. A group that is in several goes, as a whole, to the
    one of them that lacks most images of its class, so that every class keeps about as many images
    in each split as it had. Ties are broken by ``seed``.

    Args:
        copies: the groups.
        seed: of the draw.
        test: ``"auto"`` leaves the test split as it is if it shares no photograph with the other
            splits, and otherwise moves the groups it shares like any others. ``"keep"`` always
            leaves it as it is, and omits its copies from train and val. ``"redraw"`` draws all
            splits again.
        drop_conflicts: omit exact copies that have two labels.
        also: (n,) values; images with an equal value are in one group too.

    Raises:
        InputError: a class would be missing from a split.
    """
    image_set = copies.image_set
    named = image_set.group_names
    group = joined(
        len(image_set),
        *(same(values) for values in (copies.group, *also, *([np.array(named)] if named else []))),
    )
    one, many = "photograph", "photographs"
    if named:
        one, many = f"{one} or group", f"{many} or groups"
    split = image_set.split.astype(np.int8)
    if set(image_set.drawn) == {"train", "val", "test"} and test == "auto":
        test = "redraw"
    reasons: dict[int, str] = {}
    if drop_conflicts:
        for rows in copies.exact.conflicts:
            split[rows] = LEFT_OUT
            for row in rows.tolist():
                reasons[row] = "has more than one label"
    in_split = np.zeros((group.max(initial=-1) + 1, len(SPLITS)), bool)
    free = split != LEFT_OUT
    in_split[group[free], split[free]] = True
    spread = in_split.sum(1) > 1
    touched = bool((spread & in_split[:, _TEST]).any())
    if test == "keep":
        policy = (
            "The test split is unchanged; other images of its "
            f"{many} were left out of training and validation."
            if named
            else "The test split is unchanged; its copies were left out of training and validation."
        )
        copied = in_split[:, _TEST][group] & (split != _TEST) & (split != LEFT_OUT)
        for row in np.flatnonzero(copied).tolist():
            reasons[row] = f"of the same {one} as a test image" if named else "copy of a test image"
        split[copied] = LEFT_OUT
        spread &= ~in_split[:, _TEST]
    elif test == "redraw":
        policy = f"All splits were drawn again, with all images of a {one} in one split."
        spread[:] = True
        in_split[:] = True
    elif touched:
        policy = (
            f"The test split shared {many} with the other splits. All images of such a "
            f"{one} were moved to one split."
        )
    else:
        policy = f"The test split shared no {one} with the others and is unchanged."
    _assign(image_set, group, split, spread, in_split, seed)
    _check(image_set, split, many)
    return CleanSplit(copies, split, reasons, policy, seed)


def _assign(
    image_set: ImageSet,
    group: Rows,
    split: npt.NDArray[np.int8],
    spread: npt.NDArray[np.bool_],
    allowed: npt.NDArray[np.bool_],
    seed: int,
) -> None:
    """Put groups that are spread where their class lacks most, largest first; in place."""
    classes = len(image_set.classes)
    loose = spread[group] & (split != LEFT_OUT)
    wanted = np.zeros((classes, len(SPLITS)))
    np.add.at(wanted, (image_set.labels, image_set.split), 1)
    have = np.zeros_like(wanted)
    fixed = ~loose & (split != LEFT_OUT)
    np.add.at(have, (image_set.labels[fixed], split[fixed].astype(np.int64)), 1)
    rows = np.flatnonzero(loose)
    rows = rows[np.argsort(group[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(group[rows])) + 1) if len(rows) else []
    # The order must not depend on how groups happen to be numbered.
    ties = [
        key(seed, "clean split", min(image_set.contents[members].tolist())) for members in groups
    ]
    for index in sorted(range(len(groups)), key=lambda at: (-len(groups[at]), ties[at])):
        members = groups[index]
        counts = np.bincount(image_set.labels[members], minlength=classes)
        lacking = (wanted - have)[counts > 0].sum(0) / np.maximum(wanted[counts > 0].sum(0), 1)
        options = allowed[group[members[0]]]
        best = int(np.argmax(np.where(options, lacking, -np.inf)))
        split[members] = best
        have[:, best] += counts


def _check(image_set: ImageSet, split: npt.NDArray[np.int8], many: str) -> None:
    for index, name in enumerate(SPLITS):
        counts = np.bincount(image_set.labels[split == index], minlength=len(image_set.classes))
        empty = shortened(
            image_set.classes[label] for label in np.flatnonzero(counts == 0).tolist()
        )
        if empty:
            raise InputError(
                f"A clean split would leave {empty} without images in {name}, because the images "
                f"come from too few {many}. Add images of other {many}, or omit the class."
            )
