"""Instance-batch normalization: the two networks of IBN-Net.

IBN-a has a layer of its own. IBN-b has batch normalization after each convolution but the stem's,
which has instance normalization, and so have the last sums of the early stages, before the ReLU.
The paper's networks have four stages, and the authors' code takes the first two of them for early
(``ibn_cfg=('b', 'b', None, None)`` in ``ibnnet/resnet_ibn.py``). Of the three stages here the first
two are: instance normalization stands in as many places as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._core import NOTHING, Pool, Then, followed, normalize
from ..places import Parts, Place
from ..spec import NormSpec, tracking
from .batch import BatchNorm2d, BatchStatistics, batch_pool
from .instance import InstanceNorm2d


class InstanceBatchNorm2d(BatchStatistics):
    """Instance normalization of the first half of the channels, batch normalization of the rest.

    With C channels, the first C // 2 have mean and biased variance over the positions of one image,
    the others over all images and positions of the batch::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    The running statistics are those of the second half; training and evaluation treat them as
    :class:`BatchNorm2d` does. For the first half both are the same.

    >>> layer = InstanceBatchNorm2d(16)
    >>> layer.weight.shape, layer.running_mean.shape
    (torch.Size([16]), torch.Size([8]))

    Source: Pan, Luo, Shi & Tang 2018, "Two at Once: Enhancing Learning and Generalization
    Capacities via IBN-Net", the block IBN-a. There it follows the first convolution of each
    residual block, except in the last stage; all other places have batch normalization.

    Departures from the paper: none in what is computed. In the authors' code (``IBN`` in
    ``ibnnet/modules.py``) the two halves are layers of their own, so names of the state differ
    (``IN.weight`` and ``BN.weight`` for the two parts of ``weight``), and an odd number of channels
    fails; here the second half has one channel more then.

    Args:
        channels: C, at least 2.
        eps: added to the variance inside the root, in both halves.
        momentum: weight of the new value in the running statistics, or None for the plain average.
        affine: learn ``weight`` and ``bias``.
        track_running_stats: as in :class:`BatchNorm2d`.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: fewer than two channels; input that :class:`Norm2d` refuses; maps of one pixel;
            where the batch's statistics are used, an empty batch; one of the two running statistics
            is None.
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
        if self.channels < 2:
            raise ValueError("InstanceBatchNorm2d needs at least two channels, one for each half")
        for name in ("running_mean", "running_var"):
            running = self._buffers[name]
            if running is not None:
                self.register_buffer(name, running[self.instance_channels :].clone())

    @property
    def instance_channels(self) -> int:
        """How many channels have instance normalization: the first C // 2."""
        return self.channels // 2

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        self._check_values(x, x.shape[2] * x.shape[3], "per map")
        fixed = self._fixed()
        if fixed is None:
            self._check_batch(x)
        first = self.instance_channels
        by_map, by_batch = torch.split(x, [first, self.channels - first], 1)
        weights, biases = self._halves(self.weight), self._halves(self.bias)
        maps = Pool(groups=first)
        batch = None if fixed is not None else batch_pool()
        y = (
            normalize(by_map, weights[0], biases[0], (maps,), self.eps),
            normalize(
                by_batch,
                weights[1],
                biases[1],
                (batch,),
                self.eps,
                fixed=fixed,
                track=self._tracking(by_batch),
            ),
        )
        return followed(torch.cat(y, 1), then)

    def _halves(self, parameter: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if parameter is None:
            return None, None
        first = self.instance_channels
        return parameter[:first], parameter[first:]


def _instance_batch(place: Place) -> type[nn.Module] | None:
    """IBN-a has its layer after the first convolution of a block, before the last stage."""
    ends = place.stage == place.stages - 1
    return None if place.position == "inner" and not ends else BatchNorm2d


def _early(place: Place) -> bool:
    """Whether a stage is in the first half, the middle one included."""
    return place.stage < (place.stages + 1) // 2


def _stem(place: Place) -> type[nn.Module] | None:
    return InstanceNorm2d if place.position == "stem" else None


def _ends_of_stages(place: Place) -> type[nn.Module] | None:
    """IBN-b has instance normalization after the last sum of each early stage."""
    return InstanceNorm2d if _early(place) and place.block == place.blocks - 1 else None


_PAPER = "Pan, Luo, Shi & Tang 2018, IBN-Net"

A = tracking(
    NormSpec(
        name="ibn_a",
        title="IBN-Net a: instance normalization of half of the channels",
        family="both",
        layer=InstanceBatchNorm2d,
        formula="weight * (xhat_HW if c < C // 2 else xhat_NHW) + bias",
        axes=("HW", "NHW"),
        parts=Parts(layer=_instance_batch),
        fails="As batch normalization with batches of a few images. Maps of one pixel have no "
        "variance and are refused.",
        citation=_PAPER,
    ),
    "running statistics for the batch half, the image's own for the other half",
)

B = tracking(
    NormSpec(
        name="ibn_b",
        title="IBN-Net b: batch normalization, with instance normalization after the stem and the "
        "early stages",
        family="both",
        layer=BatchNorm2d,
        formula="weight * xhat_NHW + bias",
        axes=("NHW",),
        parts=Parts(layer=_stem, after_sum=_ends_of_stages),
        fails="As batch normalization with batches of a few images. Removes the contrast of each "
        "map after the stem and after the early stages.",
        citation=_PAPER,
    ),
    "running statistics",
)
