"""pairs.csv: every copy that was found, exact and near, so that its owner can find the files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ...files import csv_text
from ...splits import SPLITS
from ..image_set import ImageSet
from .decisions import COPY, DIFFERENT, written
from .exact import ExactCopies
from .groups import Copies

Rows = npt.NDArray[np.int64]

COLUMNS = (
    "first", "second", "kind", "probability", "decision", "across", "first_split", "second_split",
    "first_class", "second_class", "first_content", "second_content",
)  # fmt: skip

_MOST = 0.9999
"""What a near copy's probability is written as at most: 1 is a fact."""


def copies_csv(copies: Copies) -> str:
    """pairs.csv: exact copies, then near ones, surest first.

    Columns: ``first`` and ``second`` (paths inside the source), ``kind`` (``exact bytes``,
    ``exact pixels``, ``near``), ``probability`` (1 for a fact), ``decision`` (``copy``,
    ``different``, or empty where nobody decided), ``across`` (``yes`` if the two are in different
    splits), the split, class and hash of the content of both. With its column ``decision`` filled
    in, the file can be given to ``--decisions``.

    Of images with several equal files, the first by name is listed with each of the others, and a
    near copy of it likewise: so the table grows with the number of files, not with its square.
    """
    return csv_text(COLUMNS, chain(_exact(copies.exact), _near(copies)))


def exact_csv(exact: ExactCopies) -> str:
    """pairs.csv with exact copies alone, see :func:`copies_csv`."""
    return csv_text(COLUMNS, _exact(exact))


def _exact(exact: ExactCopies) -> Iterator[dict[str, Any]]:
    image_set = exact.image_set
    for rows in _files(image_set, exact.group).values():
        for row in rows[1:]:
            same = image_set.contents[rows[0]] == image_set.contents[row]
            kind = "exact bytes" if same else "exact pixels"
            yield _row(image_set, rows[0], row, kind, "1", "")


def _near(copies: Copies) -> Iterator[dict[str, Any]]:
    image_set, node = copies.image_set, copies.exact.group
    several = _files(image_set, node)
    near, judged = copies.near, copies.judged
    for pair in judged.added.tolist():
        ends = [int(np.flatnonzero(node == at)[0]) for at in pair]
        yield from _between(image_set, several, node, ends, "1", COPY)
    for (one, two), probability, decision in zip(
        near.pairs.tolist(), near.probability.tolist(), judged.decision.tolist(), strict=True
    ):
        said = {1: COPY, -1: DIFFERENT, 0: ""}[decision]
        sure = f"{min(probability, _MOST):.4f}"
        yield from _between(image_set, several, node, [one, two], sure, said)


def _between(
    image_set: ImageSet,
    several: dict[int, list[int]],
    node: Rows,
    ends: list[int],
    probability: str,
    decision: str,
) -> Iterator[dict[str, Any]]:
    """A pair of images as pairs of files: the first of each with all of the other."""
    one, two = (several.get(int(node[end]), [end]) for end in ends)
    for second in two:
        yield _row(image_set, one[0], second, "near", probability, decision)
    for first in one[1:]:
        yield _row(image_set, first, two[0], "near", probability, decision)


def _files(image_set: ImageSet, node: Rows) -> dict[int, list[int]]:
    """Number of an image that has several files to their rows, in the order of their names."""
    order = np.lexsort((image_set.names, node))
    groups = np.split(order, np.flatnonzero(np.diff(node[order])) + 1)
    return {int(node[rows[0]]): rows.tolist() for rows in groups if len(rows) > 1}


def _row(
    image_set: ImageSet, first: int, second: int, kind: str, probability: str, decision: str
) -> dict[str, Any]:
    splits = [SPLITS[image_set.split[row]] for row in (first, second)]
    return {
        "first": str(image_set.names[first]),
        "second": str(image_set.names[second]),
        "kind": kind,
        "probability": probability,
        "decision": decision,
        "across": "yes" if splits[0] != splits[1] else "no",
        "first_split": splits[0],
        "second_split": splits[1],
        "first_class": image_set.classes[image_set.labels[first]],
        "second_class": image_set.classes[image_set.labels[second]],
        "first_content": written(int(image_set.contents[first])),
        "second_content": written(int(image_set.contents[second])),
    }
