"""IBN-Net. Its second network is made of layers that are tested by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import CATALOG

from .. import reference
from ..families import unlike
from ..mutants import mutation
from ..reference import Array, looped, written

unlike(
    "ibn_a",
    nan_stays_in_its_set="each half of the channels has sets of its own",
    permutations_permute_the_output="channels of different halves are not alike",
)


@looped("ibn_a")
def halves(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    """The formulas of in and bn, each for its channels."""
    first = x.shape[1] // 2
    both = []
    for name, cut in (("in", slice(first)), ("bn", slice(first, None))):
        own = {
            key: t if key.startswith("running") else t[cut] for key, t in state.items() if t.ndim
        }
        both.append(
            reference.forward(CATALOG[name], x[:, cut], own, eps=layer.eps, training=layer.training)
        )
    return np.concatenate(both, 1)


@written("ibn_a")
class InstanceBatch(nn.Module):
    """IBN-a of Pan et al. 2018, from PyTorch's two functions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        tracked = channels - channels // 2
        self.register_buffer("running_mean", torch.zeros(tracked))
        self.register_buffer("running_var", torch.ones(tracked))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        first = x.shape[1] // 2
        by_map = F.instance_norm(x[:, :first], weight=self.weight[:first], bias=self.bias[:first])
        by_batch = F.batch_norm(
            x[:, first:],
            self.running_mean,
            self.running_var,
            self.weight[first:],
            self.bias[first:],
            self.training,
        )
        return torch.cat((by_map, by_batch), 1)


@mutation("forward_matches_reference", families=["ibn_a"], written=False)
class IbnHalvesExchanged(nn.Module):
    """Batch norm for the first half."""

    def _normalized(self, x: Tensor, *rest: Any) -> Tensor:
        half = self.channels // 2
        return super()._normalized(x.roll(half, 1), *rest).roll(-half, 1)


@mutation("forward_matches_reference", families=["ibn_a"], written=False)
class IbnParametersOfOneHalfForBoth(nn.Module):
    def _halves(self, parameter: Tensor | None) -> Any:
        first = super()._halves(parameter)[0]
        return first, first


@mutation("running_statistics_match_closed_form", families=["ibn_a"], written=False)
class IbnTrackedInAnotherOrder(nn.Module):
    """Running statistics of the wrong channels."""

    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        super()._track(x, mean.flip(1), var.flip(1))


@mutation("forward_matches_reference", families=["ibn_a"], written=False)
class IbnBatchOfItselfInEvaluation(nn.Module):
    def _fixed(self) -> None:
        return None


@mutation("edges_have_a_value_or_a_clear_error", families=["ibn_a"], written=False)
class IbnOnePixelAccepted(nn.Module):
    def _check_values(self, x: Tensor, values_per_set: int, what: str) -> None:
        pass


@mutation("saves_no_more_than_torch", families=["ibn_a"], written=False)
class IbnHalvesCopied(nn.Module):
    def _normalized(self, x: Tensor, *rest: Any) -> Tensor:
        return super()._normalized(x.sin().asin(), *rest)
