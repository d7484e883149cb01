"""How long a whole study takes, beside the script that people write for themselves.

python benchmarks/whole_study.py --data FOLDER [--limit-per-class 100] [--epochs 20] [--repeats 1]

FOLDER has train, val and test with a folder for each class; so many training images of each class,
and a quarter as many of the others, are copied to a folder of their own, which both sides read.
Both train the seven arms on these images at one size, as many epochs in the same batches, evaluate
after each epoch, and leave curves, weights and results; ``plain_script.py`` says how the other side
does it. They alternate, each with the machine to itself and as many threads or processes as it
takes by default. normlab begins with an empty cache, so that it also hashes, decodes and checks the
files; with ``--warm`` it runs once more in each round, into a new folder.

Seconds on the clock, and of processors (all threads and processes).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ratios import Ratio, tell

SCRIPT = Path(__file__).with_name("plain_script.py")
PLAIN, EMPTY, WARM = "plain script", "normlab, empty cache", "normlab"


def subset(source: Path, target: Path, per_class: int) -> int:
    """Copy the first images of each class; returns how many there are to train with."""
    trained = 0
    for split in ("train", "val", "test"):
        many = per_class if split == "train" else max(1, per_class // 4)
        for of_class in sorted(path for path in (source / split).iterdir() if path.is_dir()):
            place = target / split / of_class.name
            place.mkdir(parents=True)
            for path in sorted(of_class.iterdir())[:many]:
                shutil.copy(path, place)
                trained += split == "train"
    return trained


def timed(command: list[str], folder: Path, cache: Path) -> tuple[float, float]:
    """Seconds on the clock, and of processors."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "NORMLAB_CACHE": str(cache)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return clock, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit-per-class", type=int, default=100)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--arms", default="torch_bn,bn,in,bin,ln,gn,none")
    given = parser.parse_args()
    shared = ["--image-size", str(given.image_size), "--epochs", str(given.epochs),
              "--arms", given.arms, "--seeds", "1"]  # fmt: skip
    found: dict[str, list[tuple[float, float]]] = {
        side: [] for side in (PLAIN, EMPTY, *([WARM] if given.warm else []))
    }
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        images = subset(given.data, here / "images", given.limit_per_class)
        arms = len(given.arms.split(","))
        print(f"{arms} arms, {images:,} training images of {given.image_size} px, "
              f"{given.epochs} epochs, batch 32; {os.cpu_count()} processors\n")  # fmt: skip
        for number in range(given.repeats):
            cache = here / f"cache-{number}"
            plain = [sys.executable, str(SCRIPT), "images", *shared, "--out", f"plain-{number}"]
            ours = [sys.executable, "-m", "normlab", "compare", "--data", "images", *shared]
            sides = {
                PLAIN: plain,
                EMPTY: [*ours, "--out", f"empty-{number}"],
                WARM: [*ours, "--out", f"warm-{number}"],
            }
            for side in found:
                clock, spent = timed(sides[side], here, cache)
                found[side].append((clock, spent))
                print(f"round {number + 1}, {side}: {clock:.0f} s, {spent:.0f} s of processors",
                      flush=True)  # fmt: skip
    print("\n| side | seconds | of processors |\n| --- | ---: | ---: |")
    for side, times in found.items():
        clock, spent = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {side} | {clock:.0f} | {spent:.0f} |")
    tell(
        *(
            Ratio.of(
                f"a study: the plain script beside {side}, {unit}",
                [a[column] / b[column] for a, b in zip(found[PLAIN], found[side], strict=True)],
                at_least=3 if (side, column) == (EMPTY, 0) else None,
            )
            for side in found
            if side != PLAIN
            for column, unit in enumerate(("on the clock", "time of processors"))
        )
    )


if __name__ == "__main__":
    main()
