"""Layer normalization over channels at each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from .._base import Norm2d
from .._core import NOTHING, Then
from .._standardize import Sets, standardize
from ..spec import NormSpec

_PIXEL = Sets(axes=(1,))


class LayerNorm2d(Norm2d):
    """Layer normalization of each pixel over its channels, as in ConvNeXt.

    With mean and biased variance over the C values of one pixel of one image::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    with ``weight`` and ``bias`` per channel. Training and evaluation are the same.

    >>> import torch
    >>> y = LayerNorm2d(2)(torch.tensor([1.0, 10.0, 3.0, 30.0]).view(1, 2, 1, 2))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, -1.0, 1.0, 1.0]

    Source: Ba, Kiros & Hinton 2016, "Layer Normalization", equations 3 and 4, for the channels of
    one pixel; Liu et al. 2022, "A ConvNet for the 2020s", which has it in place of batch
    normalization.

    Departures from the paper: none from ConvNeXt's layer; it computes what ``torch.nn.LayerNorm``
    does on a permutation to (N, H, W, C), and has the names of its parameters.
    :class:`LayerNormCHW` is the other meaning of layer normalization on images.

    Args:
        channels: C, at least 2.
        eps: added to the variance inside the root; 1e-6, as in ConvNeXt.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; one channel, whose variance is 0.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-6,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, affine, device=device, dtype=dtype)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        self._check_values(x, self.channels, "per pixel")
        return standardize(x, self.weight, self.bias, _PIXEL, self.eps, then)


SPEC = NormSpec(
    name="pixel_ln",
    title="Layer normalization over channels at each pixel",
    family="sample",
    layer=LayerNorm2d,
    axes=("C",),
    fails="Every pixel gets the same spread, so that the contrast between positions is lost.",
    citation="Ba, Kiros & Hinton 2016, Layer Normalization; Liu et al. 2022, A ConvNet for the "
    "2020s",
)
