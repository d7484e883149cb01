"""Batches: gathered as uint8, then augmented and normalized all at once on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import InputError
from ..keyed import hash_each, key, rng
from .dataset import DataSet

_DRAW_BITS = 20
_UPLOAD = 1024
_NEXT_REPEAT = np.uint64(0xD1342543DE82EF95)
"""From an image's id to that of its next appearance in an epoch: any large odd number."""
_SHARE_OF_FREE = 0.75


@dataclass(frozen=True)
class Augmentation:
    """What happens to training images, and to no others.

    Attributes:
        crop_pad: pad by this many pixels of the mean on each side, then crop back at random.
        flip: mirror left to right with probability one half.

    >>> bool(Augmentation()), bool(Augmentation(flip=True))
    (False, True)
    """

    crop_pad: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        pad = self.crop_pad
        if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad < 1024:
            raise InputError(f"crop_pad must be a whole number from 0 to 1023, not {pad!r}.")
        if not isinstance(self.flip, bool):
            raise InputError(f"flip must be true or false, not {self.flip!r}.")

    def __bool__(self) -> bool:
        return self.crop_pad > 0 or self.flip

    def draws(
        self, seed: int, epoch: int, ids: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """For each image: top and left of the crop in the padded image, and whether to mirror it.

        They depend only on seed, epoch and image.
        """
        bits = hash_each(key(seed, "augment", epoch), ids)
        mask, shift = np.uint64((1 << _DRAW_BITS) - 1), np.uint64(_DRAW_BITS)
        places = np.uint64(2 * self.crop_pad + 1)
        one = np.uint64(1)
        top = (((bits >> one) & mask) * places) >> shift
        left = (((bits >> (one + shift)) & mask) * places) >> shift
        flip = (bits & one).astype(np.bool_) & self.flip
        return top.astype(np.int64), left.astype(np.int64), flip


def epoch_order(seed: int, epoch: int, n: int) -> npt.NDArray[np.int64]:
    """The order of n images in one epoch; each epoch has its own, whatever ran before.

    >>> epoch_order(seed=0, epoch=1, n=6).tolist() == epoch_order(seed=0, epoch=1, n=6).tolist()
    True
    """
    return rng(seed, "order", epoch).permutation(n)


def balanced_order(seed: int, epoch: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """As many images as there are, drawn with replacement for one epoch: a class first, each with
    the same probability, then an image of that class.

    >>> labels = np.array([0] * 90 + [1] * 10)
    >>> drawn = labels[balanced_order(seed=0, epoch=1, labels=labels)]
    >>> bool(30 < drawn.sum() < 70)
    True
    """
    draw = rng(seed, "balanced order", epoch)
    of_class = np.argsort(labels, kind="stable")
    present, first, counts = np.unique(labels[of_class], return_index=True, return_counts=True)
    chosen = draw.integers(len(present), size=len(labels))
    within = (draw.random(len(labels)) * counts[chosen]).astype(np.int64)
    return np.asarray(of_class[first[chosen] + within], dtype=np.int64)


def repeats(order: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """How often each entry of an order came before in it.

    >>> repeats(np.array([5, 2, 5, 5, 2])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_image = np.argsort(order, kind="stable")
    _, first, counts = np.unique(order[by_image], return_index=True, return_counts=True)
    found = np.empty(len(order), dtype=np.uint64)
    found[by_image] = np.arange(len(order)) - np.repeat(first, counts)
    return found


class DeviceSplit:
    """One split of a data set, ready to be read in batches on a device.

    A CUDA device keeps the uint8 pixels if a quarter of its free memory stays free; otherwise,
    and on the CPU, each batch is gathered from the memory map. Both give the same batches.
    """

    def __init__(
        self, dataset: DataSet, split: str, device: torch.device | str | None = None
    ) -> None:
        if split not in dataset.splits:
            known = ", ".join(dataset.splits)
            raise InputError(f"There is no split called {split}. The splits are {known}.")
        self.split = dataset.splits[split]
        self.device = torch.device(device or "cpu")
        self.labels = torch.from_numpy(self.split.labels.copy()).to(self.device)
        # As long as a row of pixels: along the channels alone the loop has only three values.
        self._mean = self._constant(dataset.mean).repeat(dataset.image_size)
        self._std = self._constant(dataset.std).repeat(dataset.image_size)
        self._held = self._hold(dataset)

    def __len__(self) -> int:
        return len(self.split)

    def _constant(self, values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).mul(255).float().to(self.device)

    def _hold(self, dataset: DataSet) -> Tensor | None:
        if self.device.type != "cuda":
            return None
        side, count = dataset.image_size, len(self)
        shape = (count, side, side, dataset.channels)
        free, _ = torch.cuda.mem_get_info(self.device)
        if int(np.prod(shape)) > _SHARE_OF_FREE * free:
            return None
        held = torch.empty(shape, dtype=torch.uint8, device=self.device)
        for start in range(0, count, _UPLOAD):
            part = self.split.images(slice(start, start + _UPLOAD))
            held[start : start + _UPLOAD] = torch.from_numpy(part)
        return held

    def _gather(self, rows: npt.NDArray[np.int64]) -> Tensor:
        if self._held is not None:
            return self._held[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(self.split.images(rows)).to(self.device)

    def batch(
        self,
        rows: npt.ArrayLike,
        augmentation: Augmentation | None = None,
        *,
        seed: int = 0,
        epoch: int = 0,
        repeated: npt.NDArray[np.uint64] | None = None,
        share: Callable[[int], slice] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Images and labels of these rows of the split. ``repeated``, how often each came before in
        this epoch, gives an image that comes again another augmentation. ``share`` says of a number
        of images which of them to read; the labels are those of all.

        Returns:
            float32 (k, C, H, W) in channels_last strides, normalized with the mean and standard
            deviation of the training split; int64 (k,).
        """
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        labels = self.labels[torch.from_numpy(rows).to(self.device)]
        if share is not None:
            own = share(len(rows))
            rows, repeated = rows[own], None if repeated is None else repeated[own]
        pixels = self._gather(rows)
        count, height, width, channels = pixels.shape
        lines = pixels.view(count * height, width * channels)
        if augmentation:
            ids = self.split.ids[rows]
            if repeated is not None:
                with np.errstate(over="ignore"):
                    ids = ids + repeated * _NEXT_REPEAT
            draws = augmentation.draws(seed, epoch, ids)
            images = self._moved(lines, height, channels, augmentation.crop_pad, *draws)
        else:
            images = self._normalized(lines, torch.empty(lines.shape, device=self.device))
        return images.view(pixels.shape).permute(0, 3, 1, 2), labels

    def _normalized(self, lines: Tensor, into: Tensor) -> Tensor:
        return into.copy_(lines).sub_(self._mean).div_(self._std)

    def _moved(
        self,
        lines: Tensor,
        height: int,
        channels: int,
        pad: int,
        top: npt.NDArray[np.int64],
        left: npt.NDArray[np.int64],
        flip: npt.NDArray[np.bool_],
    ) -> Tensor:
        """Normalized, and every image cropped and mirrored by indices alone.

        One extra line, and one extra value per line, are zero; points outside an image lead there.
        """
        count, (no_line, no_value) = len(top), lines.shape
        width = no_value // channels
        held = torch.zeros((no_line + 1, no_value + 1), device=self.device)
        self._normalized(lines, held[:-1, :-1])
        y = top[:, None] - pad + np.arange(height)
        x = np.arange(width)
        x = left[:, None] - pad + np.where(flip[:, None], x[::-1], x)
        y_of = np.where((y < 0) | (y >= height), no_line, np.arange(count)[:, None] * height + y)
        x_of = x[:, :, None] * channels + np.arange(channels)
        x_of[(x < 0) | (x >= width)] = no_value
        ys, xs = (torch.from_numpy(part).to(self.device) for part in (y_of, x_of))
        cropped = held.index_select(0, ys.view(-1)).view(count, height, no_value + 1)
        return cropped.gather(2, xs.view(count, 1, no_value).expand(count, height, no_value))

    def epoch(
        self,
        batch_size: int,
        seed: int,
        epoch: int,
        augmentation: Augmentation | None = None,
        *,
        first: int = 0,
        balanced: bool = False,
        share: Callable[[int], slice] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches that contain every image once, starting at batch number ``first``; the
        last one may be smaller. If ``balanced``, as many images of :func:`balanced_order`. With
        ``share`` only some images of each batch (see :meth:`batch`)."""
        again = None
        if balanced:
            order = balanced_order(seed, epoch, self.split.labels)
            again = repeats(order)
        else:
            order = epoch_order(seed, epoch, len(self))
        for start in range(first * _at_least_one(batch_size), len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self.batch(
                order[part],
                augmentation,
                seed=seed,
                epoch=epoch,
                repeated=None if again is None else again[part],
                share=share,
            )

    def sequential(
        self, batch_size: int, which: slice = slice(None)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in the order of the split, never augmented; all, or ``which`` of them."""
        for start in range(0, len(self), _at_least_one(batch_size))[which]:
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))


def _at_least_one(batch_size: int) -> int:
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, not {batch_size!r}.")
    return batch_size
