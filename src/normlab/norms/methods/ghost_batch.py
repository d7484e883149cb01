"""Ghost batch normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from .._base import whole
from .._core import NOTHING, ChunkPool, Then, normalize
from ..spec import NormSpec, tracking
from ..synchronized import division, images_of
from .batch import BatchStatistics, batch_pool, move


class GhostBatchNorm2d(BatchStatistics):
    """Batch normalization over chunks of the batch.

    In training the N images are cut into ceil(N / ``virtual_batch_size``) chunks of consecutive
    images, and each is normalized as a batch of its own::

        y = weight * (x - mean_chunk) / sqrt(var_chunk + eps) + bias

    Where the size does not divide N, the chunks are made smaller, all alike: their sizes differ by
    one image at most, so no image is left to a chunk of its own (17 images at 16 are 9 and 8). A
    batch that is no larger than ``virtual_batch_size`` is one chunk, and the layer batch
    normalization.

    The running statistics move towards those of the chunks, one after the other, as batch
    normalization's would if it were given the chunks in turn: ``num_batches_tracked`` counts
    chunks. In evaluation they are used as in :class:`BatchNorm2d`.

    >>> layer = GhostBatchNorm2d(1, virtual_batch_size=2)
    >>> y = layer(torch.tensor([1.0, 3.0, 10.0, 30.0]).view(4, 1, 1, 1))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, 1.0, -1.0, 1.0]
    >>> int(layer.num_batches_tracked)
    2

    Source: Hoffer, Hubara & Soudry 2017, "Train longer, generalize better: closing the
    generalization gap in large batch training of neural networks", algorithm 1.

    Departures from the paper: chunks have nearly equal sizes where the paper's size divides the
    batch. The paper cuts batches of 4096 into chunks of 128; the default here is half a batch of
    32. Some implementations keep running statistics for each place of a chunk, and evaluate with
    the mean of these.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        momentum: as in :class:`BatchNorm2d`, for each chunk.
        affine: learn ``weight`` and ``bias``.
        virtual_batch_size: images of a chunk at most.
        track_running_stats: as in :class:`BatchNorm2d`.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; where the batch's statistics are used, an
            empty batch or a chunk with one value per channel; one of the two running statistics is
            None; a ``virtual_batch_size`` that is not a whole number of at least 1.

    torch.nn has no such layer, and this is no subclass of its batch norm:
    ``convert_sync_batchnorm`` would put plain batch norm in its place. Where several processes
    divide a batch, the chunks are those of the whole batch, whichever process has the images.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        virtual_batch_size: int = 16,
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
        self.virtual_batch_size = whole("virtual_batch_size", virtual_batch_size)

    def _chunks(self, x: Tensor) -> ChunkPool:
        images, divided = images_of(x), division()
        chunks = (images + self.virtual_batch_size - 1) // self.virtual_batch_size
        return ChunkPool(batch=True, divided=divided, images=images, chunks=chunks)

    def _check_batch(self, x: Tensor) -> None:
        super()._check_batch(x)
        pool = self._chunks(x)
        values = pool.images // pool.chunks * x.shape[2] * x.shape[3]  # of the smallest chunk
        self._check_values(x, values, "per channel in every chunk when training")

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        fixed = self._fixed()
        if fixed is not None:
            return normalize(x, self.weight, self.bias, (None,), self.eps, fixed=fixed, then=then)
        self._check_batch(x)
        pool = self._chunks(x) if self.training else batch_pool()
        track = self._tracking(x)
        return normalize(x, self.weight, self.bias, (pool,), self.eps, then=then, track=track)

    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        if not self.training or not self.track_running_stats:
            return
        with torch.no_grad():
            pool = self._chunks(x)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(pool.chunks)
            if self.running_mean is None or self.running_var is None:
                return
            # By image, as a batch of any size is compiled: those of a chunk share what it counts.
            chunk = pool.of_images(x.device)
            images = pool.sizes(x.device)[chunk].to(mean.dtype)
            values = images * x.shape[2] * x.shape[3]
            weights, share = self._turns(pool, chunk, mean.dtype)
            weights = (weights / images).view(-1, 1)
            unbiased = (values / (values - 1)).view(-1, 1)
            for running, new in (
                (self.running_mean, mean.flatten(1)[chunk]),
                (self.running_var, var.flatten(1)[chunk] * unbiased),
            ):
                together = (new * weights).sum(0)
                move(running, together.to(torch.promote_types(running.dtype, mean.dtype)), share)

    def _turns(
        self, pool: ChunkPool, chunk: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | float]:
        """What the chunk of each image weighs among all, and what all weigh against what was there
        before, where the chunks come one after the other."""
        if self.momentum is None:
            count = self.num_batches_tracked
            share = 0.0 if count is None else pool.chunks / count.to(dtype)
            return torch.full_like(chunk, 1, dtype=dtype) / pool.chunks, share
        kept = 1 - self.momentum
        weights = kept ** (pool.chunks - 1 - chunk).to(dtype)
        # Over the chunks: each image has its part of the one it is in.
        total = (weights / pool.sizes(chunk.device)[chunk]).sum()
        return weights / total, 1 - kept**pool.chunks

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, virtual_batch_size={self.virtual_batch_size}"


SPEC = tracking(
    NormSpec(
        name="ghost_bn",
        title="Ghost batch normalization",
        family="batch",
        layer=GhostBatchNorm2d,
        axes=("(N/G)HW",),
        fails="As batch normalization, with chunks in the place of batches: the statistics of "
        "small chunks are noise.",
        citation="Hoffer, Hubara & Soudry 2017, Train longer, generalize better",
    )
)
