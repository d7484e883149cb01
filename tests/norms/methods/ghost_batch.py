"""Ghost batch normalization: PyTorch's batch norm on one chunk after the other."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from normlab.norms import CATALOG
from normlab.norms._core import ChunkPool

from ..families import extra, unlike
from ..mutants import mutation
from ..reference import written


@written("ghost_bn")
class Ghost(nn.BatchNorm2d):
    def __init__(self, channels: int, virtual_batch_size: int = 16) -> None:
        super().__init__(channels)
        self.virtual_batch_size = virtual_batch_size

    def forward(self, x: Tensor) -> Tensor:
        chunks = math.ceil(len(x) / self.virtual_batch_size) if self.training else 1
        if chunks <= 1:
            return super().forward(x)
        bounds = [-(-i * len(x) // chunks) for i in range(chunks + 1)]
        parts = [x[start:stop] for start, stop in itertools.pairwise(bounds)]
        return torch.cat([nn.BatchNorm2d.forward(self, part) for part in parts])


# Three images are chunks of two and one.
extra(replace(CATALOG["ghost_bn"], name="ghost_bn_chunks"), channels=6, virtual_batch_size=2)
written("ghost_bn_chunks")(Ghost)
unlike(
    "ghost_bn_chunks",
    permutations_permute_the_output="chunks are of consecutive images, so their order matters",
)

CHUNKS = ("ghost_bn_chunks",)


@mutation("forward_matches_reference", "output_moments_are_exact", families=CHUNKS, written=False)
class WholeBatchAfterAll(nn.Module):
    """The option is taken and changes nothing."""

    def _chunks(self, x: Tensor) -> ChunkPool:
        return replace(super()._chunks(x), chunks=1)


@mutation("forward_matches_reference", families=CHUNKS, written=False)
class ImagesDealtInTurn(nn.Module):
    """Image i in chunk i mod chunks."""

    def _chunks(self, x: Tensor) -> ChunkPool:
        return _InTurn(**vars(super()._chunks(x)))


class _InTurn(ChunkPool):
    def of_images(self, device: torch.device) -> Tensor:
        return torch.arange(self.images, device=device) % self.chunks


@mutation("nan_stays_in_its_set", families=CHUNKS, written=False)
class ChunksByProducts(nn.Module):
    """Sums as products with ones and zeros: a NaN of one chunk is in all."""

    def _chunks(self, x: Tensor) -> ChunkPool:
        return _ByProducts(**vars(super()._chunks(x)))


class _ByProducts(ChunkPool):
    def mean(self, t: Tensor) -> Tensor:
        there = self.of_images(t.device) == torch.arange(self.chunks)[:, None]
        shares = there.to(t.dtype) / there.sum(1, keepdim=True)
        return (shares[:, :, None, None, None] * t).sum(1)


@mutation("running_statistics_match_closed_form", families=CHUNKS, written=False)
class LastChunkAloneTracked(nn.Module):
    def _turns(self, pool: ChunkPool, chunk: Tensor, dtype: torch.dtype) -> tuple[Tensor, Any]:
        last = (chunk == pool.chunks - 1).to(dtype)
        return last, 1.0 / pool.chunks if self.momentum is None else self.momentum


@mutation("running_statistics_match_closed_form", families=CHUNKS, written=False)
class BatchesCountedNotChunks(nn.Module):
    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        super()._track(x, mean, var)
        self.num_batches_tracked -= len(mean) - 1


@mutation("edges_have_a_value_or_a_clear_error", families=CHUNKS, written=False)
class ChunkOfOneValueAccepted(nn.Module):
    """One pixel, three images: fine as a batch, but the second chunk has one value."""

    def _check_values(self, x: Tensor, values_per_set: int, what: str) -> None:
        if "chunk" not in what:
            super()._check_values(x, values_per_set, what)


@mutation("a_divided_batch_counts_as_one", families=CHUNKS, written=False)
class ChunksOfEachProcess(nn.Module):
    def _chunks(self, x: Tensor) -> ChunkPool:
        return replace(super()._chunks(x), divided=None, images=len(x))


ONE_CHUNK = ("ghost_bn",)


@mutation("forward_matches_reference", families=ONE_CHUNK, written=False)
class AlwaysTwoChunks(nn.Module):
    def _chunks(self, x: Tensor) -> ChunkPool:
        return replace(super()._chunks(x), chunks=min(2, len(x)))


@mutation("running_statistics_match_closed_form", families=ONE_CHUNK, written=False)
class BiasedVarianceOfChunksStored(nn.Module):
    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        values = x[:, 0].numel()
        super()._track(x, mean, var * (values - 1) / values)


@mutation("forward_matches_reference", families=ONE_CHUNK, written=False)
class ChunksInEvaluationToo(nn.Module):
    def _fixed(self) -> None:
        return None


@mutation("gradients_match_counterpart", families=ONE_CHUNK, written=False)
class ChunkStatisticsDetached(nn.Module):
    def _normalized(self, x: Tensor, then: Any = None) -> Tensor:
        y = super()._normalized(x.detach())
        scale = self.weight / (x.detach().var((0, 2, 3), correction=0) + self.eps).sqrt()
        return y + (x - x.detach()) * scale[:, None, None]
