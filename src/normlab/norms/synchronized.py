"""Batch statistics over a batch that several processes divide.

Each process has some images of the batch. Within :func:`pooled_over` layers with batch statistics
take those of the whole batch, forward and backward, as one process with all the images would: the
moments of the parts are merged by the law of total variance, weighed by images, and what backward
averages over the batch is averaged over all parts. Each is one sum over the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Division:
    """How a batch is divided.

    Attributes:
        total: gives the sum of a tensor over the processes, the same on each of them. Every process
            calls it equally often, with equal shapes.
        rank: which part is this process's.
        counts: images of each part; some may have none.
    """

    total: Callable[[Tensor], Tensor]
    rank: int
    counts: tuple[int, ...]

    @property
    def images(self) -> int:
        """Of the whole batch."""
        return sum(self.counts)

    def check(self, x: Tensor) -> None:
        """Refuse a tensor that is not this process's part.

        Raises:
            ValueError: it has another number of images.
        """
        if x.shape[0] != self.counts[self.rank]:
            raise ValueError(
                f"this process has {self.counts[self.rank]} images of the batch, got {x.shape[0]}"
            )

    def means(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """(N, C, 1, 1) each -> (1, C, 1, 1): means over the images of all processes."""
        own = torch.stack([t.sum(0, keepdim=True) for t in tensors])
        return tuple((_total(own, self.total) / self.images).unbind())

    def moments(self, mean: Tensor, rest: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`._core.Pool.moments` gives for the batch, of this process's maps."""
        self.check(mean)
        most = max(1, mean.shape[0])
        base = mean.sum(0, keepdim=True) / most
        apart = mean - base
        shift = (apart + rest).sum(0, keepdim=True) / most
        offset = apart - shift
        spread = (var + (offset + rest).square()).sum(0, keepdim=True) / most
        # A row for each process, of which each fills in its own: the sum is a table of all.
        own = torch.stack([base, shift, spread])
        behind = len(self.counts) - self.rank - 1
        table = F.pad(own[None], (0, 0) * own.dim() + (self.rank, behind))
        bases, shifts, spreads = _total(table, self.total).unbind(1)
        share = bases.new_tensor(self.counts).view(-1, 1, 1, 1, 1) / self.images
        whole = (share * bases).sum(0)
        apart_of = bases - whole
        whole_shift = (share * (apart_of + shifts)).sum(0)
        offset_of = apart_of + shifts - whole_shift
        whole_var = (share * (spreads + offset_of.square())).sum(0)
        return whole + whole_shift, whole_var, offset + offset_of[self.rank]


_division: Division | None = None


def division() -> Division | None:
    """How the batch is divided that layers see now; None where it is whole.

    One for all threads: on a GPU autograd calls backward in its own.
    """
    return _division


@contextmanager
def pooled_over(divided: Division | None) -> Iterator[None]:
    """Within this block batches are parts, and batch statistics are those of the whole."""
    global _division
    before, _division = _division, divided
    try:
        yield
    finally:
        _division = before


def images_of(x: Tensor) -> int:
    """How many images the batch has of which ``x`` (N, C, H, W) is all, or a part."""
    return x.shape[0] if _division is None else _division.images


def _total(own: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    summed: Tensor = _Total.apply(own, total)  # type: ignore[no-untyped-call]
    return summed


class _Total(torch.autograd.Function):
    """The sum over the processes. The loss is a sum over them too, so the gradient is the sum of
    what each process sends back."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.total = total
        return total(own)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _total(g, ctx.total), None
