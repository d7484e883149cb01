"""What the checks for copies show on the page: shared images, conflicting labels, large groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ...keyed import rng
from ...pages.words import percent, shortened, span
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from ..page.pictures import described, strip
from ..protocol import PagePart, Section, Table
from .counts import SURE_PRECISION, Copied
from .decisions import COLUMNS, COPY, DIFFERENT
from .exact import NEGLIGIBLE, ExactCopies
from .groups import TABLE, Copies
from .misses import MISSED
from .probability import SURE
from .shown_pairs import Crossing, cards, choose, crossing_pairs, decision_row, where
from .table import copies_csv, exact_csv

Rows = npt.NDArray[np.int64]

PAIRS = 24
"""Pairs shown across splits, and as many under different labels."""
GROUPS, OF_A_GROUP = 8, 30
"""Groups shown, and images of each."""
_EXACT = 8
_FILES = 8

KEPT = 5000
"""Earlier decisions that the page joins with new ones; where there are more, it says so."""


def exact_part() -> PagePart:
    """How exact copies are found; what was found is shown together with near copies."""
    return PagePart(__package__, method=(_EXACTLY,))


_EXACTLY = (
    "Exact copies",
    "are files with equal hashes of their bytes, or images with equal pixels at the size the "
    "network sees.",
)


def exact_alone(exact: ExactCopies) -> PagePart:
    """What was found where near copies were not looked for."""
    return PagePart(
        __package__,
        sections=(
            Section(
                "shared",
                "What the splits share",
                "exact.html.j2",
                {
                    "exact": _exact_across(exact.image_set, exact),
                    "conflicts": _exact_conflicts(exact),
                    "shared": [
                        (SPLIT_WORDS[shared.split], _others(shared.others), shared)
                        for shared in exact.shared
                    ],
                },
                explains=("exact-duplicates", "label-conflicts", "repeated-images",
                          "near-duplicates", "decisions"),
            ),
        ),
        style="copies.css",
        method=(_EXACTLY,),
        tables=(Table(TABLE, "exact copies", exact_csv(exact)),),
    )  # fmt: skip


def near_part(copies: Copies) -> PagePart:
    """Everything about copies, exact and near."""
    near = copies.near
    crossing = crossing_pairs(copies)
    return PagePart(
        __package__,
        sections=(
            Section(
                "shared",
                "What the splits share",
                "shared.html.j2",
                _shared(copies, crossing),
                explains=("exact-duplicates", "near-duplicates", "decisions"),
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
            *(
                [Section("missed", "Copies the search misses", "missed.html.j2", _missed())]
                if MISSED
                else []
            ),
        ),
        style="copies.css",
        script="copies.js",
        method=(
            _EXACTLY,
            (
                "Near copies.",
                "Each image is compared with those that are most like it, however they are turned "
                "or mirrored. One is laid on the other as well as an affine map allows. How well "
                "the two then agree, detail by detail, gives the probability that they are copies "
                f"of one photograph. A pair of at least {percent(SURE)} is called sure. Frames of "
                "a burst that show one scene count as copies, because they are not independent "
                "images.",
            ),
            (
                "Counts",
                "of likely copies add up probabilities: for each file, that of the surest pair "
                "that makes it a copy. The range in brackets covers 95 % of what these "
                f"probabilities allow; its lower end takes them times {SURE_PRECISION:g}, since "
                "the search may be less often right on images of a kind that it was not tried on. "
                "Numbers are called invalid only if exact copies and pairs confirmed by hand, or "
                f"that lower end, are more than {percent(NEGLIGIBLE)} of a split.",
            ),
            (
                "Groups",
                "are formed by exact copies and by sure pairs of images with a label in common. A "
                "single sure pair joins at most three different images; larger groups need several "
                "pairs between their parts, so that one wrong pair cannot join two photographs. A "
                "clean split keeps more together: all that sure pairs link, and most of what "
                "likely ones do.",
            ),
        ),
        limits=(
            "Crops to much less than 80 % of the side, and pictures that are mostly covered.",
            "Copies of images with hardly any detail, and many of images below 32 pixels.",
            "Copies outside this source, such as images that a pretrained network has seen.",
        ),
        facts=(
            ("Pairs of near copies", f"{len(near):,}"),
            ("Of these sure", f"{int(near.sure.sum()):,}"),
        ),
        tables=(Table(TABLE, "exact and near copies", copies_csv(copies)),),
    )


def _missed() -> dict[str, Any]:
    return {"missed": [(words, span(low, high)) for words, low, high in MISSED]}


def _others(others: Iterable[str]) -> str:
    return " or ".join(SPLIT_WORDS[name] for name in others)


def _shared(copies: Copies, crossing: Crossing) -> dict[str, Any]:
    open_ = copies.judged.decision == 0
    conflicting = np.zeros(len(open_), np.bool_)
    conflicting[copies.conflicts] = True
    across = np.flatnonzero(open_ & ~conflicting & crossing.across)
    within = not len(across)
    if within:
        places = np.flatnonzero(open_ & ~conflicting)
        chosen = choose(copies, places, crossing.rows, most=PAIRS // 2)
    else:
        chosen = choose(copies, across, crossing.rows, most=PAIRS)
    both = list(zip(copies.exact.shared, copies.shared, strict=True))
    decided = copies.decisions
    return {
        "rows": [
            {
                "split": SPLIT_WORDS[copied.split],
                "others": _others(copied.others),
                "total": copied.total,
                "exact": exact,
                "copied": copied,
            }
            for exact, copied in both
        ],
        "confirmed": any(copied.confirmed for _, copied in both),
        "bars": [_bar(copied) for copied in copies.shared],
        "where": where(copies.image_set, crossing.rows[copies.standing]),
        "pairs": int(copies.standing.sum()),
        "sure": int((copies.standing & copies.near.sure).sum()),
        "decided": len(decided),
        "decisions_file": decided.file,
        "confirmed_pairs": decided.copies,
        "within": within,
        "shown": [(words, cards(copies, places, crossing.rows)) for words, places in chosen],
        "more": max(len(across) - sum(len(places) for _, places in chosen), 0),
        "exact": _exact_across(copies.image_set, copies.exact),
        "header": ",".join(COLUMNS),
        "kept": _kept_rows(copies),
        "too_many": len(decided) > KEPT,
    }


def _kept_rows(copies: Copies) -> str:
    """Earlier decisions as rows of their file, so that the page can write them with new ones."""
    decided, image_set = copies.decisions, copies.image_set
    if len(decided) > KEPT:
        return ""
    order = np.argsort(image_set.contents, kind="stable")
    at = np.searchsorted(image_set.contents, decided.pairs[decided.here], sorter=order)
    return "\n".join(
        f"{decision_row(image_set, first, second)},{COPY if copy else DIFFERENT}"
        for (first, second), copy in zip(
            order[at].tolist(), decided.copy[decided.here].tolist(), strict=True
        )
    )


def _bar(copied: Copied) -> dict[str, Any]:
    """A split as a bar: new images, likely copies, copies as a matter of fact."""
    total, split = copied.total, SPLIT_WORDS[copied.split]
    likely = copied.number - copied.certain
    parts = (("new", total - copied.number), ("near", likely), ("exact", copied.certain))
    start = 0.0
    made = []
    for kind, count in parts:
        width = 100 * count / total if total else 0.0
        made.append({"kind": kind, "start": start, "width": width, "count": count})
        start += width
    said = (
        f"{split}: {total - copied.number:,} new, about {likely:,} likely copies, "
        f"{copied.certain:,} certain copies"
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


def _exact_conflicts(exact: ExactCopies) -> dict[str, Any]:
    groups = sorted(exact.conflicts, key=len, reverse=True)
    return {
        "exact": [_copies_of(exact.image_set, group) for group in groups[:PAIRS]],
        "exact_count": len(groups),
    }


def _conflicts(copies: Copies, crossing: Crossing) -> dict[str, Any]:
    image_set = copies.image_set
    chosen = choose(copies, copies.conflicts, crossing.rows, most=PAIRS)
    between = Counter(
        tuple(sorted(image_set.classes[label] for label in pair))
        for pair in image_set.labels[copies.near.pairs[copies.conflicts]].tolist()
    )
    return {
        **_exact_conflicts(copies.exact),
        "near": [(words, cards(copies, places, crossing.rows)) for words, places in chosen],
        "near_count": len(copies.conflicts),
        "near_shown": sum(len(places) for _, places in chosen),
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
