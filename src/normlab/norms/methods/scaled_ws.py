"""Scaled weight standardization, for networks without normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .._base import ParameterNeeds, positive
from .._convolution import per_filter
from ..places import Parts
from ..spec import NormSpec
from .skipinit import SkipInit2d, on_the_branch
from .weight_standardization import StandardizedConv2d

RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))
"""1 / the standard deviation of max(z, 0) for a normal z of variance 1: 1.7129."""

_CLIPPED = ParameterNeeds(unit_clip=0.01)


class ScaledStandardizedConv2d(StandardizedConv2d):
    """Convolution with filters that keep the variance of what passed a ReLU.

    With mean and variance (divided by n) of the n weights of each output, and one ``gain`` per
    output, which starts at 1, the convolution uses::

        sqrt(2 / (1 - 1 / pi)) * gain * (weight - mean) / sqrt(max(n * var, weight_eps))

    A filter of equal weights becomes one of zeros.

    >>> layer = ScaledStandardizedConv2d(1, 1, (1, 2), bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([3.0, 5.0]))
    >>> [round(value, 4) for value in layer.effective_weight().flatten().tolist()]
    [-1.2112, 1.2112]

    Source: Brock, De & Smith 2021, "Characterizing Signal Propagation to Close the Performance Gap
    in Unnormalized ResNets"; the learned gain and the place of eps are those of the
    authors' code. Clipping of gradients by unit, at 0.01, is that of Brock, De, Smith & Simonyan
    2021, "High-Performance Large-Scale Image Recognition Without Normalization"; as in its code,
    gains and biases are clipped too, and the classifier's weight is not.

    Departures from the paper: the gain of ReLU is exact, where the authors' code has an estimate,
    1.71396. It is a factor of every filter, those of the first convolution included; the code
    applies it to the output of ReLU. As the paper has it, a residual branch is multiplied by 0.2
    and by SkipInit's factor (:class:`ScaledSkipInit2d`), but its input is not divided by the
    spread that the paper predicts for its own blocks, in which ReLU comes before the convolutions.
    The classifier starts as in every other arm. Its bias and the factor of a branch are not
    clipped, as they are in the authors' code: that factor starts at 0, so its gradient could be
    0.00001 at most, and at a learning rate of 0.1 (theirs is 1.6) it would not reach 0.001 within
    100 updates. timm's ScaledStdConv2d adds 1e-6 to the variance in place of the maximum.

    Args:
        shape, named: as in ``torch.nn.Conv2d``.
        weight_eps: least value of the sum of a filter's squares.

    Shapes:
        As in ``torch.nn.Conv2d``. ``gain``: (outputs,).

    Raises:
        ValueError: as :class:`StandardizedConv2d`.
    """

    optimizer_needs: ClassVar[Mapping[str, ParameterNeeds]] = {
        "weight": _CLIPPED,
        "bias": _CLIPPED,
        "gain": _CLIPPED,
    }
    gain: nn.Parameter

    def __init__(self, *shape: Any, weight_eps: float = 1e-4, **named: Any) -> None:
        super().__init__(*shape, weight_eps=weight_eps, **named)
        self.gain = nn.Parameter(torch.ones_like(self.weight[:, 0, 0, 0]))

    def reset_parameters(self) -> None:
        """Draw weight and bias as ``torch.nn.Conv2d`` does; the gain starts at 1."""
        super().reset_parameters()
        if "gain" in self._parameters:
            nn.init.ones_(self.gain)

    def _factors(self, centred: Tensor) -> Tensor:
        squares = centred.square().sum((1, 2, 3), keepdim=True)
        gain = RELU_GAIN * per_filter(self.gain, centred.dtype)
        return gain * torch.rsqrt(squares.clamp_min(self.weight_eps))


class ScaledSkipInit2d(SkipInit2d):
    """A fixed and a learned factor for all values: ``y = alpha * scale * x``, ``scale`` from 0.

    >>> layer = ScaledSkipInit2d(3)
    >>> with torch.no_grad():
    ...     _ = layer.scale.fill_(2.0)
    >>> round(layer(torch.ones(2, 3, 4, 4)).max().item(), 4)
    0.4

    Source: Brock, De & Smith 2021, "Characterizing Signal Propagation to Close the Performance Gap
    in Unnormalized ResNets", with SkipInit as in the authors' code.

    Departures from the paper: see :class:`ScaledStandardizedConv2d`.

    Args:
        channels: C, checked against the input as in every other layer.
        alpha: the fixed factor.
        device: where the parameter is made.
        dtype: its type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. ``scale``: (1,). N may be 0.

    Raises:
        ValueError: a factor that is not a number above 0; input that :class:`Norm2d` refuses.
    """

    def __init__(
        self,
        channels: int,
        alpha: float = 0.2,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, device=device, dtype=dtype)
        self.alpha = positive("alpha", alpha)

    def _scaled(self, x: Tensor) -> Tensor:
        return super()._scaled(x) * self.alpha

    def extra_repr(self) -> str:
        return f"{self.channels}, alpha={self.alpha}"


SPEC = NormSpec(
    name="scaled_ws",
    title="Scaled weight standardization (NF-ResNet)",
    family="weights",
    layer=ScaledSkipInit2d,
    formula="alpha * scale * x",
    filters="sqrt(2 / (1 - 1 / pi)) * gain * (w - mean) / sqrt(max(n * var, weight_eps))",
    axes=(),
    variance="",
    eps_place="",
    conv_bias=True,
    parts=Parts(convolution=ScaledStandardizedConv2d, layer=on_the_branch),
    fails="Large learning rates and strong augmentation make it unstable unless gradients are "
    "clipped by unit, as they are here.",
    citation="Brock, De & Smith 2021, Characterizing Signal Propagation to Close the Performance "
    "Gap in Unnormalized ResNets",
)
