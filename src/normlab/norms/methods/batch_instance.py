"""Batch-instance normalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from .._base import ParameterNeeds
from .._core import NOTHING, Pool, Then, normalize
from ..spec import NormSpec, tracking
from .batch import BatchStatistics, batch_pool


class BatchInstanceNorm2d(BatchStatistics):
    """Batch-instance normalization: a learned mixture of batch and instance normalization.

    With xhat_B standardized by the batch's statistics, xhat_I by those of the image's own map,
    and a gate rho per channel::

        y = weight * (rho * xhat_B + (1 - rho) * xhat_I) + bias

    rho starts at 1. In evaluation the batch part uses the running statistics (as in
    :class:`BatchNorm2d`), the instance part the image's own.

    >>> layer = BatchInstanceNorm2d(3)
    >>> layer.gate.data.fill_(1.2)  # as an optimizer may leave it
    tensor([1.2000, 1.2000, 1.2000])
    >>> layer.clamp_gate()
    >>> layer.gate.tolist()
    [1.0, 1.0, 1.0]

    Source: Nam & Kim 2018, "Batch-Instance Normalization for Adaptively Style-Invariant Neural
    Networks", equation 3; the gate is treated as in section 3 and the authors' code.

    The gate needs 10 times the learning rate of the other parameters, no weight decay, and to be
    clamped to [0, 1] after every optimizer step. The layer says so in ``optimizer_needs``, and
    this package's trainer does it. With another trainer, call ``clamp_gate()`` after each step.
    The layer does not clamp inside forward, where the gradient would be 0 beyond the bounds.

    Args:
        channels: C.
        eps: added to both variances inside the root.
        momentum: as in :class:`BatchNorm2d`.
        affine: learn ``weight`` and ``bias``. The gate is always learned.
        track_running_stats: as in :class:`BatchNorm2d`.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; maps of one pixel; where the batch's
            statistics are used, an empty batch; one of the two running statistics is None.

    torch.nn has no such layer, and this is no subclass of its batch norm:
    ``convert_sync_batchnorm`` would otherwise put plain batch norm in its place, without the
    gate. It leaves this layer alone, so that every process keeps statistics of its own batch, and
    ``update_bn`` passes it over. To estimate the statistics anew, call ``reset_running_stats()``,
    set ``momentum = None`` and pass the images through in training mode. It cannot be fused with
    the convolution before it, since the instance part depends on the image.
    """

    optimizer_needs: ClassVar[Mapping[str, ParameterNeeds]] = {
        "gate": ParameterNeeds(lr_scale=10.0, weight_decay=False, clamp=(0.0, 1.0))
    }

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
        self.gate = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.ones_(self.gate)

    @torch.no_grad()
    def clamp_gate(self) -> None:
        """Clamp the gate to [0, 1]."""
        self.gate.clamp_(0.0, 1.0)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        self._check_values(x, x.shape[2] * x.shape[3], "per map")
        fixed = self._fixed()
        batch = None if fixed is not None else batch_pool()
        if fixed is None:
            self._check_batch(x)
        return normalize(
            x,
            self.weight,
            self.bias,
            (batch, Pool(groups=self.channels)),
            self.eps,
            gate=self.gate,
            fixed=fixed,
            then=then,
            track=self._tracking(x),
        )


SPEC = tracking(
    NormSpec(
        name="bin",
        title="Batch-instance normalization",
        family="both",
        layer=BatchInstanceNorm2d,
        formula="weight * (gate * xhat_NHW + (1 - gate) * xhat_HW) + bias",
        axes=("NHW", "HW"),
        fails="As batch normalization where the gates stay open, which they do at small learning "
        "rates.",
        citation="Nam & Kim 2018, Batch-Instance Normalization",
    ),
    "running statistics for the batch part, the image's own for the instance part",
)
