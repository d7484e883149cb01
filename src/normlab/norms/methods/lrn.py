"""Local response normalization."""

from __future__ import annotations

from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._base import PlainNorm2d, at_least, positive, whole
from .._core import needs_plain_operations
from ..places import Parts, Place
from ..spec import NormSpec
from .none import NoNorm2d


class LocalResponseNorm2d(PlainNorm2d):
    """Local response normalization across neighbouring channels.

    With the sum of squares over the ``size`` channels around channel c at the same pixel (fewer at
    the first and last channels)::

        y[c] = x[c] / (k + alpha * sum of x[j] ** 2) ** beta,    |j - c| <= size // 2

    It has no parameters. Training and evaluation are the same.

    >>> import torch
    >>> y = LocalResponseNorm2d(2, size=3, alpha=1.0, beta=0.5, k=0.5)(torch.ones(1, 2, 1, 1))
    >>> [round(value, 4) for value in y.flatten().tolist()]  # 1 / sqrt(0.5 + 1 + 1)
    [0.6325, 0.6325]

    Source: Krizhevsky, Sutskever & Hinton 2012, "ImageNet Classification with Deep Convolutional
    Neural Networks", section 3.3, with its constants: k = 2, n = 5 (``size``), alpha = 1e-4,
    beta = 0.75. There it follows the ReLU of the first two convolutions.

    Departures from the paper: the arm has it after the ReLU of the stem and of every block's first
    convolution, with a plain ReLU after the sum at the end of a block, since AlexNet has no
    residual blocks. ``torch.nn.LocalResponseNorm`` divides the sum by ``size``, so that it computes
    this layer with ``alpha=size * alpha``, and its default k is 1, both as Caffe has it.

    Args:
        channels: C.
        size: channels in the window, odd.
        alpha: weight of the sum of squares, at least 0.
        beta: exponent, at least 0.
        k: added to the sum, above 0.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: an impossible argument; input that :class:`Norm2d` refuses.
    """

    conv_bias: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 2.0,
    ) -> None:
        super().__init__(channels, affine=False)
        self.size = whole("size", size, odd=True)
        self.alpha = at_least(0, "alpha", alpha)
        self.beta = at_least(0, "beta", beta)
        self.k = positive("k", k)  # a window may be all zeros

    def _formula(self, x: Tensor) -> Tensor:
        return x * (self.k + self.alpha * self._sums(x.square())).pow(-self.beta)

    def _sums(self, values: Tensor) -> Tensor:
        """Of each window of channels."""
        reach = min(self.size // 2, self.channels - 1)
        if needs_plain_operations(values):
            return window_sums(values, reach)
        sums: Tensor = _WindowSums.apply(values, reach)  # type: ignore[no-untyped-call]
        return sums

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, size={self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
        )


def window_sums(values: Tensor, reach: int) -> Tensor:
    """The sum over the channels at most ``reach`` away from each."""
    channels = values.shape[1]
    padded = F.pad(values, (0, 0, 0, 0, reach, reach))
    return reduce(torch.add, (padded.narrow(1, i, channels) for i in range(2 * reach + 1)))


class _WindowSums(torch.autograd.Function):
    """:func:`window_sums`. Who is in whose window goes both ways, so backward is the same sum, in
    place of one map of zeros for each channel of the window."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, reach: int) -> Tensor:
        ctx.reach = reach
        return window_sums(values, reach)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return window_sums(g, ctx.reach), None


class ReLULocalResponseNorm2d(LocalResponseNorm2d):
    """Local response normalization after a ReLU: ``LocalResponseNorm2d(C)(relu(x))``.

    Arguments, shapes and errors are those of :class:`LocalResponseNorm2d`.
    """

    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x.relu())


def _nothing(_: Place) -> type[nn.Module]:
    return NoNorm2d


def _activation(place: Place) -> type[nn.Module]:
    return ReLULocalResponseNorm2d if place.position in ("stem", "inner") else nn.ReLU


SPEC = NormSpec(
    name="lrn",
    title="Local response normalization",
    family="sample",
    layer=LocalResponseNorm2d,
    formula="x / (k + alpha * sum(x[j] ** 2 for j in window)) ** beta",
    axes=("C window",),
    variance="",
    eps_place="",
    conv_bias=True,
    parts=Parts(layer=_nothing, activation=_activation),
    kept=3.0,
    fails="With the paper's constants it divides values of a few units by nearly the same number "
    "everywhere. Simonyan & Zisserman 2015 (VGG) saw no gain from it.",
    citation="Krizhevsky, Sutskever & Hinton 2012, ImageNet Classification with Deep CNNs",
)
