"""LayerNorm2d and PositionNorm2d: their references, and mistakes that the checks must find."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..mutants import mutation
from ..reference import written

BOTH = ["pixel_ln", "position"]


@written("pixel_ln")
class LayerNormPermuted(nn.LayerNorm):
    """As in ConvNeXt: PyTorch's layer on (N, H, W, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.permute(0, 2, 3, 1).to(torch.promote_types(x.dtype, torch.float32)))
        return y.permute(0, 3, 1, 2).to(x.dtype)


@written("position")
class Pono(nn.Module):
    """By PyTorch's own mean and deviation of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        xs = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = xs - xs.mean(1, keepdim=True)
        var = centred.square().sum(1, keepdim=True) / (x.shape[1] - 1)
        y = centred / torch.sqrt(var + self.eps)
        return (y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)).to(x.dtype)


def affine(layer: Any, y: Tensor) -> Tensor:
    if layer.weight is None:
        return y
    return y * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)


@mutation(
    "forward_matches_reference", "output_moments_are_exact", families=["pixel_ln"], written=False
)
class UnbiasedAtPixels(nn.Module):
    """Positional normalization's divisor."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        var, mean = torch.var_mean(x, 1, keepdim=True)
        return affine(self, (x - mean) / torch.sqrt(var + self.eps))


@mutation(
    "forward_matches_reference", "output_moments_are_exact", families=["position"], written=False
)
class BiasedAtPixels(nn.Module):
    """The divisor of the authors' code in TensorFlow."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        return affine(self, (x - mean) / torch.sqrt(var + self.eps))


@mutation("forward_matches_reference", "nan_stays_in_its_set", families=BOTH, written=False)
class WholeImageInsteadOfPixels(nn.Module):
    """The other layer norm of images."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return affine(self, nn.functional.layer_norm(x, x.shape[1:], eps=self.eps))


@mutation("forward_matches_reference", families=BOTH, written=False)
class ColumnsInsteadOfChannels(nn.Module):
    """Normalized over the last axis without the permutation."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return affine(self, nn.functional.layer_norm(x, x.shape[3:], eps=self.eps))


@mutation("memory_format_is_kept", families=BOTH, written=False)
class LeftPermuted(nn.Module):
    """What a permutation leaves behind: the strides of channels_last."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x, *then).contiguous(memory_format=torch.channels_last)


@mutation(
    "gradients_match_counterpart",
    "derivatives_match_finite_differences",
    families=BOTH,
    written=False,
)
class SpreadDetachedAtPixels(nn.Module):
    """The gradient of the deviation is lost."""

    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        var, mean = torch.var_mean(x, 1, correction=int(self.eps != 1e-6), keepdim=True)
        return affine(self, (x - mean) / torch.sqrt(var.detach() + self.eps))
