"""Copies that other people found in a set and published, and how many of them the search finds."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from normlab.checks.copies.near import Search, distinct
from normlab.checks.copies.probability import LISTED, SURE
from normlab.checks.image_set import read_image_set
from normlab.data import DataConfig

from . import fitting
from .measuring import Measured


def listed(name: str, root: Path, lists: Sequence[Path], measured: Sequence[Measured]) -> None:
    """Print how many of the listed pairs are found in the whole set.

    Args:
        name: the family that the set belongs to; the weights come from the other families.
        root: the set.
        lists: CSV files of two paths below the set, and what people said about the pair.
        measured: all kinds.
    """
    weights = fitting.fitted([kind for kind in measured if kind.family != name])
    image_set = read_image_set(DataConfig(str(root)))
    rows = distinct(image_set)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as scratch:
        search = Search(image_set, rows, lambda *_: None, Path(scratch))
        judged = search.judged(search.candidates())
    chance = 1 / (1 + np.exp(-(judged.measures.double().numpy() @ weights.of + weights.intercept)))
    ends = np.sort(rows[np.stack([judged.first.numpy(), judged.second.numpy()], 1)], 1)
    chances = dict(zip(map(tuple, ends.tolist()), chance.tolist(), strict=True))
    row = {path: number for number, path in enumerate(image_set.names.tolist())}
    between = image_set.split[ends[:, 0]] != image_set.split[ends[:, 1]]
    copied = {
        least: set(ends[between & (chance >= least)].flatten().tolist()) for least in (LISTED, SURE)
    }
    print(f"\n{name}: {len(image_set):,} images, {int((chance >= LISTED).sum()):,} pairs listed, ")
    print(f"{int((between & (chance >= LISTED)).sum()):,} of them between splits\n")
    print("| list | said | pairs | listed here | sure here | as a copy of any | sure |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for path in lists:
        with path.open(newline="") as opened:
            lines = [line for line in csv.reader(opened) if line[0] in row and line[1] in row]
        for said, _ in sorted(Counter(line[2] for line in lines).items()):
            pairs = [sorted((row[a], row[b])) for a, b, word in lines if word == said]
            first = {row[a] for a, _, word in lines if word == said}
            found = np.array([chances.get((a, b), 0.0) for a, b in pairs])
            cells = [path.name, said, f"{len(pairs)}"]
            cells += [_of(int((found >= least).sum()), len(pairs)) for least in (LISTED, SURE)]
            if any(image_set.split[a] == image_set.split[b] for a, b in pairs):
                cells += ["–", "–"]
            else:
                cells += [_of(len(first & copied[least]), len(first)) for least in (LISTED, SURE)]
            print("| " + " | ".join(cells) + " |")


def _of(number: int, every: int) -> str:
    return f"{number} of {every} ({100 * number / max(every, 1):.1f} %)"
