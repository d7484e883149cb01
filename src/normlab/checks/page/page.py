"""The page of the data check, one file that needs nothing else, and the list of pairs as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import __version__, pages
from ...keyed import rng
from ...pages.findings import Finding, Level, troubles, worst
from ...pages.images import LARGE, SMALL, data_uri
from ...pages.words import counted, percent, shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..check import DataCheck, versions
from ..copies.clean import CleanSplit
from ..health.health import QUANTILES
from ..shortcuts.shortcuts import CueResult, Marked
from . import pictures

Rows = npt.NDArray[np.int64]

PAIRS = 24
"""Pairs shown across splits, and as many under different labels."""
GROUPS, OF_A_GROUP = 8, 30
MARKED = 24
"""Classes whose filled corners or padding are shown in pictures."""
OF_A_CLASS, OF_ALL_CLASSES = 8, 1200
"""Images of the montage: of a class, and altogether."""
OPEN_CLASSES = 30
"""More classes than these are folded."""
LISTED_CLASSES, LISTED_FILES = 1000, 100
"""Rows of long tables; data.json has the rest."""

_EXACT = 8
_FILES = 8
_AWAY = 4
_BARS = 40
_BETWEEN = 0.8
"""Confidence of the pairs in between: most pairs lie far above it."""
_FAR = 40
"""How many times as many pairs as are wanted are looked through for different ones."""

_SECTION = {
    "exact-duplicates": "shared",
    "near-duplicates": "shared",
    "label-conflicts": "conflicts",
    "near-conflicts": "conflicts",
    "repeated-images": "groups",
    "photographs": "groups",
    "shortcuts": "shortcuts",
    "balance": "classes",
}
_TITLES = {
    "shared": "What the splits share",
    "conflicts": "Conflicting labels",
    "groups": "The largest groups",
    "shortcuts": "Shortcuts",
    "classes": "The classes",
    "health": "Files, sizes and the test split",
    "clean": "A clean split",
    "method": "How it was done",
}
_KINDS = {"filled-corners": "filled corners", "padding": "padding"}
# The splits of a pair are told by the first of these that its files allow.
_CROSSINGS = ((0, 2), (2, 0), (1, 2), (2, 1), (0, 1), (1, 0))


def render(check: DataCheck, *, split: CleanSplit | None = None, command: str) -> str:
    """index.html. However large the source, the number of pictures is bounded.

    Args:
        check: what was found.
        split: the clean split, if one was written.
        command: how to repeat it.
    """
    findings = check.findings()
    environment = pages.environment(__package__)
    environment.filters["percent"] = percent
    return environment.get_template("check.html.j2").render(
        version=__version__,
        name=check.subject.data.name,
        facts=_facts(check),
        verdict=_verdict(findings),
        level=worst(findings).name.lower(),
        troubles=[_finding(finding) for finding in troubles(findings)],
        fine=[_finding(finding) for finding in findings if finding.level is Level.FINE],
        titles=_TITLES,
        small=check.subject.data.image_size <= SMALL,
        shared=_shared(check),
        conflicts=_conflicts(check),
        groups=_groups(check),
        shortcuts=_shortcuts(check),
        classes=_classes(check),
        health=_health(check),
        clean=None if split is None else _clean(check, split),
        leaks=any(shared.files for shared in check.copies.shared),
        method=_method(check, command),
        css=pages.style(__package__, "check.css"),
        script=pages.inline(__package__, "check.js"),
    )


def pairs_csv(check: DataCheck) -> str:
    """pairs.csv: every pair of near duplicates, surest first.

    Columns: first, second, first_split, second_split, first_class, second_class, confidence (0.5 at
    the threshold, towards 1), evidence, needed. Files whose pixels are equal are represented by the
    first, so exact duplicates are no pairs here.
    """
    subject, near = check.subject, check.copies.near
    buffer = io.StringIO()
    written = csv.writer(buffer, lineterminator="\n")
    written.writerow(
        ["first", "second", "first_split", "second_split", "first_class", "second_class",
         "confidence", "evidence", "needed"]
    )  # fmt: skip
    for (one, two), sure, evidence, needed in zip(
        near.pairs.tolist(), near.confidence, near.evidence, near.needed, strict=True
    ):
        both = (one, two)
        written.writerow(
            [
                *(subject.names[row] for row in both),
                *(SPLITS[subject.split[row]] for row in both),
                *(subject.classes[subject.labels[row]] for row in both),
                f"{sure:.4f}",
                f"{evidence:.3f}",
                f"{needed:.3f}",
            ]
        )
    return buffer.getvalue()


def _facts(check: DataCheck) -> list[tuple[str, str]]:
    subject = check.subject
    data = subject.data
    counts = np.bincount(subject.split, minlength=len(SPLITS)).tolist()
    channels = "grey" if data.channels == 1 else "colour"
    facts = [
        ("Images", f"{len(subject):,}"),
        ("Classes", f"{len(subject.classes):,}"),
        *(
            (SPLIT_WORDS[name].capitalize(), f"{count:,}")
            for name, count in zip(SPLITS, counts, strict=True)
        ),
        ("Looked at", f"{data.image_size} × {data.image_size} pixels, {channels}"),
    ]
    if subject.drawn:
        facts.append(
            ("Splits drawn, not in the source", shortened(_word(s) for s in subject.drawn))
        )
    return facts


def _verdict(findings: Sequence[Finding]) -> str:
    levels = Counter(finding.level for finding in findings)
    invalid, look = levels[Level.INVALID], levels[Level.LOOK]
    more = f"{look} more {'deserves' if look == 1 else 'deserve'} a look" if look else ""
    if invalid:
        verb = "invalidates" if invalid == 1 else "invalidate"
        return (
            f"Accuracies measured on these splits do not mean what they seem to: "
            f"{counted(invalid, 'finding')} {verb} them{f', and {more}' if more else ''}."
        )
    if look:
        return (
            "Nothing found here invalidates your numbers; "
            f"{counted(look, 'finding')} {'deserves' if look == 1 else 'deserve'} a look."
        )
    return "The check found nothing to object to."


def _finding(finding: Finding) -> dict[str, str]:
    section = _SECTION.get(finding.check, "health")
    return {
        "level": finding.level.name.lower(),
        "words": str(finding.level),
        "sentence": finding.sentence,
        "advice": finding.advice,
        "section": section,
        "title": _TITLES[section],
    }


def _word(split: str) -> str:
    return SPLIT_WORDS[split]


class _Look:
    """What the page says of a row of the subject."""

    def __init__(self, check: DataCheck) -> None:
        self.subject = check.subject

    def file(self, row: int) -> dict[str, str]:
        subject = self.subject
        return {
            "name": str(subject.names[row]),
            "split": _word(SPLITS[subject.split[row]]),
            "class": subject.classes[subject.labels[row]],
        }

    def strip(self, rows: Iterable[int]) -> list[dict[str, str]]:
        """Small pictures and what they are."""
        wanted = list(rows)
        return [
            {
                **self.file(row),
                "src": data_uri(pixels, LARGE // 2),
            }
            for row, pixels in zip(wanted, self.subject.images(wanted), strict=True)
        ]


def _shared(check: DataCheck) -> dict[str, Any]:
    look, subject = _Look(check), check.subject
    crossing, rows = _crossing(check)
    labels = subject.labels[rows]
    one_label = crossing & (labels[:, 0] == labels[:, 1])
    chosen = _spread(check, np.flatnonzero(one_label), rows)
    within = False
    if not any(places for _, places in chosen):
        within = True
        same = subject.labels[check.copies.near.pairs]
        found = np.flatnonzero(same[:, 0] == same[:, 1])
        chosen = _spread(check, found, rows, most=PAIRS // 2)
    return {
        "rows": [
            {
                "split": _word(exact.split),
                "others": " or ".join(map(_word, exact.others)),
                "total": exact.total,
                "exact": exact,
                "all": copies,
            }
            for exact, copies in zip(check.exact.shared, check.copies.shared, strict=True)
        ],
        "bars": [
            _bar(exact.split, exact.files, copies.files, exact.total)
            for exact, copies in zip(check.exact.shared, check.copies.shared, strict=True)
        ],
        "where": _where(check, crossing, rows),
        "pairs": len(check.copies.near),
        "within": within,
        "shown": [(words, _pairs(check, places, rows)) for words, places in chosen if len(places)],
        "exact": _exact_across(check, look),
    }


def _bar(split: str, exact: int, copied: int, total: int) -> dict[str, Any]:
    # Near duplicates never lose what is shared exactly.
    parts = (
        ("new", total - copied), ("near", copied - exact), ("exact", exact)
    )  # fmt: skip
    start = 0.0
    made = []
    for kind, count in parts:
        share = count / total if total else 0.0
        made.append({"kind": kind, "start": 100 * start, "width": 100 * share, "count": count})
        start += share
    said = (
        f"{_word(split)}: {total - copied:,} new, {copied - exact:,} with a near duplicate, "
        f"{exact:,} exactly there already"
    )
    return {"split": _word(split), "parts": made, "label": said, "total": total}


def _crossing(check: DataCheck) -> tuple[npt.NDArray[np.bool_], Rows]:
    """Whether each pair lies across splits, and rows that show it.

    A pair stands for all files with the same pixels; those of the same label may lie in several
    splits.
    """
    subject, pairs = check.subject, check.copies.near.pairs
    keys = np.stack([check.exact.group, subject.labels], 1)
    _, same = np.unique(keys, axis=0, return_inverse=True)
    same = same.reshape(-1)
    first = np.full((int(same.max(initial=-1)) + 1, len(SPLITS)), -1, np.int64)
    backwards = np.arange(len(subject))[::-1]
    first[same[backwards], subject.split[backwards]] = backwards
    one, two = first[same[pairs[:, 0]]], first[same[pairs[:, 1]]]
    rows = pairs.copy()
    crossing = np.zeros(len(pairs), np.bool_)
    for left, right in _CROSSINGS:
        here = ~crossing & (one[:, left] >= 0) & (two[:, right] >= 0)
        rows[here] = np.stack([one[here, left], two[here, right]], 1)
        crossing |= here
    return crossing, rows


def _where(check: DataCheck, crossing: npt.NDArray[np.bool_], rows: Rows) -> list[tuple[str, int]]:
    """How many pairs lie between which splits."""
    splits = np.sort(check.subject.split[rows], axis=1).astype(np.int64)
    found = Counter(map(tuple, splits.tolist()))
    across = [
        (f"{_word(SPLITS[one])} and {_word(SPLITS[two])}", found[one, two])
        for one, two in ((0, 2), (1, 2), (0, 1))
    ]
    return [*across, *((f"within {_word(name)}", found[i, i]) for i, name in enumerate(SPLITS))]


def _spread(
    check: DataCheck, places: Rows, rows: Rows, most: int = PAIRS
) -> list[tuple[str, list[int]]]:
    """Of pairs, surest first: the surest, some in between, the weakest.

    Different groups and different splits come first, so that one photograph does not fill the page.
    """
    if len(places) <= 6:
        return [("", places.tolist())]
    each = min(most, len(places)) // 3
    sure = check.copies.near.confidence[places]
    middle = sorted(range(len(places)), key=lambda at: abs(sure[at] - _BETWEEN))
    walks = (range(len(places)), middle, range(len(places) - 1, -1, -1))
    group = check.copies.group[rows[:, 0]]
    splits = np.sort(check.subject.split[rows], axis=1)
    taken: set[int] = set()
    groups: set[int] = set()
    found = []
    for walk in walks:
        candidates = [int(places[at]) for at in walk[: _FAR * each]]
        kinds = {place: tuple(splits[place].tolist()) for place in candidates}
        quota = -(-each // len(set(kinds.values())))
        of_kind: Counter[tuple[int, ...]] = Counter()
        here: list[int] = []
        for picky in (2, 1, 0):
            for place in candidates:
                if len(here) == each or place in taken:
                    continue
                if picky and int(group[place]) in groups:
                    continue
                if picky == 2 and of_kind[kinds[place]] == quota:
                    continue
                here.append(place)
                taken.add(place)
                groups.add(int(group[place]))
                of_kind[kinds[place]] += 1
        found.append(sorted(here))
    words = ("The surest", "In between", "The weakest, just above the threshold")
    return list(zip(words, found, strict=True))


def _pairs(check: DataCheck, places: Sequence[int], rows: Rows) -> list[dict[str, Any]]:
    look, near = _Look(check), check.copies.near
    first, second = (check.subject.images(near.pairs[places, side]) for side in (0, 1))
    laid = pictures.laid_on(first, second, near.maps[places])
    return [
        {
            "first": {**look.file(int(rows[place, 0])), "src": data_uri(first[at])},
            "second": {**look.file(int(rows[place, 1])), "src": data_uri(second[at])},
            "laid": data_uri(laid[at]),
            "confidence": _confidence(float(near.confidence[place])),
            "evidence": f"{near.evidence[place]:.1f}",
            "needed": f"{near.needed[place]:.1f}",
        }
        for at, place in enumerate(places)
    ]


def _confidence(value: float) -> str:
    return "above 0.99" if value > 0.99 else f"{value:.2f}"


def _exact_across(check: DataCheck, look: _Look) -> dict[str, Any]:
    """Some of the images that lie in several splits with equal pixels."""
    subject, group = check.subject, check.exact.group
    in_split = np.zeros((int(group.max(initial=-1)) + 1, len(SPLITS)), np.bool_)
    in_split[group, subject.split] = True
    several = np.flatnonzero(in_split.sum(1) > 1)
    drawn = np.sort(rng(0, "exact on the page").permutation(several)[:_EXACT])
    return {
        "count": len(several),
        "shown": [_copies_of(look, np.flatnonzero(group == number)) for number in drawn],
    }


def _copies_of(look: _Look, rows: Rows) -> dict[str, Any]:
    """One picture, and the files that hold it, from each split and class some."""
    subject = look.subject
    kinds = np.stack([subject.split[rows], subject.labels[rows]], 1)
    _, first = np.unique(kinds, axis=0, return_index=True)
    order = [*first.tolist(), *(at for at in range(len(rows)) if at not in set(first.tolist()))]
    shown = sorted(order[:_FILES])
    return {
        "src": look.strip([int(rows[0])])[0]["src"],
        "files": [look.file(int(rows[at])) for at in shown],
        "more": len(rows) - len(shown),
    }


def _conflicts(check: DataCheck) -> dict[str, Any]:
    look, copies = _Look(check), check.copies
    exact = sorted(check.exact.conflicts, key=len, reverse=True)
    _, rows = _crossing(check)
    chosen = _spread(check, copies.conflicts, rows)
    between = Counter(
        tuple(sorted(check.subject.classes[label] for label in pair))
        for pair in check.subject.labels[copies.near.pairs[copies.conflicts]].tolist()
    )
    return {
        "exact": [_copies_of(look, group) for group in exact[:PAIRS]],
        "exact_count": len(exact),
        "near": [(words, _pairs(check, places, rows)) for words, places in chosen if places],
        "near_count": len(copies.conflicts),
        "more_between": len(between) > _FILES,
        "between": [(" and ".join(pair), count) for pair, count in between.most_common(_FILES)],
    }


def _groups(check: DataCheck) -> dict[str, Any]:
    look, subject, copies = _Look(check), check.subject, check.copies
    made = []
    for rows in copies.largest(GROUPS):
        # One of each different image and split.
        kinds = np.stack([subject.digests[rows], subject.split[rows].astype(np.uint64)], 1)
        _, first = np.unique(kinds, axis=0, return_index=True)
        different = rows[np.sort(first)]
        shares = _apportioned(np.bincount(subject.split[different], minlength=3), OF_A_GROUP)
        labels = np.unique(subject.labels[rows])
        parts = []
        for index, name in enumerate(SPLITS):
            here = different[subject.split[different] == index]
            if len(here):
                step = len(here) / max(shares[index], 1)
                shown = [int(here[int(at * step)]) for at in range(shares[index])]
                parts.append(
                    {
                        "split": _word(name),
                        "files": int((subject.split[rows] == index).sum()),
                        "different": len(here),
                        "images": look.strip(shown),
                    }
                )
        made.append(
            {
                "files": len(rows),
                "different": len(np.unique(subject.digests[rows])),
                "classes": shortened(subject.classes[label] for label in labels),
                "parts": parts,
            }
        )
    sizes = np.bincount(copies.sizes)
    several = np.flatnonzero(sizes[2:]) + 2 if len(sizes) > 2 else np.empty(0, np.int64)
    return {
        "shown": made,
        "sizes": [(int(size), int(sizes[size])) for size in several],
        "photographs": len(copies.sizes),
    }


def _apportioned(counts: npt.NDArray[np.int64], most: int) -> list[int]:
    """All of each, or in proportion up to ``most``, but at least one of what is there."""
    total = int(counts.sum())
    if total <= most:
        return [int(count) for count in counts]
    shares = [max(int(count * most / total), 1) if count else 0 for count in counts]
    shares[int(np.argmax(shares))] -= max(sum(shares) - most, 0)
    return shares


def _shortcuts(check: DataCheck) -> dict[str, Any]:
    look, subject, corners = _Look(check), check.subject, check.shortcuts.corners
    marked = corners.marked[:MARKED]
    highest = {kind: max(shares, default=0.0) for kind, shares in corners.shares.items()}
    names = {(mark.kind, mark.name) for mark in corners.marked}
    order = sorted(
        range(len(corners.classes)),
        key=lambda at: -max(corners.shares[kind][at] for kind in _KINDS),
    )
    others = np.flatnonzero(
        ~np.isin(subject.labels, [subject.classes.index(name) for _, name in names])
    )
    shown = sorted(order[:_BARS]) if len(order) > _BARS else range(len(order))
    return {
        "marked": [_mark(check, look, mark) for mark in marked],
        "others": data_uri(pictures.mean_image(subject, others), LARGE // 2)
        if marked and len(others)
        else "",
        "more_marked": len(corners.marked) - len(marked),
        "ground": corners.ground,
        "kinds": _KINDS,
        "chart": [
            {
                "name": corners.classes[at],
                "images": corners.images[at],
                "bars": [
                    {
                        "share": corners.shares[kind][at],
                        "marked": (kind, corners.classes[at]) in names,
                    }
                    for kind in _KINDS
                ],
            }
            for at in shown
        ]
        if max(highest.values()) > 0
        else [],
        "left_out": len(order) - len(shown),
        "cues": [_cue(cue) for cue in check.shortcuts.cues],
        "sample": max((cue.images for cue in check.shortcuts.cues), default=0),
    }


def _mark(check: DataCheck, look: _Look, mark: Marked) -> dict[str, Any]:
    subject = check.subject
    rows = np.flatnonzero(subject.labels == subject.classes.index(mark.name))
    return {
        "name": mark.name,
        "kind": _KINDS[mark.kind],
        "share": percent(mark.share),
        "low": percent(mark.low),
        "high": percent(mark.high),
        "others": percent(mark.others),
        "images": mark.images,
        "mean": data_uri(pictures.mean_image(subject, rows), LARGE // 2),
        "having": look.strip(mark.having),
        "lacking": look.strip(mark.lacking),
    }


def _cue(cue: CueResult) -> dict[str, Any]:
    told = cue.accuracy is not None and cue.low is not None and cue.high is not None
    return {
        "title": cue.title[0].upper() + cue.title[1:],
        "outside": cue.outside,
        "seen": cue.seen,
        "told": told,
        "accuracy": percent(cue.accuracy or 0.0),
        "interval": f"{percent(cue.low or 0.0)} to {percent(cue.high or 0.0)}",
        "chance": percent(cue.chance),
        "at": {
            "accuracy": 100 * (cue.accuracy or 0.0),
            "low": 100 * (cue.low or 0.0),
            "width": 100 * ((cue.high or 0.0) - (cue.low or 0.0)),
            "chance": 100 * cue.chance,
        },
        "verdict": "shortcut" if cue.shortcut else "association" if cue.associated else "none",
        "away": shortened((f"{name} ({area:.2f})" for name, area in cue.gives_away), _AWAY),
    }


def _classes(check: DataCheck) -> dict[str, Any]:
    subject, look = check.subject, _Look(check)
    count = len(subject.classes)
    each = max(min(OF_A_CLASS, OF_ALL_CLASSES // max(count, 1)), 1)
    largest = max(max(map(max, check.health.counts.values())), 1)
    in_train = subject.split == SPLITS.index("train")
    order = np.argsort(subject.labels, kind="stable")
    ends = np.cumsum(np.bincount(subject.labels, minlength=count))
    made = []
    for index, name in enumerate(subject.classes):
        counts = check.health.counts[name]
        one = {
            "name": name,
            "counts": [
                {"split": _word(split), "count": number, "width": 100 * number / largest}
                for split, number in zip(SPLITS, counts, strict=True)
            ],
            "total": sum(counts),
            "images": [],
            "mean": "",
        }
        if index < OF_ALL_CLASSES and index < LISTED_CLASSES:
            rows = np.sort(order[ends[index] - sum(counts) : ends[index]])
            rows = rows[in_train[rows]]
            drawn = rng(0, "montage", name).permutation(rows)[:each]
            one["images"] = look.strip(np.sort(drawn).tolist())
            if each == OF_A_CLASS and len(rows):
                mean = pictures.mean_image(subject, rows)
                one["mean"] = data_uri(mean, LARGE // 2)
        made.append(one)
    return {
        "shown": made[:LISTED_CLASSES],
        "open": OPEN_CLASSES,
        "left_out": max(count - LISTED_CLASSES, 0),
        "splits": [_word(split) for split in SPLITS],
    }


def _health(check: DataCheck) -> dict[str, Any]:
    health = check.health
    sizes = health.sizes
    quantiles: list[tuple[str, list[str]]] = []
    if sizes:
        quantiles = [
            ("Width, pixels", [f"{value:,.0f}" for value in sizes.width]),
            ("Height, pixels", [f"{value:,.0f}" for value in sizes.height]),
            ("Longer by shorter side", [f"{value:.2f}" for value in sizes.aspect]),
            ("File, kilobytes", [f"{value / 1000:,.1f}" for value in sizes.bytes]),
        ]
    skipped = list(health.skipped.items())
    grey = health.grey
    return {
        "sizes": sizes,
        "heads": [
            {0.0: "smallest", 0.5: "median", 1.0: "largest"}.get(q, f"{100 * q:.0f} %")
            for q in QUANTILES
        ],
        "quantiles": quantiles,
        "formats": shortened(f"{name} {number:,}" for name, number in sizes.formats.items())
        if sizes
        else "",
        "side": health.image_size,
        "skipped": skipped[:LISTED_FILES],
        "more_skipped": max(len(skipped) - LISTED_FILES, 0),
        "grey": None
        if grey is None
        else [
            (name, number, sum(health.counts[name]), name in grey.marked)
            for name, number in sorted(grey.counts.items(), key=lambda pair: -pair[1])[:_BARS]
        ],
        "suspects": list(health.suspects.items())[:LISTED_FILES],
        "alike": health.alike[:LISTED_FILES],
        "same": health.shared[:LISTED_FILES],
        "clashes": health.clashes[:LISTED_FILES],
        "misnamed": health.misnamed[:LISTED_FILES],
        "test": health.test_size,
    }


def _clean(check: DataCheck, split: CleanSplit) -> dict[str, Any]:
    names = (*(_word(name) for name in SPLITS), "left out")
    moves = np.zeros((len(SPLITS), len(names)), np.int64)
    # The last column is -1, what was left out.
    np.add.at(moves, (check.subject.split.astype(np.int64), split.split.astype(np.int64)), 1)
    return {
        "sentences": split.sentences(),
        "names": names,
        "moves": [
            (names[index], [int(number) for number in row], index)
            for index, row in enumerate(moves)
        ],
        "after": [int(number) for number in moves.sum(0)],
    }


def _method(check: DataCheck, command: str) -> dict[str, Any]:
    subject, near = check.subject, check.copies.near
    data = subject.data
    low, high = (
        (float(near.thresholds.min()), float(near.thresholds.max()))
        if len(near.thresholds)
        else (0.0, 0.0)
    )
    policy = {"as found": "as found in the source"}
    facts = [
        ("Source", data.source),
        ("Fingerprint", data.fingerprint),
        ("Resizing", data.resize_rule.format(size=data.image_size)),
        *(
            (f"{_word(name).capitalize()} split", policy.get(said, said))
            for name in SPLITS
            if (said := str(data.split_policy.get(name, "as found")))
        ),
        *([("Seed of drawn splits", str(data.split_seed))] if subject.drawn else []),
        ("Evidence needed", f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f} by class"),
        ("Pairs compared closely", f"{near.compared:,}"),
        ("Pairs found", f"{len(near):,}"),
        *(
            (f"Time, {name}", f"{seconds:.1f} s" if seconds >= 0.05 else "below 0.1 s")
            for name, seconds in check.seconds.items()
        ),
        *versions().items(),
    ]
    return {"facts": facts, "command": command}
