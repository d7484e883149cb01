"""What people use to find near copies, on the same planted folders.

- Perceptual hashes of 64 bits (pHash and dHash of the package imagehash): pairs within a distance.
- Features of a network that was trained on the set's own classes: pairs above a cosine.
- Structural similarity (Wang et al. 2004) of images that were aligned by this search.

Each gives pairs a score. Like the weights of the search, the score from which pairs are listed is
chosen on the other kinds: the lowest for which 95 % of the listed pairs are copies there. What
tools list by default is measured beside it, for hashes: a distance of at most 10 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from normlab.checks.copies.near import Judged, Search
from normlab.checks.copies.thumbnails import FINE, blurred, chunks
from normlab.checks.image_set import ImageSet
from normlab.models.resnet import ResNet

from .measuring import Measured, number_of

PRECISION = 0.95
DEFAULT_DISTANCE = 10

_BITS = 64
_NEIGHBOURS = 10
_EPOCHS, _BATCH, _SIDE = 20, 64, 32


@dataclass(frozen=True)
class Scored:
    """Pairs of one kind by one method, each once.

    Attributes:
        measured: with the numbers of the pairs and which are copies; no measures.
        score: (k,), higher for more alike.
    """

    measured: Measured
    score: np.ndarray


def by_hash(kind: Measured, image_set: ImageSet, rows: np.ndarray, name: str) -> Scored:
    """Nearest neighbours by ``phash`` or ``dhash`` of the pixels that the network sees."""
    import imagehash

    hashed: Callable[..., object] = getattr(imagehash, name)
    bits = []
    for row in rows.tolist():
        pixels = image_set.images([row])[0]
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        bits.append(hashed(image).hash.flatten())  # type: ignore[attr-defined]
    signs = torch.from_numpy(np.array(bits, np.float32)) * 2 - 1
    return _neighbours(kind, image_set, rows, signs, lambda dot: (dot - _BITS) / 2)


def by_network(kind: Measured, image_set: ImageSet, rows: np.ndarray) -> Scored:
    """Nearest neighbours by the cosine of penultimate features."""
    train = np.flatnonzero(image_set.split == 0)
    with torch.inference_mode(False), torch.enable_grad():
        network = _trained(
            _pixels(image_set, train),
            torch.from_numpy(image_set.labels[train]),
            len(image_set.classes),
        )
    with torch.inference_mode():
        found = [
            network.features(_pixels(image_set, rows[part])) for part in chunks(len(rows), 500)
        ]
    return _neighbours(kind, image_set, rows, F.normalize(torch.cat(found), dim=1), lambda dot: dot)


def by_structure(kind: Measured, search: Search, judged: Judged) -> Scored:
    """Structural similarity of the pairs that this search aligned."""
    found = [torch.empty(0)]
    for part in chunks(len(judged.first), 256):
        one, two = (
            search.opponents(places[part].numpy(), FINE)[:, :1]
            for places in (judged.first, judged.second)
        )
        found.append(_structure(one, two, judged.maps[part]))
    return Scored(kind, torch.cat(found).numpy())


def _structure(one: Tensor, two: Tensor, maps: Tensor) -> Tensor:
    """The mean of equation 13, with its window and constants, over what the two circles share."""
    size = one.shape[-1]
    where = F.affine_grid(maps, list(one.shape), align_corners=False)
    here = F.affine_grid(torch.eye(2, 3)[None], [1, 1, size, size], align_corners=False)
    inside = ((where.square().sum(3) <= 1) & (here.square().sum(3) <= 1)).float()[:, None]
    one = F.grid_sample(one, where, padding_mode="border", align_corners=False)
    mean_one, mean_two = blurred(one, 1.5), blurred(two, 1.5)
    var_one = blurred(one * one, 1.5) - mean_one.square()
    var_two = blurred(two * two, 1.5) - mean_two.square()
    common = blurred(one * two, 1.5) - mean_one * mean_two
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_one * mean_two + c1) * (2 * common + c2)
    similar = similar / (mean_one.square() + mean_two.square() + c1) / (var_one + var_two + c2)
    found: Tensor = (similar * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)
    return found


def _pixels(image_set: ImageSet, rows: np.ndarray) -> Tensor:
    pixels = torch.from_numpy(image_set.images(rows)).permute(0, 3, 1, 2).float() / 255 - 0.5
    return F.adaptive_avg_pool2d(pixels, _SIDE) if pixels.shape[-1] > _SIDE else pixels


def _trained(images: Tensor, labels: Tensor, classes: int) -> ResNet:
    """A network of 8 layers after 20 epochs of SGD with flips and shifts of up to 2 pixels."""
    torch.manual_seed(0)
    network = ResNet(1, classes, "bn", "A", images.shape[1], seed=0)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    steps = _EPOCHS * -(-len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(0)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(images), generator=draw).split(_BATCH):
            batch = images[rows]
            if torch.rand((), generator=draw) < 0.5:
                batch = batch.flip(-1)
            shift = torch.randint(-2, 3, (2,), generator=draw).tolist()
            loss = nn.functional.cross_entropy(network(batch.roll(shift, (2, 3))), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _neighbours(
    kind: Measured,
    image_set: ImageSet,
    rows: np.ndarray,
    described: Tensor,
    scored: Callable[[Tensor], Tensor],
) -> Scored:
    """Each image's nearest others, each pair once."""
    products = described @ described.T
    products.fill_diagonal_(-torch.inf)
    best = products.topk(min(_NEIGHBOURS, len(rows) - 1), 1)
    one = np.repeat(np.arange(len(rows)), best.indices.shape[1])
    two, score = best.indices.flatten().numpy(), scored(best.values.flatten()).numpy()
    ends = np.sort(np.stack([one, two], 1), 1)
    _, once = np.unique(ends, axis=0, return_index=True)
    numbers = np.array([number_of(name) for name in image_set.names[rows].tolist()])
    pairs = numbers[ends[once]]
    return Scored(
        replace(
            kind,
            measures=np.empty((len(once), 0)),
            true=pairs[:, 0] == pairs[:, 1],
            numbers=pairs,
            names=image_set.names[rows][ends[once]],
        ),
        score[once],
    )


def least_score(others: Sequence[Scored]) -> float:
    """The lowest score from which on :data:`PRECISION` of the listed pairs are copies, each kind
    counting the same; infinite if there is none."""
    score = np.concatenate([one.score for one in others])
    true = np.concatenate([one.measured.true for one in others]).astype(np.float64)
    # A kind with many copies found counts no more than one with few.
    counts = np.concatenate(
        [np.full(len(one.score), 1 / max(int(one.measured.true.sum()), 1)) for one in others]
    )
    order = np.argsort(-score, kind="stable")
    right = np.cumsum((true * counts)[order])
    precise = right / np.cumsum(counts[order]) >= PRECISION
    # Pairs of one score are listed together.
    last = np.append(np.diff(score[order]) != 0, True)
    good = np.flatnonzero(precise & last)
    return float(score[order][good[-1]]) if len(good) else np.inf


def left_out(every: Sequence[Scored]) -> list[np.ndarray]:
    """Which pairs of each kind are listed, by a score that was chosen on the other families."""
    return [
        one.score
        >= least_score([two for two in every if two.measured.family != one.measured.family])
        for one in every
    ]
