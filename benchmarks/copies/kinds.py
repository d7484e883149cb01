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
        family: kinds of one family are left out together.
        known: whether no two of its pictures are copies for certain, so that every pair that is
            found and was not planted is wrong.
        pictures: gives the pictures.
    """

    name: str
    family: str
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
    Kind("scenes", "scenes", True, _scenes),
    Kind("products", "products", True, _products),
    Kind("textures", "textures", True, _textures),
    Kind("land from above", "land from above", True, _land),
    Kind("digits", "digits", True, _digits),
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

    return Kind("Fashion-MNIST", "Fashion-MNIST", False, pictures)


def folder(name: str, root: Path) -> Kind:
    """Photographs below a folder, in a mixed order; the class is the name of the parent.

    A folder without classes gets two, since the check needs them.
    """

    def pictures(count: int) -> Iterator[Labelled]:
        paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in _EXTENSIONS)
        order = np.random.default_rng(0).permutation(len(paths))
        parents = {path.parent for path in paths}
        for number, path in enumerate(paths[at] for at in order[:count]):
            with Image.open(path) as opened:
                opened.draft("RGB", (_MOST_SIDE, _MOST_SIDE))
                image = opened.convert("RGB")
            image.thumbnail((_MOST_SIDE, _MOST_SIDE))
            yield image, path.parent.name if len(parents) > 1 else f"half{number % 2}"

    return Kind(name, name, False, pictures)


def is_small(kind: Kind, side: int = 32) -> bool:
    """Whether its pictures have at most ``side`` pixels a side as they are."""
    image, _ = next(kind.pictures(1))
    return max(image.size) <= side


def small(kind: Kind, side: int = 32) -> Kind:
    """The same pictures at ``side`` pixels, squeezed to squares.

    Where little is left of a picture, agreement means less.
    """

    def pictures(count: int) -> Iterator[Labelled]:
        for image, label in kind.pictures(count):
            yield image.resize((side, side), Image.Resampling.BICUBIC), label

    return Kind(f"{kind.name}, {side} px", kind.family, kind.known, pictures)
