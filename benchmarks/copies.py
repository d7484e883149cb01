"""Precision and recall of the search for near duplicates, on pairs with known truth.

    python benchmarks/copies.py                   generated scenes and digits
    python benchmarks/copies.py --birds FOLDER    also a folder whose file names contain the truth

Generated: 2,000 scenes of ten kinds, of which 1,000 have one copy each in the test split, 100 for
each way of copying. Digits: the 1,797 embedded ones, of which 160 have a copy. A pair is right if
it is an image and its own copy; everything else that is found is wrong.

Birds: in class Brown-Headed-Barbet the number of the photograph is part of the file name. An image
in the test split counts as found if a pair joins it to an image in train or val with the same
number. Pairs with different numbers are drawn side by side in a PNG file, for people to judge.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from normlab.checks.copies.near import NearCopies, near_copies
from normlab.checks.image_set import ImageSet, read_image_set
from normlab.data import DataConfig
from scenes import COPIES, crop, is_plain, scene

WAYS = {**COPIES, "cropped to 40 to 60 % of a side": crop(0.4, 0.6)}
MARGINS = (1.0, 1.1, 1.25, 1.5)
KINDS = 10


def plant_scenes(root: Path, count: int, each: int) -> dict[str, str]:
    """Put scenes in train and copies in test; return how each copy was made."""
    how: dict[str, str] = {}
    ways = [way for way in WAYS for _ in range(each)]
    for number in range(count):
        kind = number % KINDS
        picture = scene(number, kind)
        save(picture, root / "train" / f"kind{kind}" / f"{number:05d}.jpg")
        if number < len(ways):
            rng = np.random.default_rng([1, number])
            made = WAYS[ways[number]](picture, rng)
            save(made, root / "test" / f"kind{kind}" / f"{number:05d}.jpg")
            how[f"{number:05d}"] = ways[number]
    return how


def plant_digits(root: Path, each: int) -> dict[str, str]:
    """Put the digits in train as PNG files, and copies that eight pixels allow in test."""
    how: dict[str, str] = {}
    images, labels = load_digits(return_X_y=True)
    names = ("recompressed", "brightened", "flipped or quarter-turned", "padded")
    ways = [name for name in names for _ in range(each)]
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        picture = Image.fromarray((pixels.reshape(8, 8) * 255 / 16).round().astype(np.uint8))
        save(picture, root / "train" / str(label) / f"{number:05d}.png")
        if number < len(ways):
            made = COPIES[ways[number]](picture, np.random.default_rng([2, number]))
            save(made, root / "test" / str(label) / f"{number:05d}.png")
            how[f"{number:05d}"] = ways[number]
    return how


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=90) if path.suffix == ".jpg" else picture.save(path)


def search(root: Path) -> tuple[ImageSet, NearCopies, float]:
    whole = read_image_set(DataConfig(str(root)))
    began = time.perf_counter()
    found = near_copies(whole)
    return whole, found, time.perf_counter() - began


def table(title: str, root: Path, how: dict[str, str]) -> None:
    """Recall by way of copying, and precision, at several thresholds."""
    whole, found, seconds = search(root)
    stems = np.array([Path(name).stem for name in whole.names.tolist()])
    ends = stems[found.pairs]
    right = ends[:, 0] == ends[:, 1]
    over = found.evidence / found.needed
    planted = Counter(how.values())
    exact = {
        stem
        for stem in how
        if len(np.unique(whole.digests[stems == stem])) < int((stems == stem).sum())
    }
    print(f"\n{title}: {len(whole):,} images, {len(found):,} pairs found in {seconds:.1f} s;")
    print(f"{len(exact)} planted copies are exact and are found by their pixels.")
    print(f"| {'evidence / threshold':30} |" + "".join(f" {m:>6.2f} |" for m in MARGINS))
    print("| --- |" + " ---: |" * len(MARGINS))
    for way, count in planted.items():
        cells = []
        for margin in MARGINS:
            hits = {
                stem for stem, ok in zip(ends[:, 0], right & (over >= margin), strict=True) if ok
            }
            got = sum(1 for stem in hits | exact if how.get(stem) == way)
            cells.append(f"{100 * got / count:.0f} %")
        print(f"| recall, {way:22} |" + "".join(f" {cell:>6} |" for cell in cells))
    shares = [
        f"{100 * right[over >= m].mean():.1f} %" if (over >= m).any() else "–" for m in MARGINS
    ]
    print(f"| {'precision':30} |" + "".join(f" {share:>6} |" for share in shares))
    wrong = [str(int((~right & (over >= m)).sum())) for m in MARGINS]
    print(f"| {'wrong pairs':30} |" + "".join(f" {count:>6} |" for count in wrong))
    if title.startswith("Generated"):
        alike = np.array(
            [[is_plain(int(stem), int(stem) % KINDS) for stem in pair] for pair in ends]
        )
        rest = [str(int((~right & ~alike.all(1) & (over >= m)).sum())) for m in MARGINS]
        print(f"| {'of these not two plain scenes':30} |" + "".join(f" {n:>6} |" for n in rest))
        missed = set(how) - exact - set(ends[right][:, 0].tolist())
        plain = [sum(is_plain(int(s), int(s) % KINDS) for s in stems_) for stems_ in (missed, how)]
        print(f"{len(missed)} copies are missed; {plain[0]} of them are plain scenes. Of all")
        print(f"{len(how)} scenes with a copy, {plain[1]} are plain.")


def birds(root: Path, sheet: Path) -> None:
    """The class whose names carry the photograph's number."""
    whole, found, seconds = search(root)
    label = whole.classes.index("Brown-Headed-Barbet")
    numbers = np.array(
        [
            found_[1] if (found_ := re.search(r"Bird-Image(\d+)", name)) else ""
            for name in whole.names.tolist()
        ]
    )
    of_class = whole.labels == label
    test = whole.split == 2
    pool = set(numbers[of_class & ~test].tolist()) - {""}
    asked = np.flatnonzero(of_class & test & np.isin(numbers, list(pool)))
    # Files with equal pixels represent each other.
    same: dict[int, list[int]] = {}
    for row, digest in enumerate(whole.digests.tolist()):
        same.setdefault(digest, []).append(row)
    print(f"\nBirds: {len(whole):,} images, {len(found):,} pairs in {seconds:.1f} s")
    print(f"{len(asked)} of {int((of_class & test).sum())} Brown-Headed-Barbet test images have")
    print("their photograph in train or val by name.")
    over = found.evidence / found.needed
    print("| evidence / threshold | found | recall | test-pool pairs | same number | precision |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    doubtful: list[tuple[int, int, float]] = []
    for margin in MARGINS:
        hit, pairs = set(), []
        for (one, two), ratio in zip(found.pairs.tolist(), over.tolist(), strict=True):
            if ratio < margin:
                continue
            for a in same[int(whole.digests[one])]:
                for b in same[int(whole.digests[two])]:
                    if not (of_class[a] and of_class[b]) or test[a] == test[b]:
                        continue
                    mine, other = (a, b) if test[a] else (b, a)
                    good = numbers[mine] == numbers[other]
                    pairs.append((mine, other, ratio, good))
                    if good:
                        hit.add(mine)
        for rows in same.values():
            inside = [row for row in rows if of_class[row]]
            if len(inside) > 1 and any(not test[row] for row in inside):
                hit |= {row for row in inside if test[row]}
        wanted = set(asked.tolist())
        good = sum(pair[3] for pair in pairs)
        print(
            f"| {margin:.2f} | {len(hit & wanted)} of {len(wanted)} | "
            f"{100 * len(hit & wanted) / len(wanted):.1f} % | {len(pairs)} | {good} | "
            f"{100 * good / len(pairs):.1f} % |"
        )
        if margin == MARGINS[0]:
            doubtful = [(a, b, ratio) for a, b, ratio, good in pairs if not good]
    draw_pairs(whole, doubtful, sheet)
    print(f"{len(doubtful)} pairs with different numbers, side by side: {sheet}")
    others = found.pairs[whole.labels[found.pairs[:, 0]] != whole.labels[found.pairs[:, 1]]]
    print(f"Pairs with different labels, in all classes: {len(others)}")


def draw_pairs(whole: ImageSet, pairs: list[tuple[int, int, float]], path: Path) -> None:
    """Pairs side by side, weakest first."""
    side, columns = 128, 4
    rows = -(-len(pairs) // columns)
    canvas = Image.new("RGB", (columns * (2 * side + 20), rows * (side + 16)), "white")
    draw = ImageDraw.Draw(canvas)
    for at, (one, two, ratio) in enumerate(sorted(pairs, key=lambda pair: pair[2])):
        x, y = (at % columns) * (2 * side + 20), (at // columns) * (side + 16)
        for shift, row in ((0, one), (side + 2, two)):
            pixels = whole.images([row])[0]
            picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
            canvas.paste(picture.convert("RGB").resize((side, side)), (x + shift, y + 14))
        draw.text((x, y), f"{at + 1}: {ratio:.2f}", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--birds", type=Path, help="the folder with train, val and test")
    parser.add_argument("--sheet", type=Path, default=Path("pairs.png"))
    asked = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        table("Generated scenes", root / "scenes", plant_scenes(root / "scenes", 2000, 100))
        table("Digits", root / "digits", plant_digits(root / "digits", 40))
    if asked.birds:
        birds(asked.birds, asked.sheet)


if __name__ == "__main__":
    main()
