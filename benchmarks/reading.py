"""How fast batches come from the cache, beside decoding the JPEG files anew in every epoch.

python benchmarks/reading.py [images] [threads]

Both sides alternate in one run, each warm before the first round; ratios are taken within a round,
and the tables give medians and ranges over the rounds. Files of 256 px are made on the spot
(``photographs.py``).

Decoding is done by two processes, which send uint8 batches of 64 px; their start does not count. It
is done twice over: by the package's own ``decode``, and by ``Image.open(...).convert("RGB")
.resize((64, 64))``, which checks nothing. Building is ``load`` with an empty cache and all cores,
beside that bare line without any result, on the same pool of processes. Memory is that of a process
that walks one epoch of a set of grey arrays, 1, 2, 4 and 8 times as large.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import photographs
import PIL
from PIL import Image
from ratios import Ratio, tell

from normlab.data.decode import decode

# The processes that decode import this file too: what they do not need is imported further down.

ROUNDS, SIDE, PROCESSES = 5, 64, 2
BATCHES = (32, 128)
DECODED = 700
"""Images of an epoch that are decoded for a rate; the cache walks all of it."""
AT_LEAST = 0.3
"""Seconds that a quick side is repeated for in each round."""
BOUNDS = {"uint8": 20.0, "float32": 5.0, "float32, augmented": 5.0}
BUILD_BOUND = 0.8
ARRAYS = 4000

Pixels = npt.NDArray[np.uint8]


# -------------------------------------------------------------------------- files


def _write_arrays(root: Path, count: int) -> None:
    """The same values for every size of the set, as IDX files."""
    root.mkdir()
    block = np.random.default_rng(0).integers(0, 256, (ARRAYS, SIDE, SIDE), dtype=np.uint8)
    with (root / "train-images-idx3-ubyte").open("wb") as file:
        head = b"".join(n.to_bytes(4, "big") for n in (count, SIDE, SIDE))
        file.write(bytes([0, 0, 8, 3]) + head)
        for _ in range(count // ARRAYS):
            file.write(block.tobytes())
    labels = (np.arange(count) % 2).astype(np.uint8)
    (root / "train-labels-idx1-ubyte").write_bytes(
        bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + labels.tobytes()
    )


# -------------------------------------------------------------------------- decoding


def _bare(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((SIDE, SIDE))


def _batch_bare(paths: Sequence[str]) -> Pixels:
    return np.stack([np.asarray(_bare(path)) for path in paths])


def _batch_own(paths: Sequence[str]) -> Pixels:
    return np.stack([decode(path, SIDE) for path in paths])


def _drop(paths: Sequence[str]) -> int:
    for path in paths:
        _bare(path)
    return len(paths)


def _ready() -> int:
    """In a process that decodes: what it needs is imported."""
    import normlab.data.cache  # noqa: F401

    return os.getpid()


def _ready_bare() -> int:
    import PIL.JpegImagePlugin  # noqa: F401

    return os.getpid()


# -------------------------------------------------------------------------- measuring


def _rate(images: int, walk: Callable[[], Any], at_least: float = 0.0) -> float:
    """Images a second."""
    began, walks = time.perf_counter(), 0
    while not walks or time.perf_counter() - began < at_least:
        walk()
        walks += 1
    return images * walks / (time.perf_counter() - began)


def _walk(batches: Iterator[Any]) -> None:
    for _ in batches:
        pass


def _spread(values: Sequence[float], form: str) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def _batches(root: Path) -> None:
    """Batches from the cache beside batches decoded by two processes."""
    import multiprocessing

    from normlab.data import Augmentation, DataConfig, DeviceSplit, epoch_order, load

    data = load(DataConfig(str(root), image_size=SIDE))
    split = DeviceSplit(data, "train")
    count = len(split)
    paths = [str(root / name) for name in split.split.names.tolist()]

    def decoded(work: Callable[[Sequence[str]], Pixels], size: int, epoch: int) -> Iterator[Pixels]:
        order = epoch_order(0, epoch, count)[:DECODED].tolist()
        parts = (order[at : at + size] for at in range(0, len(order), size))
        return pool.imap(work, ([paths[row] for row in part] for part in parts))

    def cached(size: int, epoch: int) -> Iterator[Pixels]:
        order = epoch_order(0, epoch, count)
        return (split.split.images(order[at : at + size]) for at in range(0, count, size))

    augmentation = Augmentation(crop_pad=4, flip=True)
    slow = {
        "own decode": partial(decoded, _batch_own),
        "bare Pillow": partial(decoded, _batch_bare),
    }
    quick: dict[str, Callable[[int, int], Iterator[Any]]] = {
        "uint8": cached,
        "float32": lambda size, epoch: split.epoch(size, 0, epoch),
        "float32, augmented": lambda size, epoch: split.epoch(size, 0, epoch, augmentation),
    }
    sides = {
        **{name: (make, min(count, DECODED), 0.0) for name, make in slow.items()},
        **{name: (make, count, AT_LEAST) for name, make in quick.items()},
    }
    rates: dict[tuple[str, int], list[float]] = {}
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for make, _, _ in sides.values():
            _walk(make(BATCHES[0], 0))
        for epoch in range(ROUNDS):
            for size in BATCHES:
                for name, (make, images, at_least) in sides.items():
                    rate = _rate(images, lambda m=make, k=size, e=epoch: _walk(m(k, e)), at_least)
                    rates.setdefault((name, size), []).append(rate)

    print(f"Batches of {SIDE} px from {count:,} images: images a second\n")
    print("| side | batch | images/s: median (range) |\n| --- | ---: | --- |")
    for (name, size), values in rates.items():
        print(f"| {name} | {size} | {_spread(values, ',.0f')} |")
    tell(
        *(
            Ratio.of(
                f"batches of {size} from the cache, {name}, beside {other}, images per second",
                [a / b for a, b in zip(rates[name, size], rates[other, size], strict=True)],
                at_least=bound,
            )
            for name, bound in BOUNDS.items()
            for size in BATCHES
            for other in slow
        )
    )


def _building(root: Path, paths: Sequence[Path]) -> None:
    """``load`` with an empty cache beside Pillow alone, on one pool of processes."""
    import joblib
    from joblib.externals.loky import get_reusable_executor

    from normlab.data import DataConfig, load

    home = os.environ["NORMLAB_CACHE"]
    processes = joblib.cpu_count()
    parts = [[str(path) for path in paths[at : at + 32]] for at in range(0, len(paths), 32)]

    def everywhere(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        parallel = joblib.Parallel(n_jobs=-1, backend="loky", batch_size=1)
        return parallel(joblib.delayed(work)(*each) for each in arguments)

    def started(work: Callable[[], int]) -> float:
        get_reusable_executor().shutdown(wait=True)
        began = time.perf_counter()
        everywhere(work, [()] * processes)
        return time.perf_counter() - began

    def build() -> None:
        with tempfile.TemporaryDirectory(dir=home) as empty:
            os.environ["NORMLAB_CACHE"] = empty
            load(DataConfig(str(root), image_size=SIDE))
        os.environ["NORMLAB_CACHE"] = home

    def bare() -> float:
        return _rate(len(paths), lambda: everywhere(_drop, [(part,) for part in parts]))

    starts = [(started(_ready_bare), started(_ready)) for _ in range(3)]
    build()
    # Each build stands between two passes of Pillow, whose mean it is compared to.
    around, built = [bare()], []
    for _ in range(ROUNDS):
        built.append(_rate(len(paths), build))
        around.append(bare())
    beside = [2 / (1 / one + 1 / two) for one, two in pairwise(around)]
    shares = [ours / theirs for ours, theirs in zip(built, beside, strict=True)]
    print(f"\nBuilding the cache, {len(paths):,} files, {processes} processes that are up\n")
    print("| side | images/s: median (range) | start of the processes, s: median of 3 |")
    print("| --- | --- | ---: |")
    ends = [statistics.median(side) for side in zip(*starts, strict=True)]
    print(f"| load, cache empty | {_spread(built, ',.0f')} | {ends[1]:.2f} |")
    print(f"| bare Pillow | {_spread(around, ',.0f')} | {ends[0]:.2f} |")
    tell(
        Ratio.of(
            "building the cache beside Pillow alone, images per second",
            shares,
            at_least=BUILD_BOUND,
        )
    )


def _resident() -> dict[str, float]:
    """MB of this process, anonymous and of files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def _epoch_in_memory(source: str, threads: int) -> None:
    """One epoch; prints MB before, the most within, and the pixels of the set."""
    import torch

    from normlab.data import Augmentation, DataConfig, DeviceSplit, load
    from normlab.studies import keep_memory

    torch.set_num_threads(threads)
    augmentation = Augmentation(crop_pad=4, flip=True)
    split = DeviceSplit(load(DataConfig(source)), "train")
    keep_memory()
    _walk(islice(split.epoch(BATCHES[-1], 0, 0, augmentation), 10))
    before = _resident()
    most = dict(before)
    for _ in split.epoch(BATCHES[-1], 0, 1, augmentation):
        now = _resident()
        most = {name: max(most[name], now[name]) for name in now}
    pixels = len(split) * SIDE * SIDE / 2**20
    print(before["RssAnon"], most["RssAnon"], most["RssFile"], pixels)


