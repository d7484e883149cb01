"""Batch-instance normalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ._base import ParameterNeeds
from ._core import Pool, normalize
from .batch import BatchStatistics


class BatchInstanceNorm2d(BatchStatistics):
    """Batch-instance normalization: a learned mixture of batch and instance normalization.

    With xhat_B standardized by the batch's statistics, xhat_I by those of the image's own map,
    and a gate rho per channel::

        y = weight * (rho * xhat_B + (1 - rho) * xhat_I) + bias

    rho starts at 1. In evaluation the batch part uses the running statistics (as in
    :class:`BatchNorm2d`), the instance part the image's own.

    Source: Nam & Kim 2018, "Batch-Instance Normalization for Adaptively Style-Invariant Neural
    Networks", equation 3; the gate's treatment is of section 3 and the authors' code.

    The gate needs its own learning rate (10 times the others'), no weight decay, and to be put
    back into [0, 1] after every optimizer step. The layer says so in ``optimizer_needs``, and this
    package's trainer does it. With another trainer, call ``clamp_gate()`` after each step. The
    layer does not clamp inside forward, where the gradient would die beyond the bounds.

    Args:
        channels: C.
        eps: added to both variances inside the root.
        momentum: weight of the new value in the running statistics, or None.
        affine: learn ``weight`` and ``bias``.

    Shapes:
        (N, C, H, W) to (N, C, H, W), in the input's type and memory format. Statistics are
        float32 (float64 for float64 input). An empty batch passes through in evaluation.

    Raises:
        ValueError: input that is not 4-D, floating-point, of C channels and with pixels; maps of
            one pixel; in training, an empty batch.
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
    ) -> None:
        super().__init__(channels, eps, momentum, affine)
        self.gate = nn.Parameter(torch.ones(channels))

    @torch.no_grad()
    def clamp_gate(self) -> None:
        """Put the gate back into [0, 1]."""
        self.gate.clamp_(0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        self._check_values(x, x.shape[2] * x.shape[3], "per map")
        instance = Pool(groups=self.channels)
        if not self.training:
            return normalize(
                x,
                self.weight,
                self.bias,
                (None, instance),
                self.eps,
                gate=self.gate,
                fixed=(self.running_mean, self.running_var),
            )[0]
        self._check_batch(x)
        y, mean, var = normalize(
            x, self.weight, self.bias, (Pool(batch=True), instance), self.eps, gate=self.gate
        )
        self._track(x, mean, var)
        return y
