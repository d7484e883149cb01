"""Root mean square normalization over channels and positions."""

from __future__ import annotations

from torch import Tensor

from .._base import Norm2d
from .._core import NOTHING, Pool, Then, normalize
from ..spec import NormSpec

_IMAGE = Pool(groups=1, centred=False)


class RMSNormCHW(Norm2d):
    """Root mean square normalization of each image over all its channels and positions.

    With the mean square ms over C, H and W of one image::

        y = weight * x / sqrt(ms + eps) + bias

    with ``weight`` and ``bias`` per channel. It is :class:`LayerNormCHW` without the mean: the
    image is scaled and not shifted. Training and evaluation are the same.

    >>> import torch
    >>> y = RMSNormCHW(2)(torch.tensor([1.0, 1.0, 7.0, 7.0]).view(1, 2, 1, 2))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [0.2, 0.2, 1.4, 1.4]

    Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.

    Departures from the paper: it is about vectors of a sequence; here the vector is the whole
    image, as for :class:`LayerNormCHW`. Weight and bias per channel, not per element, so that the
    layer is not tied to one image size. The equation has no eps; inside the root it stands in
    ``torch.nn.RMSNorm`` too, whose default is the machine's epsilon. That layer has no bias.
    Layers named RmsNorm2d elsewhere (timm) take the mean square over C alone at each pixel.

    Args:
        channels: C.
        eps: added to the mean square inside the root.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        return normalize(x, self.weight, self.bias, (_IMAGE,), self.eps, then=then)


SPEC = NormSpec(
    name="rms",
    title="Root mean square normalization over channels and positions",
    family="sample",
    layer=RMSNormCHW,
    formula="weight * x / sqrt(ms + eps) + bias",
    axes=("CHW",),
    variance="",
    fails="Leaves the mean in: where a few channels lie far from 0, they set the scale of their "
    "whole image.",
    citation="Zhang & Sennrich 2019, Root Mean Square Layer Normalization",
)
