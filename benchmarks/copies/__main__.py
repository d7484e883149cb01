"""Recall, precision and calibration of the search for near copies, each kind of pictures left out.

    PYTHONPATH=benchmarks python -m copies                          rendered kinds and digits
    ... --folder clothing=FOLDER --folder animals=FOLDER            and photographs
    ... --idx FOLDER                                                and Fashion-MNIST
    ... --birds FOLDER                                              and a set with known numbers
    ... --fit                                                       and the weights by all of them

Of every kind 2,000 pictures are taken, and 20 copies are planted for every way of copying and each
of three strengths (``ways.py``). What is told of a kind was found by weights that were fitted to
the other kinds. A pair of two pictures that nobody planted counts as wrong, so copies that a folder
had before count against the search; they are listed for people to look at.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from normlab.checks.proportions import wilson

from . import fitting, kinds
from .birds import birds
from .measuring import Measured, measure
from .planting import plant
from .ways import WAYS

_BINS = (0.5, 0.7, 0.9, 0.95, 0.99, 1.0 + 1e-9)
_SHOWN = 5


def _table(measured: list[Measured], chances: list[np.ndarray]) -> None:
    print("\n| kind | probability | precision | " + " | ".join(way.name for way in WAYS) + " |")
    print("| --- | ---: | ---: |" + " ---: |" * len(WAYS))
    for kind, chance in zip(measured, chances, strict=True):
        planted = Counter(way for way, _ in kind.planted.values())
        for least in (0.5, 0.95):
            listed = chance >= least
            found = fitting.found_copies(kind, chance, least)
            shares = [
                f"{100 * sum(map(len, found[way.name])) / max(planted[way.name], 1):.0f} %"
                for way in WAYS
            ]
            right, number = int((listed & kind.true).sum()), int(listed.sum())
            precision = "–"
            if number:
                low, high = wilson(right / number, number)
                precision = f"{100 * right / number:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            print(f"| {kind.kind} | {least} | {precision} | " + " | ".join(shares) + " |")


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
        wrong = np.flatnonzero(~kind.true & (chance >= 0.95))
        for place in wrong[np.argsort(-chance[wrong])][:_SHOWN].tolist():
            print(f"{kind.kind}: sure, but not planted: {' and '.join(kind.names[place])}")


def main() -> None:
    """Run what is asked."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(prog="python -m copies", description=lines[0])
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--idx", type=Path, help="a folder of IDX files, such as Fashion-MNIST")
    parser.add_argument("--birds", type=Path, help="the folder with train, val and test")
    parser.add_argument("--work", type=Path, help="keeps the planted folders for another time")
    parser.add_argument("--count", type=int, default=2000, help="pictures of every kind")
    parser.add_argument("--each", type=int, default=20, help="copies for every way and strength")
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
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        measured = [
            measure(kind.name, plant(kind, work / kind.name, asked.count, asked.each))
            for kind in every
        ]
    for kind in measured:
        print(f"{kind.kind}: {kind.images:,} images, {kind.seconds:.0f} s of processor time")
    chances = fitting.left_out(measured)
    _table(measured, chances)
    _calibration(measured, chances)
    _unplanted(measured, chances)
    if asked.fit:
        print(fitting.source(*fitting.fitted(measured)))
    if asked.birds:
        birds(asked.birds)


if __name__ == "__main__":
    main()
