"""RMSNormCHW: its reference, and mistakes that the checks must find."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..mutants import mutation
from ..reference import written


@written("rms")
class RMSOfImage(nn.Module):
    """PyTorch's function for an image as one vector, then weight and bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        y = F.rms_norm(x.to(dtype), x.shape[1:], eps=1e-5)
        return (y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


@mutation("forward_matches_reference", families=["rms"], written=False)
class RMSCentred(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x - x.mean((1, 2, 3), keepdim=True), *then)


@mutation("forward_matches_reference", "nan_stays_in_its_set", families=["rms"], written=False)
class RMSOfMaps(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        images, channels, *size = x.shape
        maps = x.reshape(images * channels, 1, *size).expand(-1, channels, -1, -1)
        both = super()._normalized(maps, *then).view(images, channels, channels, *size)
        return both.diagonal(dim1=1, dim2=2).movedim(-1, 1)


@mutation(
    "forward_matches_reference",
    "images_do_not_see_each_other",
    families=["rms"],
    written=False,
)
class RMSOfBatch(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        y = super()._normalized(x.transpose(0, 1).flatten(1, 2)[None], *then)[0]
        return y.unflatten(1, (len(x), -1)).transpose(0, 1)


@mutation("forward_matches_reference", families=["rms"], written=False)
class RMSEpsOutsideTheRoot(nn.Module):
    """As in the code of the paper's authors."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        rms = x.square().mean((1, 2, 3), keepdim=True).sqrt()
        y = x / (rms + self.eps)
        if self.weight is not None:
            y = y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        return y


@mutation("gradients_match_counterpart", families=["rms"], written=False)
class RMSDetached(nn.Module):
    """The root mean square as a constant."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        factor = (x.detach().square().mean((1, 2, 3), keepdim=True) + self.eps).rsqrt()
        return x * factor * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)
