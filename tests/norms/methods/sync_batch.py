"""Synchronized batch normalization: its mistakes show where processes divide a batch."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from normlab.norms.synchronized import Division, division

from ..mutants import mutation

ONE = "a_divided_batch_counts_as_one"


@mutation(ONE, families=["sync_bn"], written=False)
class OnlyWhereAllLayersDo(nn.Module):
    """A run with statistics per process then has none that are synchronized."""

    def _division(self, x: Tensor) -> Division | None:
        return division()


@mutation(ONE, families=["sync_bn"], written=False)
class PartsWeighedAlike(nn.Module):
    """The mean of the parts' means, as if all had as many images."""

    def _division(self, x: Tensor) -> Division | None:
        found = division(always=True)
        if found is None:
            return None
        return _Alike(found.total, found.rank, found.counts)


class _Alike(Division):
    def moments(self, mean: Tensor, rest: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return replace(self, counts=(1,) * len(self.counts)).moments_of_parts(mean, rest, var)

    def moments_of_parts(
        self, mean: Tensor, rest: Tensor, var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = [t.sum(0, keepdim=True) / max(1, len(t)) for t in (mean + rest, var)]
        whole, spread = (self.total(t) / len(self.counts) for t in own)
        return whole, spread, mean - whole


@mutation(ONE, families=["sync_bn"], written=False)
class RunningVarianceOfThePart(nn.Module):
    """The unbiased variance, corrected for the images of one process."""

    def _images_of(self, x: Tensor) -> int:
        return max(2, x.shape[0])


@mutation(ONE, families=["sync_bn"], written=False)
class BackwardOfThePart(nn.Module):
    """Statistics of all in the forward pass, and gradients as if they were this process's own."""

    def _division(self, x: Tensor) -> Division | None:
        found = division(always=True)
        return None if found is None else _NotBack(found.total, found.rank, found.counts)


class _NotBack(Division):
    def means(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.sum(0, keepdim=True) / self.images for t in tensors)


@mutation("running_statistics_match_closed_form", families=["sync_bn"], written=False)
class TracksNothingAlone(nn.Module):
    """As if one process had nothing to synchronize, and so nothing to keep."""

    def _tracking(self, x: Tensor) -> None:
        return None
