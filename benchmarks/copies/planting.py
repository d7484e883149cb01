"""Folders of pictures in which some are copies of others, in known ways."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .kinds import Kind
from .ways import WAYS

_TRUTH = "truth.json"
_SMALL = 32


@dataclass(frozen=True)
class Planted:
    """A folder with copies.

    Attributes:
        root: what the check is run on.
        ways: number of the picture to the way of its copy and its strength (0 to 2).
    """

    root: Path
    ways: dict[int, tuple[str, int]]


def plant(kind: Kind, root: Path, count: int, each: int) -> Planted:
    """Put ``count`` pictures in train and ``each`` copies for every way and strength in test.

    The folder is kept and used again.
    """
    truth = root / _TRUTH
    if truth.is_file():
        known = json.loads(truth.read_text())
        return Planted(root / "images", {int(n): (way, at) for n, (way, at) in known.items()})
    jobs = [(way, at) for _ in range(each) for way in WAYS for at in range(len(way.strengths))]
    ways: dict[int, tuple[str, int]] = {}
    for number, (image, label) in enumerate(kind.pictures(count)):
        _save(image, root / "images/train" / label / f"{number:06d}")
        if number < len(jobs):
            way, at = jobs[number]
            made = way.copy(image, way.strengths[at], np.random.default_rng([7, number]))
            _save(made, root / "images/test" / label / f"{number:06d}")
            ways[number] = way.name, at
    truth.write_text(json.dumps(ways))
    return Planted(root / "images", ways)


def _save(image: Image.Image, path: Path) -> None:
    """As JPEG, as photographs are; small pictures without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if max(image.size) > _SMALL:
        image.save(path.with_suffix(".jpg"), quality=90)
    else:
        image.save(path.with_suffix(".png"))
