"""Instance normalization."""

from __future__ import annotations

from torch import Tensor

from ._base import Norm2d
from ._core import Pool, normalize


class InstanceNorm2d(Norm2d):
    """Instance normalization.

    With mean and biased variance over the positions of one channel of one image::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    Training and evaluation are the same: there are no running statistics.

    >>> import torch
    >>> y = InstanceNorm2d(1)(torch.tensor([[1.0, 3.0], [10.0, 30.0]]).view(2, 1, 1, 2))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, 1.0, -1.0, 1.0]

    Source: Ulyanov, Vedaldi & Lempitsky 2016, "Instance Normalization: The Missing Ingredient for
    Fast Stylization".

    Departures from ``torch.nn.InstanceNorm2d``: ``affine`` is True by default, as for the other
    layers compared here; a map of one pixel is an error in evaluation too, since the output would
    be the bias whatever the input.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; maps of one pixel.

    State dicts interchange with ``torch.nn.InstanceNorm2d(channels, affine=True)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        self._check_values(x, x.shape[2] * x.shape[3], "per map")
        return normalize(x, self.weight, self.bias, (Pool(groups=self.channels),), self.eps)[0]
