"""Synchronized batch normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from .._core import NOTHING, Then
from ..spec import NormSpec, tracking
from ..synchronized import among_processes, is_declared, pooled_over
from .batch import BatchNorm2d

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SyncBatchNorm2d(BatchNorm2d, nn.SyncBatchNorm):  # type: ignore[misc]  # weight may be None
    """Batch normalization over the images of all processes.

    The formula is that of :class:`BatchNorm2d`. Where several processes divide a batch, mean and
    variance are those of the whole batch in training, forward and backward: the moments of the
    parts are weighed by their numbers of images and merged by the law of total variance. Parts may
    differ in size, and have no image at all. In one process it is batch normalization.

    In a run of this package it synchronizes whatever ``--statistics`` says. Elsewhere it asks
    ``torch.distributed``: where that is initialized, every process of ``process_group`` (None, the
    default, for all of them; the attribute can be set) must call the layer at the same time.

    >>> layer = SyncBatchNorm2d(2)
    >>> y = layer(torch.tensor([[1.0, 10.0], [3.0, 30.0]]).view(2, 2, 1, 1))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, -1.0, 1.0, 1.0]

    Source: Zhang et al. 2018, "Context Encoding for Semantic Segmentation", and Peng et al. 2018,
    "MegDet: A Large Mini-Batch Object Detector"; the statistics are those of Ioffe & Szegedy 2015.

    Departures from the papers: parts are weighed by their images, as in ``torch.nn.SyncBatchNorm``.
    That layer refuses tensors on a CPU where there are several processes; this one takes them.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        momentum: as in :class:`BatchNorm2d`.
        affine: learn ``weight`` and ``bias``.
        track_running_stats: as in :class:`BatchNorm2d`.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N are this process's images; it may be 0
        where another process has some, and in evaluation.

    Raises:
        ValueError: as :class:`BatchNorm2d`, of the whole batch.

    It stands in for ``torch.nn.SyncBatchNorm``, which it is a subclass of: state dicts interchange,
    with those of ``torch.nn.BatchNorm2d`` too. ``convert_sync_batchnorm`` puts PyTorch's own layer
    in its place.
    """

    always_synchronized: ClassVar[bool] = True

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
        BatchNorm2d.__init__(
            self,
            channels,
            eps,
            momentum,
            affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        self.process_group: ProcessGroup | None = None

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        if not is_declared() and self._fixed() is None:
            divided = among_processes(x, self.process_group)
            if divided is not None:
                with pooled_over(divided):
                    return super()._normalized(x, then)
        return super()._normalized(x, then)

    def _make_twin(self) -> nn.Module:
        return nn.SyncBatchNorm(
            self.channels,
            self.eps,
            self.momentum,
            self.affine,
            self.track_running_stats,
            process_group=self.process_group,
        )


SPEC = tracking(
    NormSpec(
        name="sync_bn",
        title="Synchronized batch normalization",
        family="batch",
        layer=SyncBatchNorm2d,
        axes=("NHW",),
        fails="As batch normalization, where the batch of all processes together is small. Every "
        "layer waits for the slowest process, forward and backward.",
        citation="Zhang et al. 2018, Context Encoding for Semantic Segmentation",
        twin=nn.SyncBatchNorm,
    )
)
