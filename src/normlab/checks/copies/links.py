"""All copies of an image set as one graph: which images are linked, how surely, and what follows.

A node is an image: all files with equal bytes or equal pixels. A link is a pair of near copies, or
a pair that a person decided about. It holds for all files of its two nodes if they have a label in
common, or if a person confirmed it: a rotated 6 is a 9. Files of one node may have different
labels; it is linked through each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...data.grouping import joined
from ..image_set import ImageSet
from .decisions import Decisions
from .exact import ExactCopies
from .near import NearCopies
from .photographs import kept_together, photographs
from .probability import SURE

Rows = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Links:
    """The graph, for the rows of an image set.

    Attributes:
        node: (n,) rows with equal bytes or pixels have the same number.
        photograph: (n,) rows that count as one photograph have the same number.
        together: (n,) rows that a clean split keeps in one split have the same number.
        pairs: (k, 2) nodes, surest first.
        probability: (k,) that they are copies; 1 for what a person confirmed.
        confirmed: (k,) whether a person confirmed it.
        linked: (k,) whether it holds for all files of its nodes.
    """

    node: Rows
    photograph: Rows
    together: Rows
    pairs: Pairs
    probability: npt.NDArray[np.float64]
    confirmed: Flags
    linked: Flags

    def at(self, rows: Rows) -> Links:
        """The same graph for other rows, which stand where these rows do."""
        return replace(
            self,
            node=self.node[rows],
            photograph=self.photograph[rows],
            together=self.together[rows],
        )


@dataclass(frozen=True, eq=False)
class Judged:
    """Near copies after a person's decisions, by place in :class:`.near.NearCopies`.

    Attributes:
        decision: (k,) 1 for confirmed, -1 for rejected, 0 where nobody decided.
        added: (m, 2) nodes that a person confirmed and the search did not list.
        rejected: (r, 2) nodes.
    """

    decision: npt.NDArray[np.int8]
    added: Pairs
    rejected: Pairs


def judge(image_set: ImageSet, node: Rows, near: NearCopies, decisions: Decisions) -> Judged:
    """Match what a person decided with what the search found, whatever the files are called."""
    of_pairs = np.sort(node[near.pairs], axis=1)
    decision = np.zeros(len(of_pairs), np.int8)
    none = np.empty((0, 2), np.int64)
    if not len(decisions):
        return Judged(decision, none, none)
    order = np.argsort(image_set.contents, kind="stable")
    at = np.searchsorted(image_set.contents, decisions.pairs[decisions.here], sorter=order)
    decided = np.sort(node[order[at]], axis=1)
    copy = decisions.copy[decisions.here]
    place = {tuple(pair): at for at, pair in enumerate(of_pairs.tolist())}
    added, rejected = [], []
    for pair, is_copy in zip(map(tuple, decided.tolist()), copy.tolist(), strict=True):
        if pair in place:
            decision[place[pair]] = 1 if is_copy else -1
        elif is_copy:
            added.append(pair)
        if not is_copy:
            rejected.append(pair)
    return Judged(
        decision,
        np.array(added, np.int64).reshape(-1, 2),
        np.array(rejected, np.int64).reshape(-1, 2),
    )


def link(image_set: ImageSet, exact: ExactCopies, near: NearCopies, judged: Judged) -> Links:
    """Join exact copies, near copies and decisions."""
    node = exact.group
    stays = judged.decision >= 0
    pairs = np.concatenate([judged.added, np.sort(node[near.pairs[stays]], axis=1)])
    confirmed = np.concatenate([np.ones(len(judged.added), np.bool_), judged.decision[stays] > 0])
    given = np.concatenate([np.ones(len(judged.added)), near.probability[stays].astype(np.float64)])
    probability = np.where(confirmed, 1.0, given)
    order = _surest_first(image_set, node, pairs, probability)
    pairs, confirmed, probability = pairs[order], confirmed[order], probability[order]
    linked = confirmed | _label_in_common(image_set, node, pairs)
    sure = linked & (probability >= SURE)
    count = int(node.max(initial=-1)) + 1
    group = photographs(
        count,
        pairs[sure & ~confirmed],
        confirmed=pairs[confirmed],
        rejected=judged.rejected,
    )
    sizes = np.zeros(count, np.int64)
    of_class = np.bincount(image_set.labels, minlength=len(image_set.classes))
    sizes[node] = of_class[image_set.labels]
    together = kept_together(
        np.bincount(node, minlength=count), sizes, pairs[sure], pairs[linked & ~sure]
    )
    # A photograph is never divided, although only confirmed pairs could hold more than sure ones.
    return Links(node, group[node], together[node], pairs, probability, confirmed, linked)


def _surest_first(
    image_set: ImageSet, node: Rows, pairs: Pairs, probability: npt.NDArray[np.float64]
) -> Rows:
    """The order of pairs, which must not depend on that of the images: ties go by content."""
    least = np.full(int(node.max(initial=-1)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, node, image_set.contents)
    keys = np.sort(least[pairs], axis=1)
    return np.lexsort((keys[:, 1], keys[:, 0], -probability)).astype(np.int64)


def _label_in_common(image_set: ImageSet, node: Rows, pairs: Pairs) -> Flags:
    from scipy.sparse import coo_array

    shape = int(node.max(initial=-1)) + 1, len(image_set.classes)
    ones = np.ones(len(node), np.int64)
    has = coo_array((ones, (node, image_set.labels)), shape).tocsr()
    both = has[pairs[:, 0]].multiply(has[pairs[:, 1]])
    return np.asarray(both.sum(axis=1)).reshape(-1) > 0


def facts(links: Links) -> Rows:
    """(n,) rows that are certainly copies, by their content or by a person's word, are equal."""
    count = int(links.node.max(initial=-1)) + 1
    return joined(count, links.pairs[links.confirmed])[links.node]
