"""Layers that are a scale and a shift of each channel in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..norms import (
    BatchNorm2d,
    BatchRenorm2d,
    ChannelAffine2d,
    ExtendedBatchNorm2d,
    FrozenBatchNorm2d,
    GhostBatchNorm2d,
    SyncBatchNorm2d,
)

AS_BATCH_NORM: tuple[type[nn.Module], ...] = (
    nn.BatchNorm2d,
    nn.SyncBatchNorm,
    BatchNorm2d,
    SyncBatchNorm2d,
    GhostBatchNorm2d,
    BatchRenorm2d,
    ExtendedBatchNorm2d,
)
"""Layers of images that are batch normalization in evaluation: these classes, and none that derives
from them, since that may compute anything."""
AFFINE: tuple[type[nn.Module], ...] = (
    *AS_BATCH_NORM,
    nn.BatchNorm1d,
    nn.BatchNorm3d,
    FrozenBatchNorm2d,
    ChannelAffine2d,
)


def scale_and_shift(layer: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Of each channel, in float64: the layer is ``scale * x + shift`` in evaluation. None where it
    takes statistics of the batch there."""
    weight, bias = (_of(layer, name) for name in ("weight", "bias"))
    if isinstance(layer, ChannelAffine2d):
        start = torch.ones(layer.channels, dtype=torch.float64)
        scale = start if weight is None else weight
        return scale, torch.zeros_like(scale) if bias is None else bias
    mean, var = (_of(layer, name) for name in ("running_mean", "running_var"))
    if mean is None or var is None:
        return None
    scale = torch.rsqrt(var + float(layer.eps)).expand_as(mean)  # type: ignore[arg-type]
    if weight is not None:
        scale = weight * scale
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias


def _of(layer: nn.Module, name: str) -> Tensor | None:
    value = getattr(layer, name, None)
    return value.detach().double() if isinstance(value, Tensor) else None
