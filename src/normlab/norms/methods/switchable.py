"""Switchable normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import PlainNorm2d
from .._core import Pool, map_moments, per_channel
from ..spec import NormSpec, tracking
from .batch import BatchStatistics, batch_pool


class SwitchableNorm2d(BatchStatistics, PlainNorm2d):  # type: ignore[misc]  # weight may be None
    """Switchable normalization: learned mixtures of the statistics of instance, layer and batch.

    With mean and biased variance of a value's map (HW), image (CHW) and batch (NHW), and the
    shares m = softmax(``mean_weight``) and v = softmax(``var_weight``)::

        mean = m[0] * mean_HW + m[1] * mean_CHW + m[2] * mean_NHW
        var  = v[0] * var_HW  + v[1] * var_CHW  + v[2] * var_NHW
        y    = weight * (x - mean) / sqrt(var + eps) + bias

    ``mean_weight`` and ``var_weight`` are three numbers each for the whole layer and start at 1, so
    that all shares are a third. In evaluation the batch's part are running statistics (as in
    :class:`BatchNorm2d`), the others the image's own.

    >>> layer = SwitchableNorm2d(3)
    >>> [round(share, 3) for share in layer.mean_weight.softmax(0).tolist()]
    [0.333, 0.333, 0.333]

    Source: Luo, Ren, Peng, Zhang & Li 2019, "Differentiable Learning-to-Normalize via Switchable
    Normalization", section 2, and the authors' code,
    https://github.com/switchablenorms/Switchable-Normalization.

    Departures from the paper: evaluation uses a moving average by default, as the authors' code
    does; ``momentum=None`` is the average over batches that the code has besides. The code stores
    the variance that normalizes in training and starts it at 0; here the unbiased one is stored and
    starts at 1, as in ``torch.nn.BatchNorm2d``, so that a layer with the whole share on the batch
    is batch normalization. The code divides a map's variance by H*W - 1 and makes the other two
    variances from that; here all three divide by n, as the formula says. It
    takes maps of one pixel, which are refused here.

    Args:
        channels: C.
        eps: added to the mixed variance inside the root.
        momentum: as in :class:`BatchNorm2d`.
        affine: learn ``weight`` and ``bias``. The mixtures are always learned.
        track_running_stats: as in :class:`BatchNorm2d`.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; maps of one pixel; where the batch's
            statistics are used, an empty batch; one of the two running statistics is None.

    torch.nn has no such layer: ``convert_sync_batchnorm`` leaves it alone, and ``update_bn`` passes
    it over, as for :class:`BatchInstanceNorm2d`.
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
        super().__init__(
            channels,
            eps,
            momentum,
            affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        self.mean_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))
        self.var_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.ones_(self.mean_weight)
        nn.init.ones_(self.var_weight)

    def _formula(self, x: Tensor) -> Tensor:
        self._check_values(x, x.shape[2] * x.shape[3], "per map")
        fixed = self._fixed()
        if fixed is None:
            self._check_batch(x)
        centred, *of_map = map_moments(x)
        pools = [Pool(groups=self.channels), Pool(groups=1)]
        if fixed is None:
            pools.append(batch_pool())
        found = [pool.moments(*of_map) for pool in pools]
        if fixed is None:
            mean, var, _ = found[2]
            self._track(x, mean.detach(), var.detach())
        else:
            mean, var = (per_channel(t, x.dtype) for t in fixed)
            found.append((mean, var, of_map[0] - mean))
        # The shares add up to 1: x minus the mixed mean is the mixture of what is x minus each.
        m, v = (t.to(x.dtype).softmax(0) for t in (self.mean_weight, self.var_weight))
        _, variances, offsets = zip(*found, strict=True)
        offset = m[0] * offsets[0] + m[1] * offsets[1] + m[2] * offsets[2]
        var = v[0] * variances[0] + v[1] * variances[1] + v[2] * variances[2]
        return self._affine(centred + offset, torch.rsqrt(var + self.eps))


SPEC = tracking(
    NormSpec(
        name="switchable",
        title="Switchable normalization",
        family="both",
        layer=SwitchableNorm2d,
        formula="weight * (x - softmax(mean_weight) @ (mean_HW, mean_CHW, mean_NHW)) "
        "/ sqrt(softmax(var_weight) @ (var_HW, var_CHW, var_NHW) + eps) + bias",
        axes=("HW", "CHW", "NHW"),
        kept=2.0,
        fails="Where its mixture keeps to the batch's part, as batch normalization with small "
        "batches.",
        citation="Luo, Ren, Peng, Zhang & Li 2019, Differentiable Learning-to-Normalize via "
        "Switchable Normalization",
    ),
    "running statistics for the batch's part, the image's own for the others",
)
