"""Kinds of pictures that copies are planted in: rendered ones, digits, and folders by name."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import rendered

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from scenes import scene

Labelled = tuple[Image.Image, str]
"""A picture and its class."""

_MOST_SIDE = 256
_EXTENSIONS = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Kind:
    """One kind of pictures.

    Attributes:
        name: as the table names it.
        size: side at which the check is run, in pixels; None for what it chooses itself.
        lossy: whether files are saved as JPEG, as photographs are.
        known: whether no two of its pictures are copies for certain, so that every pair that is
            found and was not planted is wrong.
        pictures: gives the pictures.
    """

    name: str
    size: int | None
    lossy: bool
    known: bool
    pictures: Callable[[int], Iterator[Labelled]]


def _scenes(count: int) -> Iterator[Labelled]:
    for number in range(count):
        yield scene(number, number % 10), f"kind{number % 10}"


def _products(count: int) -> Iterator[Labelled]:
    """A third in the studio; of the others, two shots of every subject."""
    for number in range(count):
        kind = rendered.PRODUCTS[number % len(rendered.PRODUCTS)]
        subject = number // len(rendered.PRODUCTS)
        if number % 3 == 0:
            yield rendered.product(kind, 10_000 + subject, 0, studio=True), kind
        else:
            yield rendered.product(kind, subject // 2, subject % 2, studio=False), kind


def _textures(count: int) -> Iterator[Labelled]:
    for number in range(count):
        kind = rendered.TEXTURES[number % len(rendered.TEXTURES)]
        subject = number // len(rendered.TEXTURES)
        yield rendered.texture(kind, subject // 3, subject % 3), kind


def _land(count: int) -> Iterator[Labelled]:
    for number in range(count):
        kind = rendered.GROUNDS[number % len(rendered.GROUNDS)]
        subject = number // len(rendered.GROUNDS)
        yield rendered.land(kind, subject // 3, subject % 3), kind


def _digits(count: int) -> Iterator[Labelled]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for pixels, label in zip(images[:count], labels[:count], strict=True):
        yield (
            Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype(np.uint8)),
            str(label),
        )


RENDERED = (
    Kind("scenes", None, True, True, _scenes),
    Kind("products", None, True, True, _products),
    Kind("textures", None, True, True, _textures),
    Kind("land from above", None, True, True, _land),
    Kind("digits", None, False, True, _digits),
)


def fashion(folder: Path) -> Kind:
    """Images of an IDX folder, those of train first."""

    def pictures(count: int) -> Iterator[Labelled]:
        for part in ("train", "t10k"):
            with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as opened:
                opened.read(16)
                pixels = np.frombuffer(opened.read(count * 784), np.uint8).reshape(-1, 28, 28)
            with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as opened:
                opened.read(8)
                labels = np.frombuffer(opened.read(count), np.uint8)
            for one, label in zip(pixels, labels, strict=True):
                yield Image.fromarray(one), str(label)
            count -= len(pixels)
            if count <= 0:
                return

    return Kind("Fashion-MNIST", None, False, False, pictures)


def folder(name: str, root: Path, *, size: int | None = None, lossy: bool = True) -> Kind:
    """Photographs below a folder, in a mixed order; the class is the name of the parent."""

    def pictures(count: int) -> Iterator[Labelled]:
        paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in _EXTENSIONS)
        order = np.random.default_rng(0).permutation(len(paths))
        for path in (paths[at] for at in order[:count]):
            with Image.open(path) as opened:
                opened.draft("RGB", (_MOST_SIDE, _MOST_SIDE))
                image = opened.convert("RGB")
            image.thumbnail((_MOST_SIDE, _MOST_SIDE))
            yield image, path.parent.name

    return Kind(name, size, lossy, False, pictures)
