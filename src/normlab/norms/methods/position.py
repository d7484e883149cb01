"""Positional normalization."""

from __future__ import annotations

from torch import Tensor

from .._base import Norm2d
from .._core import NOTHING, Then
from .._standardize import Sets, standardize
from ..spec import NormSpec

_PIXEL = Sets(axes=(1,), unbiased=True)


class PositionNorm2d(Norm2d):
    """Positional normalization: each pixel over its channels, with the unbiased variance.

    With the mean and the variance with divisor C - 1 over the C values of one pixel of one image::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    Training and evaluation are the same. Up to that divisor it is :class:`LayerNorm2d`.

    >>> import torch
    >>> y = PositionNorm2d(3)(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, 0.0, 1.0]

    Source: Li, Wu, Weinberger & Belongie 2019, "Positional Normalization", with the divisor, the
    eps and its place of the authors' code in PyTorch, https://github.com/Boyiliee/PONO.

    Departures from the paper: ``weight`` and ``bias`` per channel, so that the arm differs from
    others in its statistics alone. The authors' function has none, and where a network of theirs
    has them they are per position, which ties the layer to one image size. Their code in TensorFlow
    divides by C. In generative networks the paper hands mean and deviation on to later layers
    (moment shortcuts); here they are discarded.

    Args:
        channels: C, at least 2.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; one channel, which has no variance.
    """

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        self._check_values(x, self.channels, "per pixel")
        return standardize(x, self.weight, self.bias, _PIXEL, self.eps, then)


SPEC = NormSpec(
    name="position",
    title="Positional normalization",
    family="sample",
    layer=PositionNorm2d,
    axes=("C",),
    variance="n - 1",
    fails="Made for generative networks, which get mean and deviation back in later layers; "
    "without that, the contrast between positions is lost.",
    citation="Li, Wu, Weinberger & Belongie 2019, Positional Normalization",
)
