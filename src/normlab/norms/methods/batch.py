"""Batch normalization."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ...values import plain
from .._base import Norm2d, another_name_for
from .._core import NOTHING, Pool, Then, normalize
from ..kernels import Running
from ..spec import NormSpec, tracking
from ..synchronized import division, images_of

_BATCH = Pool(batch=True)
_SMALL_BATCHES = (
    "With batches of a few images, and where training and evaluation see different images, its "
    "statistics are noise and evaluation is not what was trained."
)


def batch_pool(*, always: bool = False) -> Pool:
    """The whole batch, of which this process may have a part only: as a layer sees it that
    synchronizes ``always``, or where the run says so."""
    divided = division(always=always)
    return _BATCH if divided is None else Pool(batch=True, divided=divided)


class BatchStatistics(Norm2d, _NormBase):  # type: ignore[misc]  # weight may be None
    """Running statistics over the batch: what batch and batch-instance norm have in common.

    Buffers are named as in ``torch.nn.BatchNorm2d``: ``running_mean`` and ``running_var`` of
    shape (C,), and ``num_batches_tracked``. As there, ``momentum`` and ``track_running_stats``
    can be set at any time: without tracking, training leaves the buffers as they are. Where both
    running statistics are None, evaluation takes those of the batch.
    """

    always_synchronized: ClassVar[bool] = False
    """Whether statistics are those of the whole batch also where a run takes them of each process's
    part."""
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    num_features = another_name_for("channels")

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
        Norm2d.__init__(self, channels, eps, affine, device=device, dtype=dtype)
        channels, momentum = self.channels, plain(momentum)
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
        self.track_running_stats = track_running_stats
        mean = var = count = None
        if track_running_stats:
            mean = torch.zeros(channels, device=device, dtype=dtype)
            var = torch.ones(channels, device=device, dtype=dtype)
            count = torch.tensor(0, device=device, dtype=torch.long)
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", var)
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        """Put the running statistics back to mean 0, variance 1 and no batches."""
        if self.running_mean is not None:
            self.running_mean.zero_()
        if self.running_var is not None:
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        Norm2d.reset_parameters(self)
        self.reset_running_stats()

    def _fixed(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance that are used in place of the batch's, or None for the batch's."""
        mean, var = self.running_mean, self.running_var
        if (mean is None) != (var is None):
            raise ValueError(
                f"{type(self).__name__} has one of running_mean and running_var; "
                "the other is None. Set both or neither"
            )
        return None if self.training or mean is None or var is None else (mean, var)

    def _check_batch(self, x: Tensor) -> None:
        images = images_of(x, always=self.always_synchronized)
        if images == 0:
            raise ValueError(
                f"{type(self).__name__} cannot train on an empty batch, "
                f"got input of shape {tuple(x.shape)}; evaluation accepts it"
            )
        values = images * x.shape[2] * x.shape[3]
        self._check_values(x, values, "per channel when training")

    def _tracking(self, x: Tensor) -> _Tracking | None:
        """What a training pass over ``x`` does with the batch's statistics."""
        if not self.training:
            return None
        own = type(self)._track is not BatchStatistics._track
        return _Tracking(self, x) if self.track_running_stats or own else None

    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        """In training, count the batch and move the running statistics towards its own."""
        if not self.training or not self.track_running_stats:
            return
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if self.running_mean is not None and self.running_var is not None:
                count = self._values_of_variance(x)
                self._move(self.running_mean, mean)
                self._move(self.running_var, var, count / (count - 1))  # the UNBIASED variance

    def _values_of_variance(self, x: Tensor) -> int:
        """How many values of the batch a variance is of."""
        return images_of(x, always=self.always_synchronized) * x.shape[2] * x.shape[3]

    def _move(self, running: Tensor, new: Tensor, factor: float | None = None) -> None:
        if factor is not None:
            new = new * factor
        # At least float32: the batch's variance may not fit 16 bits where its share does.
        wide = torch.promote_types(running.dtype, new.dtype)
        move(running, new.flatten().to(wide), self._share_of_new(wide))

    def _share_of_new(self, dtype: torch.dtype) -> Tensor | float:
        if self.momentum is not None:
            return self.momentum
        if self.num_batches_tracked is None:
            return 0.0
        return 1.0 / self.num_batches_tracked.to(dtype)

    def extra_repr(self) -> str:
        said = f"{self.channels}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        return said if self.track_running_stats else f"{said}, track_running_stats=False"


