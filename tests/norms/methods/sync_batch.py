"""Synchronized batch normalization: its mistakes show where processes divide a batch."""

from __future__ import annotations

from torch import Tensor, nn

from normlab.norms._core import NOTHING, Then
from normlab.norms.synchronized import Division, division, pooled_over

from ..mutants import mutation

ONE = "a_divided_batch_counts_as_one"


@mutation(ONE, families=["sync_bn"], written=False)
class OnlyWhereAllLayersDo(nn.Module):
    """A run with statistics per process then has none that are synchronized."""

    always_synchronized = False


class _Divided(nn.Module):
    """Takes a division in its own way."""

    kind: type[Division]

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        found = division(always=True)
        if found is None:
            return super()._normalized(x, then)
        with pooled_over(self.kind(found.total, found.rank, found.counts)):
            return super()._normalized(x, then)


class _Alike(Division):
    def moments(self, mean: Tensor, rest: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own = [t.sum(0, keepdim=True) / max(1, len(t)) for t in (mean + rest, var)]
        whole, spread = (self.sum(t) / len(self.counts) for t in own)
        return whole, spread, mean - whole


@mutation(ONE, families=["sync_bn"], written=False)
class PartsWeighedAlike(_Divided):
    """The mean of the parts' means, as if all had as many images."""

    kind = _Alike


class _NotBack(Division):
    def means(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.sum(0, keepdim=True) / self.images for t in tensors)


@mutation(ONE, families=["sync_bn"], written=False)
class BackwardOfThePart(_Divided):
    """Statistics of all in the forward pass, and gradients as if they were this process's own."""

    kind = _NotBack


@mutation(ONE, families=["sync_bn"], written=False)
class RunningVarianceOfThePart(nn.Module):
    """The unbiased variance, corrected for the images of one process."""

    def _values_of_variance(self, x: Tensor) -> int:
        return max(2, x[:, 0].numel())


@mutation("running_statistics_match_closed_form", families=["sync_bn"], written=False)
class TracksNothingAlone(nn.Module):
    """As if one process had nothing to synchronize, and so nothing to keep."""

    def _tracking(self, x: Tensor) -> None:
        return None
