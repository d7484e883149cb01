"""A clean split: all images of one photograph in one split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...data.grouping import joined, same
from ...data.splitfile import LEFT_OUT, SplitFile
from ...errors import InputError
from ...keyed import key
from ...pages.words import counted, listed, shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from .groups import Copies

Rows = npt.NDArray[np.int64]
TestPolicy = Literal["auto", "keep", "redraw"]

_TEST = SPLITS.index("test")


@dataclass(frozen=True)
class Spread:
    """Groups that were in several splits.

    Attributes:
        groups: how many there were.
        images: how many they have.
        moved: images that are in another split now; ``left_out`` that are in none.
        least: images that are not in the split in which most of their group were: in any clean
            split at least so many are moved or left out.
    """

    groups: int
    images: int
    moved: int
    left_out: int
    least: int


@dataclass(frozen=True, eq=False)
class CleanSplit:
    """Where each image goes.

    Attributes:
        copies: the groups.
        split: (n,) index into ``SPLITS``; -1 means left out.
        reasons: row to the reason why it was left out.
        policy: what was done with the test split, in words.
        seed: of the draw.
        spread: what happened to groups that were in several splits; None where there were none.
        one: a group in words; ``many`` several.
        expected: where all splits were drawn again, how many images a draw that ignores copies
            would have put into another split; None otherwise.
    """

    copies: Copies
    split: npt.NDArray[np.int8]
    reasons: dict[int, str]
    policy: str
    seed: int
    spread: Spread | None = None
    expected: int | None = None
    one: str = "group of copies"
    many: str = "groups of copies"

    @property
    def moved(self) -> Rows:
        """Rows that are in another split than before, or in none."""
        return np.flatnonzero(self.split != self.copies.image_set.split)

    def sentences(self) -> list[str]:
        """What moved, in words, beside what had to move."""
        image_set = self.copies.image_set
        moves = Counter(
            (int(image_set.split[row]), int(self.split[row])) for row in self.moved.tolist()
        )
        before = np.bincount(image_set.split, minlength=len(SPLITS))
        kept = self.split[self.split >= 0]
        after = np.bincount(kept, minlength=len(SPLITS))
        said = [self.policy, *self._compared()]
        if not self.redrawn:
            for (old, new), count in sorted(moves.items()):
                images = counted(count, "image")
                said.append(
                    f"{images} left out of {SPLIT_WORDS[SPLITS[old]]}."
                    if new == LEFT_OUT
                    else f"{images} moved from {SPLIT_WORDS[SPLITS[old]]} to "
                    f"{SPLIT_WORDS[SPLITS[new]]}."
                )
        said.append(
            "Images: "
            + ", ".join(
                f"{name} {was:,} → {now:,}"
                for name, was, now in zip(SPLITS, before, after, strict=True)
            )
            + "."
        )
        return said

    @property
    def redrawn(self) -> bool:
        """Whether all splits were drawn again, so that most images moved by chance."""
        return self.expected is not None

    def _compared(self) -> list[str]:
        moved, total = len(self.moved), len(self.split)
        if self.expected is not None:
            about = f"about {self.expected:,}"
            if set(self.copies.image_set.drawn) == set(SPLITS):
                return [
                    f"{moved:,} of {counted(total, 'image')} are in another split than in a draw "
                    f"that only keeps exact copies together; with another seed alone it would be "
                    f"{about}."
                ]
            return [
                f"{moved:,} of {counted(total, 'image')} are in another split than before; in a "
                f"draw that ignores copies it would be {about}."
            ]
        if not moved:
            return ["Nothing moved."]
        if self.spread is None:
            return []
        groups, images, least = self.spread.groups, self.spread.images, self.spread.least
        done = [
            f"{count:,} of them {'was' if count == 1 else 'were'} {how}"
            for count, how in ((self.spread.moved, "moved"), (self.spread.left_out, "left out"))
            if count
        ]
        return [
            f"{counted(images, 'image')} in {counted(groups, self.one, self.many)} were in more "
            f"than one split; {listed(done)}, where at least {least:,} had to be."
        ]

    def file(self, beyond: Mapping[int, Mapping[str, str]] | None = None) -> SplitFile:
        """The split file, for ``--split``.

        Args:
            beyond: what an earlier split file had left out, so that it is not among the images.
        """
        image_set = self.copies.image_set
        images: dict[str, dict[int, str]] = {name: {} for name in SPLITS}
        files = list(
            zip(
                image_set.contents.tolist(),
                image_set.names.tolist(),
                self.split.tolist(),
                strict=True,
            )
        )
        for content, name, split in files:
            if split != LEFT_OUT:
                images[SPLITS[split]].setdefault(content, name)
        assigned = {content for found in images.values() for content in found}
        left_out = {
            content: dict(why) for content, why in (beyond or {}).items() if content not in assigned
        }
        repeats: dict[str, str] = {}
        for row, (content, name, split) in enumerate(files):
            if split == LEFT_OUT and content in assigned:
                # Content alone cannot tell it from the file that stays.
                repeats[name] = self.reasons[row]
            elif split == LEFT_OUT:
                left_out.setdefault(content, {"image": name, "why": self.reasons[row]})
        return SplitFile(
            source=image_set.data.name,
            classes=image_set.classes,
            seed=self.seed,
            images=images,
            left_out=left_out,
            repeats=repeats,
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

    A group is all exact copies of an image, all that sure pairs link to them, and likely pairs
    where that leaves the class divisible (:func:`.photographs.kept_together`); where the data has
    a pattern that names groups, also all images whose group has the same name.

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
    group = _groups(copies, also)
    one, many = "photograph", "photographs"
    if named:
        one, many = f"{one} or group", f"{many} or groups"
    split = image_set.split.astype(np.int8)
    drawn = set(image_set.drawn) == set(SPLITS)
    if drawn and test == "auto":
        test = "redraw"
    reasons: dict[int, str] = {}
    if drop_conflicts:
        for rows in copies.exact.conflicts:
            split[rows] = LEFT_OUT
            for row in rows.tolist():
                reasons[row] = "has more than one label"
    inside = np.zeros((group.max(initial=-1) + 1, len(SPLITS)), np.int64)
    free = split != LEFT_OUT
    np.add.at(inside, (group[free], split[free].astype(np.int64)), 1)
    in_split = inside > 0
    spread = in_split.sum(1) > 1
    several = spread.copy()
    touched = bool((spread & in_split[:, _TEST]).any())
    expected = None
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
        policy = (
            f"The source has no splits of its own. They were drawn, with all images of a {one} in "
            "one split."
            if drawn
            else f"All splits were drawn again, with all images of a {one} in one split."
        )
        expected = _by_chance(image_set)
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
    found = None
    if several.any():
        rows = several[group] & free
        found = Spread(
            groups=int(several.sum()),
            images=int(rows.sum()),
            moved=int(((split != image_set.split) & (split != LEFT_OUT) & rows).sum()),
            left_out=int(((split == LEFT_OUT) & rows).sum()),
            least=int((inside.sum(1) - inside.max(1))[several].sum()),
        )
    words = ("photograph or group", "photographs or groups") if named else (
        "group of copies", "groups of copies",
    )  # fmt: skip
    return CleanSplit(copies, split, reasons, policy, seed, found, expected, *words)


def groups_file(
    copies: Copies, *, seed: int = 0, also: Sequence[npt.NDArray[np.generic]] = ()
) -> SplitFile:
    """What is to stay together where images are dealt into folds: the groups of
    :func:`clean_split`, and no split.

    Args:
        copies: the groups.
        seed: of the folds.
        also: (n,) values; images with an equal value are in one group too.
    """
    image_set = copies.image_set
    group = _groups(copies, also)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    several = [rows for rows in parts if len(rows) > 1]
    one, many = "photograph", "photographs"
    if image_set.group_names:
        one, many = f"{one} or group", f"{many} or groups"
    said = (
        f"{sum(map(len, several)):,} of {counted(len(image_set), 'image')} are in "
        f"{counted(len(several), one, many)} with several images. All images of a {one} are in one "
        "fold."
        if several
        else f"No {one} has several images."
    )
    contents = image_set.contents.tolist()
    every = dict(zip(contents, image_set.names.tolist(), strict=True))
    return SplitFile(
        source=image_set.data.name,
        classes=image_set.classes,
        seed=seed,
        images={name: every if name == "train" else {} for name in SPLITS},
        notes=(said,),
        together=[sorted({contents[row] for row in rows.tolist()}) for rows in several],
    )


def _groups(copies: Copies, also: Sequence[npt.NDArray[np.generic]]) -> Rows:
    """(n,) images that are to be in one split have the same number."""
    image_set = copies.image_set
    named = image_set.group_names
    return joined(
        len(image_set),
        *(
            same(values)
            for values in (
                copies.links.together,
                image_set.contents,
                *also,
                *([np.array(named)] if named else []),
            )
        ),
    )


def _by_chance(image_set: ImageSet) -> int:
    """How many images another draw with as many of each class in each split puts elsewhere."""
    counts = np.zeros((len(image_set.classes), len(SPLITS)))
    np.add.at(counts, (image_set.labels, image_set.split.astype(np.int64)), 1)
    total = np.maximum(counts.sum(1), 1)
    return round(float((total - (counts**2).sum(1) / total).sum()))


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
                f"come from too few {many}. Add images of other {many}, omit the class, or reject "
                "wrong pairs with --decisions."
            )
