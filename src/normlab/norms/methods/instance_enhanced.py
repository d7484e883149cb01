"""Instance enhancement batch normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import PlainNorm2d
from .._core import normalize, per_channel
from ..spec import NormSpec, tracking
from .batch import BatchStatistics, batch_pool


class InstanceEnhancedBatchNorm2d(PlainNorm2d, BatchStatistics):  # type: ignore[misc]  # weight may be None
    """Instance enhancement batch normalization: batch normalization with a gate from the image.

    With xhat standardized by the batch's statistics and the mean of each map::

        y = weight * sigmoid(gate_weight * mean_map + gate_bias) * xhat + bias

    ``gate_weight`` starts at 0 and ``gate_bias`` at -1, so at first every gate is sigmoid(-1). In
    evaluation xhat is that of the running statistics (as in :class:`BatchNorm2d`); the gate is the
    image's own in both modes.

    >>> layer = InstanceEnhancedBatchNorm2d(1)
    >>> y = layer(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    >>> [round(value, 3) for value in y.flatten().tolist()]
    [-0.269, 0.269]

    Source: Liang, Huang, Liang & Yang 2020, "Instance Enhancement Batch Normalization: an Adaptive
    Regulator of Batch Noise"; initial values as in the authors' code.

    Departures from the paper: none are known. In the authors' code the two parameters of the gate
    are ``weight_readjust`` and ``bias_readjust``, of shape (1, C, 1, 1); values are the same.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        momentum: as in :class:`BatchNorm2d`.
        affine: learn ``weight`` and ``bias``. The gate is always learned.
        track_running_stats: as in :class:`BatchNorm2d`.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; where the batch's statistics are used, an
            empty batch or one value per channel; one of the two running statistics is None.

    torch.nn has no such layer, and this is no subclass of its batch norm:
    ``convert_sync_batchnorm`` would put plain batch norm in its place, without the gate. Where
    several processes divide a batch, xhat is that of the whole.
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
        self.gate_weight = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.gate_bias = nn.Parameter(torch.full((channels,), -1.0, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.gate_weight)
        nn.init.constant_(self.gate_bias, -1.0)

    def _formula(self, x: Tensor) -> Tensor:
        fixed = self._fixed()
        if fixed is not None:
            xhat = normalize(x, None, None, (None,), self.eps, fixed=fixed)
        else:
            self._check_batch(x)
            pools = (batch_pool(),)
            xhat = normalize(x, None, None, pools, self.eps, track=self._tracking(x))
        slope, start = (per_channel(t, x.dtype) for t in (self.gate_weight, self.gate_bias))
        # Not mean(), whose gradient would be laid out in a format of its own.
        map_mean = x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        return self._affine(xhat, torch.sigmoid(slope * map_mean + start))


SPEC = tracking(
    NormSpec(
        name="iebn",
        title="Instance enhancement batch normalization",
        family="both",
        layer=InstanceEnhancedBatchNorm2d,
        formula="weight * sigmoid(gate_weight * mean_HW + gate_bias) * xhat_NHW + bias",
        axes=("NHW", "HW"),
        kept=2.0,
        fails="As batch normalization where batches are small: the gate scales each map, its "
        "statistics remain those of the batch.",
        citation="Liang et al. 2020, Instance Enhancement Batch Normalization",
    ),
    "running statistics for the batch part, the gate from the image",
)
