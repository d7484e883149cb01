"""Pairs that are worth laying on each other, and roughly how.

Three searches for nearest neighbours: by descriptors that do not depend on how an image is turned
(:mod:`.descriptors`), by descriptors of the image as it stands and of its mirror image
(:mod:`.upright`), and, for grey images among coloured ones, without colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...data.cache import Progress
from . import alignment, descriptors
from .thumbnails import chunks
from .upright import describe_upright

_TURNED, _UPRIGHT, _GREY = 8, 3, 12
_UNRELATED = (12, 20, 32, 48)
"""Which neighbours are taken for unrelated: beyond the copies that a photograph usually has."""
_ROUGHLY = 0.6
# Cosines of descriptors: of a hundred copies on the bench, at most two are below.
_TURNED_COSINE, _UPRIGHT_COSINE = 0.62, 0.55
_CHUNK = 128
_SATURATION = 0.012

Images = Callable[[npt.NDArray[np.int64]], Tensor]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs with rough maps; a pair may be there with several.

    Attributes:
        first: places of the images; ``second`` of the others.
        maps: (k, 2, 3): a point p of the second is at map @ (p, 1) in the first.
        unrelated: (n, 4) of every image others that look much like it and are probably not its
            copies.
    """

    first: Tensor
    second: Tensor
    maps: Tensor
    unrelated: Tensor

    def __len__(self) -> int:
        return len(self.first)


def find_candidates(images: Images, count: int, tell: Progress) -> Candidates:
    """Of every image its nearest neighbours.

    Args:
        images: gives (k, C, 32, 32) opponent colours for an array of places.
        count: how many images there are.
        tell: is told how far this is.
    """
    if count < 2:
        nothing = torch.empty(0, dtype=torch.int64)
        return Candidates(nothing, nothing, torch.empty(0, 2, 3), nothing.view(0, 1))
    turned = descriptors.describe_all(
        images, count, lambda done: tell("Describing images", done, count)
    )
    near = descriptors.neighbours(
        turned, max(_UNRELATED), lambda done: tell("Finding neighbours", done, count)
    )
    last = near.shape[1] - 1
    unrelated = torch.stack([near[:, min(rank - 1, last)] for rank in _UNRELATED], 1)
    near = _near_enough(turned, turned, near[:, :_TURNED], _TURNED_COSINE)
    del turned
    grey = _grey_ones(images, count)
    without = torch.full((count, _GREY), -1, dtype=torch.int64)
    if 0 < len(grey) < count:
        lumas = descriptors.describe_all(lambda places: images(places)[:, :1], count)
        others = descriptors.neighbours(lumas, _GREY, asked=lumas[grey], rows=grey)
        without[grey, : others.shape[1]] = others
    one, two, lie, alike = laid(images, torch.cat([near, without], 1), torch.arange(count), tell)
    good = alike >= _ROUGHLY
    parts = [(one[good], two[good], lie[good]), _upright(images, count, torch.arange(count), tell)]
    if 0 < len(grey) < count:
        parts.append(_upright(lambda places: images(places)[:, :1], count, grey, tell))
    first, second, maps = (torch.cat(each) for each in zip(*parts, strict=True))
    return Candidates(first, second, maps, unrelated)


def _upright(
    images: Images, count: int, rows: Tensor, tell: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs that lie on each other as they are, or mirrored, with one of ``rows``: places, maps."""
    upright, mirrored = describe_upright(
        images, count, lambda done: tell("Describing images as they stand", done, count)
    )
    first, second, maps = [], [], []
    for side, asked in ((1.0, upright[rows]), (-1.0, mirrored[rows])):
        found = descriptors.neighbours(
            upright,
            _UPRIGHT,
            lambda done: tell("Finding neighbours as they stand", done, len(rows)),
            asked=asked,
            rows=rows,
        )
        two = _near_enough(asked, upright, found, _UPRIGHT_COSINE)
        one = rows[:, None].expand_as(two)[two >= 0]
        two = two[two >= 0]
        # Found from both sides, a pair is tried once.
        once = _first_of_each(one, two, count)
        first.append(one[once])
        second.append(two[once])
        maps.append(torch.tensor([[side, 0, 0], [0, 1.0, 0]]).expand(len(once), 2, 3))
    return torch.cat(first), torch.cat(second), torch.cat(maps)


def laid(
    images: Images, others: Tensor, places: Tensor, tell: Progress
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Others laid on images at any angle, by the best window: places of both, maps, correlations.

    Args:
        images: gives (k, C, 32, 32) opponent colours for an array of places.
        others: (n, k) their places; -1 where there is none.
        places: (n,) of the images.
        tell: is told how far this is.
    """
    wanted, at = torch.unique(others.clamp(min=0), return_inverse=True)
    spectra = [
        alignment.centre_spectra(images(wanted[part].numpy()))
        for part in chunks(len(wanted), 4 * _CHUNK)
    ]
    # Filled in place: small results kept between large temporary ones would fragment the memory.
    alike = torch.full(others.shape, -1.0)
    lie = torch.zeros(*others.shape, 2, 3)
    centres = torch.cat(spectra) if spectra else torch.empty(0)
    for part in chunks(len(places), _CHUNK):
        alike[part], lie[part] = alignment.rough(images(places[part].numpy()), centres[at[part]])
        tell("Laying images on each other", part.stop, len(places))
    here = places[:, None].expand_as(others)
    keep = (others >= 0) & (others != here)
    return here[keep], others[keep], lie[keep], alike[keep]


def _near_enough(asked: Tensor, described: Tensor, found: Tensor, least: float) -> Tensor:
    """The places that were found; -1 where the cosine is below ``least``."""
    kept = found.clone()
    for part in chunks(len(found), 4096):
        cosine = (asked[part, None] * described[found[part]]).sum(2)
        kept[part][cosine < least] = -1
    return kept


def _grey_ones(images: Images, count: int) -> Tensor:
    """Places of the images without colour, in a set that has colours."""
    found = []
    for part in chunks(count, 4 * _CHUNK):
        pixels = images(np.arange(part.start, part.stop))
        if pixels.shape[1] == 1:
            return torch.empty(0, dtype=torch.int64)
        strength = pixels[:, 1:].square().mean((1, 2, 3)).sqrt()
        found.append(torch.nonzero(strength < _SATURATION)[:, 0] + part.start)
    return torch.cat(found)


def _first_of_each(first: Tensor, second: Tensor, count: int) -> Tensor:
    pair = torch.minimum(first, second) * count + torch.maximum(first, second)
    return torch.from_numpy(np.sort(np.unique(pair.numpy(), return_index=True)[1]))
