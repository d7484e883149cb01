"""What the checks for copies show on the page: shared images, conflicting labels, large groups."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ...files import csv_text
from ...keyed import rng
from ...pages.words import shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from ..page.pictures import described, strip
from ..protocol import PagePart, Section, Table
from .exact import ExactCopies, Shared
from .groups import Copies
from .shown_pairs import Crossing, cards, choose, crossing_pairs, where

Rows = npt.NDArray[np.int64]

PAIRS = 24
"""Pairs shown across splits, and as many under different labels."""
GROUPS, OF_A_GROUP = 8, 30
"""Groups shown, and images of each."""
_EXACT = 8
_FILES = 8

_COLUMNS = (
    "first", "second", "first_split", "second_split", "first_class", "second_class",
    "confidence", "evidence", "needed",
)  # fmt: skip


def exact_part() -> PagePart:
    """How exact copies are found; what was found is shown together with near copies."""
    return PagePart(
        __package__,
        method=(
            (
                "Exact copies",
                "are files with equal hashes of their bytes, or images with equal pixels at the "
                "size the network sees.",
            ),
        ),
    )


def near_part(copies: Copies) -> PagePart:
    """Everything about copies, exact and near."""
    near = copies.near
    low, high = (
        (float(near.thresholds.min()), float(near.thresholds.max()))
        if len(near.thresholds)
        else (0.0, 0.0)
    )
    crossing = crossing_pairs(copies)
    return PagePart(
        __package__,
        sections=(
            Section(
                "shared",
                "What the splits share",
                "shared.html.j2",
                _shared(copies, crossing),
                explains=("exact-duplicates", "near-duplicates"),
            ),
            Section(
                "conflicts",
                "Conflicting labels",
                "conflicts.html.j2",
                _conflicts(copies, crossing),
                explains=("label-conflicts", "near-conflicts"),
            ),
            Section(
                "groups",
                "The largest groups",
                "groups.html.j2",
                _groups(copies),
                explains=("repeated-images", "photographs"),
            ),
        ),
        style="copies.css",
        script="copies.js",
        method=(
            (
                "Near copies.",
                "The nearest neighbours of each image are found by descriptors that do not change "
                "when an image is turned or mirrored. Each candidate is laid on the image as well "
                "as an affine map allows, and the two are compared detail by detail; the evidence "
                "grows with the number of details that agree. How well different images can be "
                "made to agree depends on the class, so pairs drawn at random within each class "
                "are aligned in the same way. A pair counts as a copy if its evidence is six "
                "robust standard deviations above theirs, and if colours and details agree. "
                "Frames of a burst that show one scene count as copies, because they are not "
                "independent images.",
            ),
            ("Groups", "are formed by pairs with the same label."),
        ),
        limits=(
            "Crops to less than about 60 % of the side, and pictures that are mostly covered.",
            "Copies of images with hardly any detail, and of very small ones: below about 16 "
            "pixels, only copies that are almost identical are found.",
            "Copies outside this source, such as images that a pretrained network has seen.",
        ),
        facts=(
            (
                "Evidence needed",
                f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f} by class",
            ),
            ("Pairs compared closely", f"{near.compared:,}"),
            ("Pairs found", f"{len(near):,}"),
        ),
        tables=(Table("pairs.csv", "pairs of near copies", pairs_csv(copies)),),
    )


def pairs_csv(copies: Copies) -> str:
    """pairs.csv: every pair of near duplicates, surest first.

    Columns: first, second, first_split, second_split, first_class, second_class, confidence (0.5 at
    the threshold, towards 1), evidence, needed. Files with equal pixels are represented by the
    first, so exact duplicates are not pairs here.
    """
    image_set, near = copies.image_set, copies.near
    rows = (
        {
            "first": image_set.names[one],
            "second": image_set.names[two],
            "first_split": SPLITS[image_set.split[one]],
            "second_split": SPLITS[image_set.split[two]],
            "first_class": image_set.classes[image_set.labels[one]],
            "second_class": image_set.classes[image_set.labels[two]],
            "confidence": f"{sure:.4f}",
            "evidence": f"{evidence:.3f}",
            "needed": f"{needed:.3f}",
        }
        for (one, two), sure, evidence, needed in zip(
            near.pairs.tolist(), near.probability, near.evidence, near.needed, strict=True
        )
    )
    return csv_text(_COLUMNS, rows)


def _shared(copies: Copies, crossing: Crossing) -> dict[str, Any]:
    labels = copies.image_set.labels
    of_rows = labels[crossing.rows]
    across = np.flatnonzero(crossing.across & (of_rows[:, 0] == of_rows[:, 1]))
    within = not len(across)
    if within:
        same = labels[copies.near.pairs]
        places = np.flatnonzero(same[:, 0] == same[:, 1])
        chosen = choose(copies, places, crossing.rows, most=PAIRS // 2)
    else:
        chosen = choose(copies, across, crossing.rows, most=PAIRS)
    both = list(zip(copies.exact.shared, copies.shared, strict=True))
    return {
        "rows": [
            {
                "split": SPLIT_WORDS[exact.split],
                "others": " or ".join(SPLIT_WORDS[name] for name in exact.others),
                "total": exact.total,
                "exact": exact,
                "all": every,
            }
            for exact, every in both
        ],
        "bars": [_bar(exact, every) for exact, every in both],
        "where": where(copies.image_set, crossing.rows),
        "pairs": len(copies.near),
        "within": within,
        "shown": [
            (words, cards(copies, places, crossing.rows)) for words, places in chosen if places
        ],
        "exact": _exact_across(copies.image_set, copies.exact),
    }


def _bar(exact: Shared, every: Shared) -> dict[str, Any]:
    """A split as a bar: new images, near copies, exact copies."""
    total, split = exact.total, SPLIT_WORDS[exact.split]
    # Near duplicates never lose what is shared exactly.
    parts = (
        ("new", total - every.files), ("near", every.files - exact.files), ("exact", exact.files)
    )  # fmt: skip
    start = 0.0
    made = []
    for kind, count in parts:
        width = 100 * count / total if total else 0.0
        made.append({"kind": kind, "start": start, "width": width, "count": count})
        start += width
    said = (
        f"{split}: {total - every.files:,} new, {every.files - exact.files:,} near copies, "
        f"{exact.files:,} exact copies"
    )
    return {"split": split, "parts": made, "label": said, "total": total}


def _exact_across(image_set: ImageSet, exact: ExactCopies) -> dict[str, Any]:
    """Some of the images that are in several splits with equal pixels."""
    group = exact.group
    in_split = np.zeros((int(group.max(initial=-1)) + 1, len(SPLITS)), np.bool_)
    in_split[group, image_set.split] = True
    several = np.flatnonzero(in_split.sum(1) > 1)
    drawn = np.sort(rng(0, "exact on the page").permutation(several)[:_EXACT])
    return {
        "count": len(several),
        "shown": [_copies_of(image_set, np.flatnonzero(group == number)) for number in drawn],
    }


def _copies_of(image_set: ImageSet, rows: Rows) -> dict[str, Any]:
    """One picture, and files that contain it: some from each split and class."""
    kinds = np.stack([image_set.split[rows], image_set.labels[rows]], 1)
    _, first = np.unique(kinds, axis=0, return_index=True)
    order = [*first.tolist(), *(at for at in range(len(rows)) if at not in set(first.tolist()))]
    shown = sorted(order[:_FILES])
    return {
        "src": strip(image_set, [int(rows[0])])[0]["src"],
        "files": [described(image_set, int(rows[at])) for at in shown],
        "more": len(rows) - len(shown),
    }


def _conflicts(copies: Copies, crossing: Crossing) -> dict[str, Any]:
    image_set = copies.image_set
    exact = sorted(copies.exact.conflicts, key=len, reverse=True)
    chosen = choose(copies, copies.conflicts, crossing.rows, most=PAIRS)
    between = Counter(
        tuple(sorted(image_set.classes[label] for label in pair))
        for pair in image_set.labels[copies.near.pairs[copies.conflicts]].tolist()
    )
    return {
        "exact": [_copies_of(image_set, group) for group in exact[:PAIRS]],
        "exact_count": len(exact),
        "near": [
            (words, cards(copies, places, crossing.rows)) for words, places in chosen if places
        ],
        "near_count": len(copies.conflicts),
        "more_between": len(between) > _FILES,
        "between": [(" and ".join(pair), count) for pair, count in between.most_common(_FILES)],
    }


def _groups(copies: Copies) -> dict[str, Any]:
    sizes = np.bincount(copies.sizes)
    several = np.flatnonzero(sizes[2:]) + 2 if len(sizes) > 2 else np.empty(0, np.int64)
    return {
        "shown": [_group(copies.image_set, rows) for rows in copies.largest(GROUPS)],
        "sizes": [(int(size), int(sizes[size])) for size in several],
    }


def _group(image_set: ImageSet, rows: Rows) -> dict[str, Any]:
    """A group by split, with some of its different images."""
    # One of each different image and split.
    kinds = np.stack([image_set.digests[rows], image_set.split[rows].astype(np.uint64)], 1)
    _, first = np.unique(kinds, axis=0, return_index=True)
    different = rows[np.sort(first)]
    shares = _apportioned(np.bincount(image_set.split[different], minlength=3), OF_A_GROUP)
    parts = []
    for index, name in enumerate(SPLITS):
        here = different[image_set.split[different] == index]
        if len(here):
            step = len(here) / max(shares[index], 1)
            shown = [int(here[int(at * step)]) for at in range(shares[index])]
            parts.append(
                {
                    "split": SPLIT_WORDS[name],
                    "files": int((image_set.split[rows] == index).sum()),
                    "different": len(here),
                    "images": strip(image_set, shown),
                }
            )
    labels = np.unique(image_set.labels[rows])
    return {
        "files": len(rows),
        "different": len(np.unique(image_set.digests[rows])),
        "classes": shortened(image_set.classes[label] for label in labels),
        "parts": parts,
    }


def _apportioned(counts: npt.NDArray[np.int64], most: int) -> list[int]:
    """All of each, or in proportion up to ``most``, but at least one of what is there."""
    total = int(counts.sum())
    if total <= most:
        return [int(count) for count in counts]
    shares = [max(int(count * most / total), 1) if count else 0 for count in counts]
    shares[int(np.argmax(shares))] -= max(sum(shares) - most, 0)
    return shares