def move(running: Tensor, new: Tensor, share: Tensor | float) -> None:
    """Take running statistics this share of the way to new ones, which have a type that is at least
    as wide."""
    old = running.to(new.dtype)
    # An average that holds an infinity is infinite; the difference would be NaN.
    running.copy_(torch.where(old.isinf(), old, old.lerp(new, share)))


class _Tracking:
    """Running statistics of a layer, which move towards those of a batch."""

    def __init__(self, layer: BatchStatistics, x: Tensor) -> None:
        self.layer, self.x = layer, x

    def move(self, mean: Tensor, var: Tensor) -> None:
        self.layer._track(self.x, mean, var)

    @property
    def running(self) -> Running | None:
        """What the kernels may move by themselves; None where the layer has its own way."""
        layer, x, kind = self.layer, self.x, type(self.layer)
        if (
            not layer.track_running_stats
            or kind._track is not BatchStatistics._track
            or kind._move is not BatchStatistics._move
        ):
            return None
        buffers = layer._buffers
        count = x.shape[0] * x.shape[2] * x.shape[3]
        return Running(
            buffers.get("running_mean"),
            buffers.get("running_var"),
            buffers.get("num_batches_tracked"),
            layer.momentum,
            count / (count - 1),
        )


class BatchNorm2d(BatchStatistics, nn.BatchNorm2d):  # type: ignore[misc]  # weight may be None
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
        track_running_stats: keep running statistics. Without them evaluation uses the batch's.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; where the batch's statistics are used, an
            empty batch or one value per channel; one of the two running statistics is None.

    It stands in for ``torch.nn.BatchNorm2d``, which it is a subclass of: state dicts interchange,
    and ``update_bn``, ``convert_sync_batchnorm`` (which puts PyTorch's own layer in its place),
    ``fuse_conv_bn_eval``, ``torch.func`` and ``torch.fx`` treat it alike. Three things differ. An
    empty batch is refused in training, where PyTorch counts it. Where a loss has an evaluation
    pass and then a training pass, the gradient is that of the statistics which evaluation used;
    PyTorch's is that of the moved ones. Tools that ask for the exact type, and
    ``torch.jit.script``, need :meth:`twin`.
    """

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        fixed = self._fixed()
        if fixed is not None:
            return normalize(x, self.weight, self.bias, (None,), self.eps, fixed=fixed, then=then)
        self._check_batch(x)
        batch = batch_pool(always=self.always_synchronized)
        return normalize(
            x, self.weight, self.bias, (batch,), self.eps, then=then, track=self._tracking(x)
        )

    def _make_twin(self) -> nn.Module:
        track = self.track_running_stats
        return nn.BatchNorm2d(self.channels, self.eps, self.momentum, self.affine, track)


TORCH_BN = tracking(
    NormSpec(
        name="torch_bn",
        title="Batch normalization of PyTorch (control)",
        family="batch",
        layer=nn.BatchNorm2d,
        axes=("NHW",),
        fails=_SMALL_BATCHES,
        citation="torch.nn.BatchNorm2d, after Ioffe & Szegedy 2015",
        twin=nn.BatchNorm2d,
    )
)

SPEC = tracking(
    NormSpec(
        name="bn",
        title="Batch normalization",
        family="batch",
        layer=BatchNorm2d,
        axes=("NHW",),
        fails=_SMALL_BATCHES,
        citation="Ioffe & Szegedy 2015, Batch Normalization",
        twin=nn.BatchNorm2d,
    )
)
