"""What the check of health shows on the page: the classes, and files, sizes and the test split."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...files import csv_text
from ...keyed import rng
from ...pages.words import shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from ..page.pictures import mean_image, strip
from ..protocol import PagePart, Section, Table
from .balance import Balance
from .blank import Blank
from .file_sizes import QUANTILES, FileSizes
from .grey import GreyImages
from .health import Health

OF_A_CLASS, OF_ALL_CLASSES = 8, 1200
"""Images of the montage: per class, and altogether."""
OPEN_CLASSES = 30
"""More classes than these are folded."""
LISTED_CLASSES, LISTED_FILES = 1000, 100
"""Rows of long tables; the files next to the page have the rest."""
LISTED_BLANK = 20
_BARS = 40


def health_part(image_set: ImageSet, health: Health) -> PagePart:
    """The classes in pictures and numbers, and everything else about health."""
    return PagePart(
        __package__,
        sections=(
            Section(
                "classes",
                "The classes",
                "classes.html.j2",
                _classes(image_set, health.balance),
                explains=("balance",),
            ),
            Section(
                "health",
                "Files, sizes and the test split",
                "health.html.j2",
                _health(health),
                explains=(
                    "unreadable-files", "folders", "file-names", "test-size", "image-sizes",
                    "grey-images", "blank-images", "grey-levels",
                ),
            ),
        ),
        style="health.css",
        tables=_tables(image_set, health),
    )  # fmt: skip


def _classes(image_set: ImageSet, balance: Balance) -> dict[str, Any]:
    names = image_set.classes[:LISTED_CLASSES]
    largest = max(max(map(max, balance.counts.values())), 1)
    each = max(min(OF_A_CLASS, OF_ALL_CLASSES // max(len(image_set.classes), 1)), 1)
    return {
        "shown": [
            {
                "name": name,
                "counts": [
                    {
                        "split": SPLIT_WORDS[split],
                        "count": number,
                        "width": 100 * number / largest,
                    }
                    for split, number in zip(SPLITS, balance.counts[name], strict=True)
                ],
                "total": balance.of_class(name),
                **_montage(image_set, index, each),
            }
            for index, name in enumerate(names)
        ],
        "open": OPEN_CLASSES,
        "left_out": len(image_set.classes) - len(names),
        "splits": [SPLIT_WORDS[split] for split in SPLITS],
    }


def _montage(image_set: ImageSet, index: int, each: int) -> dict[str, Any]:
    """Training images of a class drawn at random; where there is room, their mean as well."""
    if index >= OF_ALL_CLASSES:
        return {"images": [], "mean": ""}
    train = image_set.split == SPLITS.index("train")
    rows = np.flatnonzero(train & (image_set.labels == index))
    drawn = rng(0, "montage", image_set.classes[index]).permutation(rows)[:each]
    return {
        "images": strip(image_set, np.sort(drawn).tolist()),
        "mean": mean_image(image_set, rows) if each == OF_A_CLASS and len(rows) else "",
    }


def _health(health: Health) -> dict[str, Any]:
    skipped = list(health.balance.skipped.items())
    sizes = health.sizes
    return {
        "test": health.test_size,
        "sizes": sizes,
        "side": health.image_size,
        "heads": [
            {0.0: "smallest", 0.5: "median", 1.0: "largest"}.get(q, f"{100 * q:.0f} %")
            for q in QUANTILES
        ],
        "quantiles": _quantiles(sizes) if sizes else [],
        "formats": shortened(f"{name} {number:,}" for name, number in sizes.formats.items())
        if sizes
        else "",
        "splits": [SPLIT_WORDS[split] for split in SPLITS],
        "blank": _blank(health.blank),
        "skipped": skipped[:LISTED_FILES],
        "more_skipped": max(len(skipped) - LISTED_FILES, 0),
        "grey": _grey(health.grey, health.balance) if health.grey else [],
        "suspects": list(health.folders.suspects.items())[:LISTED_FILES],
        "alike": health.folders.alike[:LISTED_FILES],
        "same": health.folders.shared[:LISTED_FILES],
        "clashes": health.file_names.clashes[:LISTED_FILES],
        "misnamed": health.file_names.misnamed[:LISTED_FILES],
    }


def _tables(image_set: ImageSet, health: Health) -> tuple[Table, ...]:
    """What the page and data.json have the beginning of; no table where there is nothing."""
    balance, blank = health.balance, health.blank
    tables = [
        Table(
            "classes.csv",
            "counts by class",
            csv_text(
                ("class", *SPLITS),
                (
                    {"class": name, **dict(zip(SPLITS, counts, strict=True))}
                    for name, counts in balance.counts.items()
                ),
            ),
        )
    ]
    if balance.skipped:
        rows = ({"file": file, "reason": why} for file, why in balance.skipped.items())
        tables.append(
            Table("unreadable.csv", "unreadable files", csv_text(("file", "reason"), rows))
        )
    if blank.names:
        flat = np.flatnonzero(np.isin(image_set.names, blank.names))
        rows = (
            {
                "file": str(image_set.names[row]),
                "split": SPLITS[image_set.split[row]],
                "class": image_set.classes[image_set.labels[row]],
            }
            for row in flat.tolist()
        )
        tables.append(
            Table(
                "blank.csv", "images that show nothing", csv_text(("file", "split", "class"), rows)
            )
        )
    return tuple(tables)


def _blank(blank: Blank) -> dict[str, Any]:
    """How many images of each class show nothing, and the first of them."""
    listed = sorted(blank.counts.items(), key=lambda one: -sum(one[1]))[:LISTED_FILES]
    return {"images": blank.images, "names": blank.names[:LISTED_BLANK], "counts": listed}


def _quantiles(sizes: FileSizes) -> list[tuple[str, list[str]]]:
    return [
        ("Width, pixels", [f"{value:,.0f}" for value in sizes.width]),
        ("Height, pixels", [f"{value:,.0f}" for value in sizes.height]),
        ("Longer side / shorter", [f"{value:.2f}" for value in sizes.aspect]),
        ("File, kilobytes", [f"{value / 1000:,.1f}" for value in sizes.bytes]),
    ]


def _grey(grey: GreyImages, balance: Balance) -> list[tuple[str, int, int, bool]]:
    """Class, grey images, images, and whether the class stands out; most first."""
    most = sorted(grey.counts.items(), key=lambda pair: -pair[1])[:_BARS]
    return [(name, count, balance.of_class(name), name in grey.marked) for name, count in most]
