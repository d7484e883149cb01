"""No normalization."""

from __future__ import annotations

from torch import Tensor

from ._base import Norm2d


class NoNorm2d(Norm2d):
    """The identity, as an arm of its own: ``y = x``.

    It has no parameters. The convolution before it then needs a bias of its own, which the other
    layers make useless by subtracting the mean.

    Args:
        channels: C, checked against the input like in every other layer.

    Shapes:
        (N, C, H, W) to (N, C, H, W): the input itself.

    Raises:
        ValueError: input that is not 4-D, floating-point, of C channels and with pixels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return x

    def extra_repr(self) -> str:
        return f"{self.channels}"
