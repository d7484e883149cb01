"""Batch normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import Norm2d
from ._core import Pool, normalize


class BatchStatistics(Norm2d):
    """Running statistics over the batch: what batch and batch-instance norm have in common.

    Buffers are named as in ``torch.nn.BatchNorm2d``: ``running_mean`` and ``running_var`` of
    shape (C,), and ``num_batches_tracked``.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__(channels, eps, affine)
        if momentum is not None and (
            isinstance(momentum, bool)
            or not isinstance(momentum, (int, float))
            or not 0 <= momentum <= 1
        ):
            raise ValueError(
                f"momentum is the weight of the new value, between 0 and 1, or None for the "
                f"plain average of all batches; got {momentum!r}"
            )
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def _check_batch(self, x: Tensor) -> None:
        if x.shape[0] == 0:
            raise ValueError(
                f"{type(self).__name__} cannot train on an empty batch, "
                f"got input of shape {tuple(x.shape)}; evaluation accepts it"
            )
        values = x.shape[0] * x.shape[2] * x.shape[3]
        self._check_values(x, values, "per channel when training")

    @torch.no_grad()
    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards this batch's mean and UNBIASED variance."""
        count = x.shape[0] * x.shape[2] * x.shape[3]
        unbiased = var * (count / (count - 1))
        self.num_batches_tracked.add_(1)
        factor: Tensor | float
        if self.momentum is None:
            factor = 1.0 / self.num_batches_tracked.to(self.running_mean.dtype)
        else:
            factor = self.momentum
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.lerp_(new.flatten().to(running.dtype), factor)

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


class BatchNorm2d(BatchStatistics):
    """Batch normalization.

    For channel c, with mean and biased variance over all images and positions of the batch::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    In training the running statistics move by ``momentum`` towards the batch's mean and unbiased
    variance (momentum weighs the NEW value; None gives the plain average over all batches). In
    evaluation they are used in place of the batch's.

    >>> layer = BatchNorm2d(2)
    >>> y = layer(torch.tensor([[1.0, 10.0], [3.0, 30.0]]).view(2, 2, 1, 1))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, -1.0, 1.0, 1.0]
    >>> [round(value, 2) for value in layer.running_mean.tolist()]
    [0.2, 2.0]

    Source: Ioffe & Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by
    Reducing Internal Covariate Shift", algorithms 1 and 2.

    Departures from the paper: evaluation uses a moving average, as ``torch.nn.BatchNorm2d`` does,
    where the paper averages over training batches.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        momentum: weight of the new value in the running statistics, or None.
        affine: learn ``weight`` and ``bias``.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; in training, an empty batch or one value
            per channel.

    State dicts interchange with ``torch.nn.BatchNorm2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        if not self.training:
            fixed = (self.running_mean, self.running_var)
            return normalize(x, self.weight, self.bias, (None,), self.eps, fixed=fixed)[0]
        self._check_batch(x)
        y, mean, var = normalize(x, self.weight, self.bias, (Pool(batch=True),), self.eps)
        self._track(x, mean, var)
        return y
