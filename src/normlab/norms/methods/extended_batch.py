"""Extended batch normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from .._base import PlainNorm2d
from .._core import map_moments, per_channel
from ..spec import NormSpec, tracking
from .batch import BatchStatistics, batch_pool


class ExtendedBatchNorm2d(PlainNorm2d, BatchStatistics):  # type: ignore[misc]  # weight may be None
    """Extended batch normalization: the mean of each channel, one spread for all channels.

    With the mean of channel c over the images and positions of the batch, and the biased variance
    of all values of the batch, over channels too::

        y = weight * (x - mean_c) / sqrt(var + eps) + bias

    A small batch then has enough values for the spread. The running statistics are those of batch
    normalization, but for ``running_var``, which is one number, of shape (1,).

    >>> layer = ExtendedBatchNorm2d(2)
    >>> y = layer(torch.tensor([[1.0, 10.0], [3.0, 30.0]]).view(2, 2, 1, 1))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-0.09, -0.87, 0.09, 0.87]
    >>> layer.running_var.shape
    torch.Size([1])

    Source: Luo, Zhan, Wang & Gao 2020, "Extended Batch Normalization", arXiv 2003.05569: the mean
    along (N, H, W), the standard deviation along (N, C, H, W).

    Departures from the paper: none are known. The standard deviation is read as that of all values
    around their common mean, so the spread of the channels' means is part of it. No code of the
    authors was found to compare with.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        momentum: as in :class:`BatchNorm2d`.
        affine: learn ``weight`` and ``bias``.
        track_running_stats: as in :class:`BatchNorm2d`.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; where the batch's statistics are used, an
            empty batch or one value per channel; one of the two running statistics is None.

    torch.nn has no such layer, and this is no subclass of its batch norm:
    ``convert_sync_batchnorm`` would put plain batch norm in its place. Where several processes
    divide a batch, its statistics are those of the whole.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        BatchStatistics.__init__(
            self,
            channels,
            eps,
            momentum,
            affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        if track_running_stats:
            self.running_var = torch.ones(1, device=device, dtype=dtype)

    def _formula(self, x: Tensor) -> Tensor:
        fixed = self._fixed()
        if fixed is not None:
            mean, var = (per_channel(t, x.dtype) for t in fixed)
            return self._affine(x - mean, torch.rsqrt(var + self.eps))
        self._check_batch(x)
        pool = batch_pool()
        # Near 0, so that the spread of the channels' means keeps its digits.
        with torch.no_grad():
            (means,) = pool.means(x.mean((2, 3), keepdim=True))
            pivot = torch.where(means.isfinite(), means, 0).mean()
        x = x - pivot
        _, map_mean, rest, map_var = map_moments(x)
        mean, of_channels, _ = pool.moments(map_mean, rest, map_var)
        apart = mean - mean.mean(1, keepdim=True)
        var = (of_channels + apart.square()).mean(1, keepdim=True)
        self._track(x, (mean + pivot).detach(), var.detach())
        return self._affine(x - mean, torch.rsqrt(var + self.eps))

    def _values_of_variance(self, x: Tensor) -> int:
        return super()._values_of_variance(x) * self.channels


SPEC = tracking(
    NormSpec(
        name="extended_bn",
        title="Extended batch normalization",
        family="batch",
        layer=ExtendedBatchNorm2d,
        formula="weight * (x - mean_NHW) / sqrt(var_NCHW + eps) + bias",
        axes=("NHW", "NCHW"),
        kept=2.0,
        fails="Where channels differ in scale: the largest decide the spread of all.",
        citation="Luo et al. 2020, Extended Batch Normalization",
    )
)
