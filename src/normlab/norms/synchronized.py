"""Batch statistics over a batch that several processes divide.

Each process has some images of the batch. Within :func:`pooled_over` layers with batch statistics
take those of the whole batch, forward and backward, as one process with all the images would: the
moments of the parts are merged by the law of total variance, weighed by images, and what backward
averages over the batch is averaged over all parts. Each is one sum over the processes.

Where a run takes the statistics of each process's part, a block is entered with ``by_all=False``:
then only layers that always synchronize know of the division.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
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

    def sum(self, own: Tensor) -> Tensor:
        """The sum of a tensor over the processes, which gradients pass through."""
        return _total(own, self.total)

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


@dataclass(frozen=True)
class _Declared:
    """What the block around says of its batches."""

    division: Division | None
    by_all: bool


_declared: _Declared | None = None


def division(*, always: bool = False) -> Division | None:
    """How the batch is divided that layers see now; None where it is whole, or its parts count as
    batches of their own. A layer that synchronizes ``always`` is told of every division.

    One for all threads: on a GPU autograd calls backward in its own.
    """
    if _declared is None or not (always or _declared.by_all):
        return None
    return _declared.division


def is_declared() -> bool:
    """Whether a block around says how batches are divided, or that they are whole."""
    return _declared is not None


@contextmanager
def pooled_over(divided: Division | None, *, by_all: bool = True) -> Iterator[None]:
    """Within this block batches are parts, and batch statistics are those of the whole: of every
    layer, or (``by_all=False``) of those alone that always synchronize."""
    global _declared
    before, _declared = _declared, _Declared(divided, by_all)
    try:
        yield
    finally:
        _declared = before


def among_processes(x: Tensor, group: dist.ProcessGroup | None = None) -> Division | None:
    """How the processes of ``torch.distributed`` divide a batch of which each has some images; None
    where this one is alone. Each of them must call it at the same time."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return None

    def total(own: Tensor) -> Tensor:
        summed = own.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=group)
        return summed

    rank, size = dist.get_rank(group), dist.get_world_size(group)
    counts = total(F.one_hot(torch.tensor(rank, device=x.device), size) * x.shape[0])
    return Division(total, rank, tuple(counts.tolist()))


def images_of(x: Tensor, *, always: bool = False) -> int:
    """How many images the batch has of which ``x`` (N, C, H, W) is all, or a part, to a layer that
    synchronizes ``always`` or not."""
    divided = division(always=always)
    return x.shape[0] if divided is None else divided.images


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
