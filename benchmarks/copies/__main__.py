"""Recall, precision and calibration of the search for near copies, each kind of pictures left out.

    PYTHONPATH=benchmarks python -m copies                          rendered kinds and digits
    ... --folder clothing=FOLDER --folder animals=FOLDER            and photographs
    ... --idx FOLDER                                                and Fashion-MNIST
    ... --listed CIFAR-10=FOLDER --list FILE                        and published copies of a set
    ... --birds FOLDER                                              and a set with known numbers
    ... --others                                                    and other methods (imagehash)
    ... --clean                                                     and whether a clean split is
    ... --fit                                                       and the weights by all of them

Of every kind 2,000 pictures are taken, and 20 copies are planted for every way of copying and each
of three strengths (``ways.py``), in pictures as they are and made 32 pixels small. What is told of
a kind was found by weights that were fitted to the kinds of other families. A pair of two pictures
that nobody planted counts as wrong, so copies that a folder had before count against the search;
those that it is sure of are listed for people to look at.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch

from normlab.checks.copies.probability import SURE
from normlab.checks.proportions import wilson

from . import fitting, kinds, others
from .birds import birds
from .listed import listed
from .measuring import Measured, Searched, searched
from .planting import plant
from .splitting import print_clean, print_header
from .ways import WAYS

_BINS = (0.4, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0 + 1e-9)
_SHOWN = 5

_METHODS: dict[str, Callable[[Searched], others.Scored]] = {
    "pHash": lambda made: others.by_hash(made.measured, made.image_set, made.rows, "phash"),
    "dHash": lambda made: others.by_hash(made.measured, made.image_set, made.rows, "dhash"),
    "network features": lambda made: others.by_network(made.measured, made.image_set, made.rows),
    "SSIM, aligned": lambda made: others.by_structure(made.measured, made.search, made.judged),
}


def _table(measured: list[Measured], chances: list[np.ndarray]) -> None:
    print("\nRecall in percent of listed pairs, and in brackets of sure ones.\n")
    print(
        "| kind, left out | precision, sure | wrong | precision, listed | wrong | "
        + " | ".join(way.name for way in WAYS)
        + " |"
    )
    print("| --- |" + " ---: |" * (4 + len(WAYS)))
    for kind, chance in zip(measured, chances, strict=True):
        cells = [
            kind.kind,
            *_precision(kind, chance >= SURE),
            *_precision(kind, fitting.listed(kind, chance)),
        ]
        listed = _recall(kind, fitting.listed(kind, chance))
        sure = _recall(kind, chance >= SURE)
        cells += [f"{listed[way.name]:.0f} ({sure[way.name]:.0f})" for way in WAYS]
        print("| " + " | ".join(cells) + " |")


def _precision(kind: Measured, listed: np.ndarray) -> tuple[str, str]:
    right, number = int((listed & kind.true).sum()), int(listed.sum())
    if not number:
        return "–", "0"
    low, high = wilson(right / number, number)
    return (
        f"{100 * right / number:.1f} % ({100 * low:.1f} to {100 * high:.1f})",
        f"{number - right}",
    )


def _recall(kind: Measured, listed: np.ndarray, ways: Collection[str] = ()) -> dict[str, float]:
    """In percent by way, and over all of ``ways`` under the name ``""``."""
    planted = Counter(way for way, _ in kind.planted.values())
    found = {way: sum(map(len, each)) for way, each in fitting.found_copies(kind, listed).items()}
    recall = {way.name: 100 * found.get(way.name, 0) / max(planted[way.name], 1) for way in WAYS}
    every = sum(planted[way] for way in ways)
    return {**recall, "": 100 * sum(found.get(way, 0) for way in ways) / max(every, 1)}


def _comparison(listed: dict[str, list[tuple[Measured, np.ndarray]]]) -> None:
    """The search beside other methods."""
    plain = {way.name for way in WAYS if way.group == "plain"}
    harder = {way.name for way in WAYS if way.group != "plain"}
    print("\nPrecision of what is listed, recall of plain ways and of the others, in percent.\n")
    print("| kind, left out | " + " | ".join(listed) + " |")
    print("| --- |" + " ---: |" * len(listed))
    kinds = [kind for kind, _ in next(iter(listed.values()))]
    sums = {method: np.zeros((len(kinds), 3)) for method in listed}
    for place, kind in enumerate(kinds):
        cells = []
        for method, by_kind in listed.items():
            one, which = by_kind[place]
            number = int(which.sum())
            precision = 100 * int((which & one.true).sum()) / number if number else 100.0
            found = precision, _recall(one, which, plain)[""], _recall(one, which, harder)[""]
            sums[method][place] = found
            cells.append(" / ".join(f"{value:.0f}" for value in found))
        print(f"| {kind.kind} | " + " | ".join(cells) + " |")
    for words, over in (("mean", np.mean), ("worst", np.min)):
        cells = [" / ".join(f"{over(sums[m][:, i]):.0f}" for i in range(3)) for m in listed]
        print(f"| {words} | " + " | ".join(cells) + " |")


def _calibration(measured: list[Measured], chances: list[np.ndarray]) -> None:
    chance, true = np.concatenate(chances), np.concatenate([kind.true for kind in measured])
    print("\n| probability | pairs | mean probability | copies |")
    print("| --- | ---: | ---: | ---: |")
    for low, high in itertools.pairwise(_BINS):
        here = (chance >= low) & (chance < high)
        if here.any():
            print(
                f"| {low:g} to {min(high, 1):g} | {here.sum():,} | {chance[here].mean():.3f} | "
                f"{true[here].mean():.3f} |"
            )


def _unplanted(measured: list[Measured], chances: list[np.ndarray]) -> None:
    for kind, chance in zip(measured, chances, strict=True):
        wrong = np.flatnonzero(~kind.true & (chance >= SURE))
        for place in wrong[np.argsort(-chance[wrong])][:_SHOWN].tolist():
            print(f"{kind.kind}: sure, but not planted: {' and '.join(kind.names[place])}")


def main() -> None:
    """Run what is asked."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(prog="python -m copies", description=lines[0])
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--idx", type=Path, help="a folder of IDX files, such as Fashion-MNIST")
    parser.add_argument("--birds", type=Path, help="the folder with train, val and test")
    parser.add_argument("--listed", metavar="NAME=FOLDER", help="a whole set with published copies")
    parser.add_argument("--list", type=Path, action="append", help="CSV: path, path, what was said")
    parser.add_argument("--work", type=Path, help="keeps the planted folders for another time")
    parser.add_argument("--count", type=int, default=2000, help="pictures of every kind")
    parser.add_argument("--each", type=int, default=20, help="copies for every way and strength")
    parser.add_argument("--others", action="store_true", help="compare with other methods")
    parser.add_argument("--clean", action="store_true", help="make clean splits and check them")
    parser.add_argument("--fit", action="store_true", help="print the weights by all kinds")
    asked = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
    every = [*kinds.RENDERED, *([kinds.fashion(asked.idx)] if asked.idx else [])]
    for named in asked.folder:
        name, _, where = named.partition("=")
        every.append(kinds.folder(name, Path(where)))
    every += [kinds.small(kind) for kind in every if not kinds.is_small(kind)]
    measured: list[Measured] = []
    scored: dict[str, list[others.Scored]] = {name: [] for name in _METHODS}
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        for kind in every:
            planted = plant(kind, work / kind.name, asked.count, asked.each)
            with searched(kind, planted) as made:
                measured.append(made.measured)
                told = f"{kind.name}: {made.measured.images:,} images"
                print(f"{told}, {made.measured.seconds:.0f} s of processor time", flush=True)
                if asked.others:
                    for name, score in _METHODS.items():
                        scored[name].append(score(made))
        if asked.clean:
            print_header()
            for kind in every:
                planted = plant(kind, work / kind.name, asked.count, asked.each)
                print_clean(kind.name, planted, work)
    chances = fitting.left_out(measured)
    _table(measured, chances)
    _calibration(measured, chances)
    _unplanted(measured, chances)
    if asked.others:
        both = list(zip(measured, chances, strict=True))
        by_method = {
            "this search": [(kind, fitting.listed(kind, chance)) for kind, chance in both],
            "its sure pairs": [(kind, chance >= SURE) for kind, chance in both],
        }
        for name, each in scored.items():
            pairs = [one.measured for one in each]
            by_method[name] = list(zip(pairs, others.left_out(each), strict=True))
            if "Hash" in name:
                least = [one.score >= -others.DEFAULT_DISTANCE for one in each]
                by_method[f"{name}, 10 bits"] = list(zip(pairs, least, strict=True))
        _comparison(by_method)
    if asked.fit:
        print(fitting.source(fitting.fitted(measured)))
    if asked.list:
        name, _, where = asked.listed.partition("=")
        listed(name, Path(where), asked.list, measured)
    if asked.birds:
        birds(asked.birds)


if __name__ == "__main__":
    main()
