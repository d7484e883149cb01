"""Which marks the check for shortcuts finds when they are planted in one class, and what it calls
where nothing was planted.

    python benchmarks/marks.py                                  generated scenes and digits
    python benchmarks/marks.py --set clothing=FOLDER --set birds=FOLDER   also photos of one's own
    python benchmarks/marks.py --flat photos=FOLDER             photos without classes, in groups
    python benchmarks/marks.py --unmarked fashion=FOLDER        nothing is planted in these

A set is a folder of class folders. Of up to ten classes with the most images, up to ``--images``
each are drawn, reduced to their centre square of at most 256 pixels and saved alike. Then one class
at a time is marked, in all of its images and in 60 % of them. It is found if a finding about
shortcuts that deserves a look names the class and no other. Nothing here is random but by number.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from marked import MARKS, Change
from normlab.checks.image_set import ImageSet, read_image_set
from normlab.checks.proportions import wilson
from normlab.checks.shortcuts.shortcuts import shortcuts
from normlab.data import DataConfig
from normlab.pages.findings import Level
from scenes import scene

SHARES = (1.0, 0.6)
SIDE = 256
CLASSES = 10
GROUPS = 6
QUALITY = 92


@dataclass(frozen=True)
class Kind:
    """A way to mark a class: a change of its pictures, or the quality at which they are saved."""

    change: Change | None = None
    quality: int | None = None


SAVED = "saved at quality 75"
KINDS = {name: Kind(change) for name, change in MARKS.items()} | {SAVED: Kind(quality=75)}


def saved(image: Image.Image, path: Path, quality: int = QUALITY) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=quality)


def square(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (SIDE, SIDE))
        whole = image.convert("RGB")
    short = min(whole.size)
    side = min(short, SIDE)
    x, y = ((length - short) / 2 for length in whole.size)
    box = (x, y, x + short, y + short)
    return whole.resize((side, side), Image.Resampling.BICUBIC, box=box)


def images_in(folder: Path) -> list[Path]:
    known = set(Image.registered_extensions())
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in known)


def drawn(paths: list[Path], count: int, number: int) -> list[Path]:
    order = np.random.default_rng([3, number]).permutation(len(paths))[:count]
    return [paths[at] for at in sorted(order.tolist())]


def from_folder(folder: Path, root: Path, count: int) -> None:
    """A set with the class folders of this one, or of its train folder."""
    inner = folder / "train"
    base = inner if inner.is_dir() else folder
    classes = [(images_in(path), path.name) for path in sorted(base.iterdir()) if path.is_dir()]
    classes.sort(key=lambda pair: -min(len(pair[0]), count))
    for number, (paths, name) in enumerate(classes[:CLASSES]):
        for at, path in enumerate(drawn(paths, count, number)):
            saved(square(path), root / name / f"{at:04d}.jpg")


def from_flat(folder: Path, root: Path, count: int) -> None:
    """A set of groups of neighbours by name."""
    paths = images_in(folder)
    for number in range(GROUPS):
        start, stop = (len(paths) * at // GROUPS for at in (number, number + 1))
        for at, path in enumerate(drawn(paths[start:stop], count, number)):
            saved(square(path), root / f"group{number}" / f"{at:04d}.jpg")


def from_scenes(root: Path, count: int) -> None:
    """Classes of scenes between which there is no difference at all."""
    for number in range(GROUPS):
        for at in range(count):
            picture = scene(10_000 * number + at, 0, 128)
            saved(picture, root / f"class{number}" / f"{at:04d}.jpg")


def mark(root: Path, name: str, kind: Kind, share: float, number: int) -> None:
    """Mark this share of a class in place."""
    rng = np.random.default_rng([4, number])
    paths = images_in(root / name)
    for at in sorted(rng.permutation(len(paths))[: round(share * len(paths))].tolist()):
        if kind.change is None:
            with Image.open(paths[at]) as image:
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=kind.quality)
            paths[at].write_bytes(buffer.getvalue())
        else:
            with Image.open(paths[at]) as image:
                changed = kind.change(image.convert("RGB"), rng)
            saved(changed, paths[at])


def called(image_set: ImageSet) -> list[tuple[Level, str]]:
    """Sentences that deserve a look."""
    found = shortcuts(image_set).findings()
    return [(one.level, one.sentence) for one in found if one.level is not Level.FINE]


def names_in(sentences: list[tuple[Level, str]], classes: tuple[str, ...]) -> set[str]:
    """Classes that findings name; a name within a longer one does not count."""
    named = set()
    for _, sentence in sentences:
        rest = sentence
        for name in sorted(classes, key=lambda name: -len(name)):
            if f" {name} " in f" {rest.replace(',', ' ').replace('.', ' ').replace(':', ' ')} ":
                named.add(name)
                rest = rest.replace(name, "")
    return named


def planted(title: str, root: Path, work: Path, only: str) -> list[tuple[int, int]]:
    """Print what is found of every kind; return found and tried of each share."""
    classes = tuple(sorted(path.name for path in root.iterdir()))
    before = names_in(called(read_image_set(DataConfig(str(root)))), classes)
    free = [name for name in classes if name not in before] or list(classes)
    print(
        f"\n{title}: {len(classes)} classes, {len(images_in(root)):,} images; without any mark",
        end=" ",
    )
    print(f"{', '.join(sorted(before))} named." if before else "no class is named.")
    print(
        "| planted in one class | "
        + " | ".join(f"in {100 * s:.0f} %" for s in SHARES)
        + " | other classes named |"
    )
    print("| --- |" + " --- |" * len(SHARES) + " ---: |")
    totals = [(0, 0)] * len(SHARES)
    for number, (how, kind) in enumerate(KINDS.items()):
        if only and only not in how:
            continue
        cells, wrong = [], 0
        for at, share in enumerate(SHARES):
            marked, name = work / f"{number}-{at}", free[(number + at) % len(free)]
            shutil.copytree(root, marked, copy_function=os.link)
            for path in images_in(marked / name):
                content = path.read_bytes()
                path.unlink()
                path.write_bytes(content)
            mark(marked, name, kind, share, number)
            sentences = called(read_image_set(DataConfig(str(marked))))
            named = names_in(sentences, classes)
            found = name in named
            wrong += len(named - {name} - before)
            worst = max(
                (level for level, _ in sentences), key=lambda level: level.rank, default=None
            )
            cells.append(
                f"found, {'invalid' if worst is Level.INVALID else 'look'}" if found else "missed"
            )
            totals[at] = totals[at][0] + found, totals[at][1] + 1
            shutil.rmtree(marked)
        print(f"| {how} | " + " | ".join(cells) + f" | {wrong} |", flush=True)
    return totals


def unmarked(title: str, source: str) -> None:
    """Print what is called where nothing was planted."""
    began = time.perf_counter()
    image_set = read_image_set(DataConfig(source))
    found = called(image_set)
    seconds = time.perf_counter() - began
    counts = f"{len(image_set):,} | {len(image_set.classes)} | {len(found)}"
    print(f"| {title} | {counts} | {seconds:.0f} s |")
    for level, sentence in found:
        print(f"{title}: {level}: {sentence}", file=sys.stderr)


def named_folder(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER with a folder that exists")
    return name, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = {"type": named_folder, "action": "append", "default": [], "metavar": "NAME=FOLDER"}
    parser.add_argument("--set", help="a folder of class folders", **add)
    parser.add_argument("--flat", help="a folder of images without classes", **add)
    parser.add_argument("--unmarked", help="a source in which nothing is planted", **add)
    parser.add_argument("--images", type=int, default=120, help="of each class [default: 120]")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        os.environ["NORMLAB_CACHE"] = str(base / "cache")
        sets = {"scenes": base / "sets" / "scenes"}
        from_scenes(sets["scenes"], asked.images)
        for make, given in ((from_folder, asked.set), (from_flat, asked.flat)):
            for name, folder in given:
                sets[name] = base / "sets" / name
                make(folder, sets[name], asked.images)
        totals = {
            name: planted(name, root, base / "work", asked.only) for name, root in sets.items()
        }
        print("\n| set | " + " | ".join(f"found in {100 * s:.0f} %" for s in SHARES) + " |")
        print("| --- |" + " --- |" * len(SHARES))
        for name, counts in totals.items():
            cells = [
                f"{hit} of {tried} ({100 * low:.0f} to {100 * high:.0f} %)"
                for hit, tried in counts
                for low, high in [wilson(hit / max(tried, 1), tried)]
            ]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print("\n| nothing planted | images | classes | findings | time |")
        print("| --- | ---: | ---: | ---: | ---: |")
        unmarked("digits", "digits")
        for name, root in sets.items():
            unmarked(f"{name}, drawn", str(root))
        for name, folder in asked.unmarked:
            unmarked(name, str(folder))


if __name__ == "__main__":
    main()
