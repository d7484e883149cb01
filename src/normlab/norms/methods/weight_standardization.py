"""Weight standardization, alone and before group normalization."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._base import positive
from .._convolution import ReparametrizedConv2d
from ..places import Parts
from ..spec import NormSpec
from .group import SPEC as GROUP
from .group import GroupNorm2d
from .none import NoNorm2d

_FILTER = (1, 2, 3)


class StandardizedConv2d(ReparametrizedConv2d):
    """Convolution with standardized filters: weight standardization.

    With mean and variance (divided by n) of the n weights of each output, the convolution uses::

        (weight - mean) / (sqrt(var) + weight_eps)

    A filter of equal weights becomes one of zeros.

    >>> layer = StandardizedConv2d(1, 1, (1, 2), bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([3.0, 5.0]))
    >>> [round(value, 4) for value in layer.effective_weight().flatten().tolist()]
    [-1.0, 1.0]

    Source: Qiao, Wang, Liu, Shen & Yuille 2019, "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization" (first "Weight Standardization").

    Departures from the paper: none. Implementations differ: the authors' PyTorch code divides the
    variance by n - 1, their TensorFlow code by n, and timm's StdConv2d adds 1e-6 to the variance
    inside the root.

    Args:
        shape, named: as in ``torch.nn.Conv2d``.
        weight_eps: added to the standard deviation of a filter.

    Shapes:
        As in ``torch.nn.Conv2d``.

    Raises:
        ValueError: what ``torch.nn.Conv2d`` refuses; an eps that is not a number above 0; filters
            of one weight, which would be 0.
    """

    def __init__(self, *shape: Any, weight_eps: float = 1e-5, **named: Any) -> None:
        super().__init__(*shape, **named)
        self.weight_eps = positive("weight_eps", weight_eps)
        if self.fan_in == 1:
            raise ValueError(
                f"{type(self).__name__} needs filters of more than one weight, got a weight of "
                f"shape {tuple(self.weight.shape)}"
            )

    def _filters(self, weight: Tensor) -> Tensor:
        centred = weight - weight.mean(_FILTER, keepdim=True)
        # Again, for what rounding left out of a mean that is far from 0.
        centred = centred - centred.mean(_FILTER, keepdim=True)
        return centred * self._factors(centred)

    def _factors(self, centred: Tensor) -> Tensor:
        """What standardizes filters whose mean is 0."""
        # Unlike a root of the variance, the length has a finite derivative where all is 0.
        length = torch.linalg.vector_norm(centred, dim=_FILTER, keepdim=True)
        spread: Tensor = length / math.sqrt(self.fan_in)
        return 1 / (spread + self.weight_eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight_eps={self.weight_eps}"  # type: ignore[no-untyped-call]


class HeStandardizedConv2d(StandardizedConv2d):
    """Convolution with standardized filters of He's spread, for networks without normalization.

    With mean and variance (divided by n) of the n weights of each output, the convolution uses::

        sqrt(2 / n) * (weight - mean) / (sqrt(var) + weight_eps)

    >>> layer = HeStandardizedConv2d(1, 1, (1, 2), bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([3.0, 5.0]))
    >>> [round(value, 4) for value in layer.effective_weight().flatten().tolist()]
    [-1.0, 1.0]

    Source: as for :class:`StandardizedConv2d`; the factor is that of He, Zhang, Ren & Sun 2015,
    "Delving Deep into Rectifiers", equation 10.

    Departures from the paper: the factor sqrt(2 / n). Weight standardization was made for
    convolutions with a normalization behind them. Its filters have unit spread; with nothing
    behind them, activations would grow by about sqrt(n / 2) from layer to layer.

    Args:
        shape, named: as in ``torch.nn.Conv2d``.
        weight_eps: added to the standard deviation of a filter.

    Shapes:
        As in ``torch.nn.Conv2d``.

    Raises:
        ValueError: as :class:`StandardizedConv2d`.
    """

    def _factors(self, centred: Tensor) -> Tensor:
        return super()._factors(centred) * math.sqrt(2 / self.fan_in)


_CITATION = "Qiao et al. 2019, Weight Standardization"

ALONE = NormSpec(
    name="ws",
    title="Weight standardization alone",
    family="weights",
    layer=NoNorm2d,
    formula="x",
    filters="sqrt(2 / n) * (w - mean) / (sqrt(var) + weight_eps)",
    axes=(),
    variance="",
    eps_place="",
    conv_bias=True,
    parts=Parts(convolution=HeStandardizedConv2d),
    fails="Its authors advise it only where a normalization follows the convolution.",
    citation=_CITATION,
)

WITH_GROUPS = NormSpec(
    name="gn+ws",
    title="Group normalization with weight standardization",
    family="weights",
    layer=GroupNorm2d,
    filters="(w - mean) / (sqrt(var) + weight_eps)",
    axes=GROUP.axes,
    parts=Parts(convolution=StandardizedConv2d),
    fails="The number of groups must divide every width of the network.",
    citation=_CITATION,
    twin=GROUP.twin,
)