def _memory(folder: Path, threads: int) -> None:
    from normlab.data import DataConfig, load

    print("\nMemory of a process over one epoch (batch 128, float32, augmented), MB\n")
    print("| times | images | pixels | anonymous before | anonymous, most | of files, most |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    grown, sizes = [], []
    for times in (1, 2, 4, 8):
        source = folder / f"arrays-{times}"
        _write_arrays(source, times * ARRAYS)
        load(DataConfig(str(source)))
        command = [sys.executable, __file__, "epoch", str(source), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, most, files, pixels = map(float, done.stdout.split())
        grown.append(most)
        sizes.append(pixels)
        shutil.rmtree(source)
        print(
            f"| {times} | {times * ARRAYS:,} | {pixels:.0f} | {before:.0f} | {most:.0f} "
            f"| {files:.0f} |"
        )
    more, larger = grown[-1] - grown[0], sizes[-1] - sizes[0]
    print(f"\n{larger:.0f} MB more of pixels take {more:.0f} MB more of anonymous memory")


def main() -> None:
    import torch

    from normlab.studies import keep_memory

    if sys.argv[1:2] == ["epoch"]:
        _epoch_in_memory(sys.argv[2], int(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    torch.set_num_threads(threads)
    keep_memory()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["NORMLAB_CACHE"] = str(folder / "cache")
        (folder / "cache").mkdir()
        paths = photographs.write(folder / "photos", 2, count)
        low, middle, high = np.percentile(
            [path.stat().st_size / 1000 for path in paths], [5, 50, 95]
        )
        print(
            f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}, NumPy {np.__version__}, "
            f"torch {torch.__version__}; {os.cpu_count()} cores, {threads} thread(s); "
            f"n = {ROUNDS} rounds\n"
            f"{count:,} JPEG files of {photographs.SIDE} px, quality 85 to 90: "
            f"{middle:.1f} kB (5 to 95 %: {low:.1f} to {high:.1f} kB)\n"
        )
        _batches(folder / "photos")
        _building(folder / "photos", paths)
        _memory(folder, threads)


if __name__ == "__main__":
    main()
