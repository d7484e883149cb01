"""What the check of health shows on the page: the classes, and files, sizes and the test split."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...keyed import rng
from ...pages.words import shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..image_set import ImageSet
from ..page.pictures import mean_image, strip
from ..protocol import PagePart, Section
from .balance import Balance
from .file_sizes import QUANTILES, FileSizes
from .grey import GreyImages
from .health import Health

OF_A_CLASS, OF_ALL_CLASSES = 8, 1200
"""Images of the montage: per class, and altogether."""
OPEN_CLASSES = 30
"""More classes than these are folded."""
LISTED_CLASSES, LISTED_FILES = 1000, 100
"""Rows of long tables; data.json has the rest."""
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
                    "grey-images",
                ),
            ),
        ),
        style="health.css",
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
        "skipped": skipped[:LISTED_FILES],
        "more_skipped": max(len(skipped) - LISTED_FILES, 0),
        "grey": _grey(health.grey, health.balance) if health.grey else [],
        "suspects": list(health.folders.suspects.items())[:LISTED_FILES],
        "alike": health.folders.alike[:LISTED_FILES],
        "same": health.folders.shared[:LISTED_FILES],
        "clashes": health.file_names.clashes[:LISTED_FILES],
        "misnamed": health.file_names.misnamed[:LISTED_FILES],
    }


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
