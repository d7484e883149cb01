"""Batch renormalization."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .._base import at_least
from .._core import (
    NOTHING,
    Pool,
    Then,
    map_moments,
    normalize,
    statistics_dtype,
    without_autocast,
)
from ..schedules import Ramp
from ..spec import NormSpec, tracking
from .batch import BatchStatistics, batch_pool

BEGIN, D_END, R_END = 0.05, 0.25, 0.4
"""Shares of a run: where the corrections begin to be allowed, and where their bounds are reached.
The paper's 5000, 25 000 and 40 000 updates, of 100 000."""


class BatchRenorm2d(BatchStatistics):
    """Batch renormalization: batch normalization in training, corrected towards evaluation.

    With mean and biased variance of the batch, and the running statistics from before it::

        r = clip(sqrt(var + eps) / sqrt(running_var + eps), 1 / r_max, r_max)
        d = clip((mean - running_mean) / sqrt(running_var + eps), -d_max, d_max)
        y = weight * (r * (x - mean) / sqrt(var + eps) + d) + bias

    r and d are constants to the gradient. Where neither is clipped, y is what evaluation makes of
    x. Evaluation is that of :class:`BatchNorm2d`, and so are the running statistics.

    The bounds follow a run (``schedules``): r_max = 1 and d_max = 0, which is batch normalization,
    in its first 5 % of updates; then they grow linearly, d_max until 25 % and r_max until 40 %. A
    layer that is used by itself has the final bounds until ``r_max`` and ``d_max`` are set.

    >>> layer = BatchRenorm2d(1)
    >>> layer.schedules["r_max"].at(0.0), layer.schedules["r_max"].at(1.0)
    (1.0, 3.0)
    >>> y = layer(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))  # running mean 0, variance 1
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [1.0, 3.0]

    Source: Ioffe 2017, "Batch Renormalization: Towards Reducing Minibatch Dependence in
    Batch-Normalized Models", algorithm 1; the schedule is that of its experiments.

    Departures from the paper: the schedule is in shares of a run, where the paper has updates (5000
    without correction, d_max until 25 000, r_max until 40 000, here taken of 100 000). The running
    average is of the variance, unbiased, as in :class:`BatchNorm2d`; the paper's is of the standard
    deviation. ``momentum`` is 0.1, as in the package's other layers; ``momentum=0.01`` is the
    paper's. Other implementations for PyTorch average the standard deviation too, add eps to it,
    and count the schedule in calls of each layer; values differ while running statistics move.

    Args:
        channels: C.
        eps: added to both variances inside the root.
        momentum: as in :class:`BatchNorm2d`.
        affine: learn ``weight`` and ``bias``.
        r_max: final bound of r, at least 1.
        d_max: final bound of d, at least 0.
        track_running_stats: as in :class:`BatchNorm2d`. Without running statistics nothing is
            corrected.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; where the batch's statistics are used, an
            empty batch or one value per channel; one of the two running statistics is None; a bound
            that is no finite number or too small.

    torch.nn has no such layer, and this is no subclass of its batch norm:
    ``convert_sync_batchnorm`` would put plain batch norm in its place.
    """

    schedules: Mapping[str, Ramp]

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
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
        self.r_max = at_least(1, "r_max", r_max)
        self.d_max = at_least(0, "d_max", d_max)
        self.schedules = {
            "r_max": Ramp(((BEGIN, 1.0), (R_END, self.r_max))),
            "d_max": Ramp(((BEGIN, 0.0), (D_END, self.d_max))),
        }

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        fixed = self._fixed()
        if fixed is not None:
            return normalize(x, self.weight, self.bias, (None,), self.eps, fixed=fixed, then=then)
        self._check_batch(x)
        pool = batch_pool()
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        correction = self._correction(x, pool)
        if correction is not None:
            scale, shift = correction
            if weight is not None:
                scale, shift = (weight.to(t.dtype) * t for t in correction)
            weight, bias = scale, shift if bias is None else shift + bias.to(shift.dtype)
        return normalize(x, weight, bias, (pool,), self.eps, then=then, track=self._tracking(x))

    @torch.no_grad()
    def _correction(self, x: Tensor, pool: Pool) -> tuple[Tensor, Tensor] | None:
        """r and d of each channel, shape (C,); None where nothing is corrected."""
        running_mean, running_var = self.running_mean, self.running_var
        if not self.training or running_mean is None or running_var is None:
            return None
        if self.r_max == 1 and self.d_max == 0:
            return None
        with without_autocast(x):
            xs = x.detach().to(statistics_dtype(x))
            _, map_mean, rest, map_var = map_moments(xs)
            mean, var, _ = pool.moments(map_mean, rest, map_var)
            rstd = torch.rsqrt(running_var.to(xs.dtype) + self.eps)
            r = (var.flatten() + self.eps).sqrt() * rstd
            d = (mean.flatten() - running_mean.to(xs.dtype)) * rstd
        return r.clamp(1 / self.r_max, self.r_max), d.clamp(-self.d_max, self.d_max)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"


SPEC = tracking(
    NormSpec(
        name="batch_renorm",
        title="Batch renormalization",
        family="batch",
        layer=BatchRenorm2d,
        formula="weight * (r * (x - mean) / sqrt(var + eps) + d) + bias",
        axes=("NHW",),
        fails="With wide bounds from the first update on. The paper starts as batch normalization "
        "and widens them step by step.",
        citation="Ioffe 2017, Batch Renormalization",
    )
)
