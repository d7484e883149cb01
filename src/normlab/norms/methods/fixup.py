"""Fixup: initial weights and scalars in the place of normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from .._base import Norm2d, ParameterNeeds, recorded
from .._core import NOTHING, Then, followed, statistics_dtype, without_autocast
from ..places import Parts, Place
from ..spec import NormSpec
from .none import NoNorm2d
from .skipinit import SkipInit2d

_SLOW = ParameterNeeds(lr_scale=0.1)


class FixupConv2d(nn.Conv2d):
    """Convolution of ``x + input_bias``, one number for all values, which starts at 0.

    What is padded stays 0, so this is no bias of the output. For backward the sum is kept. After a
    ReLU, which keeps its output x, that is an activation more than a plain convolution has kept.

    >>> layer = FixupConv2d(1, 1, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.fill_(2.0)
    ...     _ = layer.input_bias.fill_(1.0)
    >>> layer(torch.ones(1, 1, 1, 1)).item()
    4.0

    Source: Zhang, Dauphin & Ma 2019, "Fixup Initialization: Residual Learning Without
    Normalization", section 3.

    Departures from the paper: no such bias before the classifier, whose own biases can express
    it. The authors' code has none before the first convolution, where the paper asks for one, and
    gives a shortcut that changes the shape the bias of its block's first convolution. Initial
    weights have the variance 2 / fan-in as in every other arm, where the code has 2 / fan-out.

    Args:
        shape, named: as in ``torch.nn.Conv2d``.

    Shapes:
        As in ``torch.nn.Conv2d``. ``input_bias``: (1,).

    Raises:
        ValueError: what ``torch.nn.Conv2d`` refuses.
    """

    optimizer_needs: ClassVar[Mapping[str, ParameterNeeds]] = {"input_bias": _SLOW}
    input_bias: nn.Parameter

    def __init__(self, *shape: Any, **named: Any) -> None:
        super().__init__(*shape, **named)
        self.input_bias = nn.Parameter(self.weight.new_zeros(1))

    def reset_parameters(self) -> None:
        """Draw the weight as ``torch.nn.Conv2d`` does; ``input_bias`` starts at 0."""
        super().reset_parameters()
        if "input_bias" in self._parameters:
            nn.init.zeros_(self.input_bias)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return recorded(self, x)
        return super().forward((x + self.input_bias.to(statistics_dtype(x))).to(x.dtype))


class FixupBias2d(Norm2d):
    """One number that is added to all values: ``y = x + bias``, with ``bias`` starting at 0.

    >>> layer = FixupBias2d(3)
    >>> with torch.no_grad():
    ...     _ = layer.bias.fill_(1.0)
    >>> layer(torch.zeros(1, 3, 1, 1)).flatten().tolist()
    [1.0, 1.0, 1.0]

    Source: Zhang, Dauphin & Ma 2019, "Fixup Initialization: Residual Learning Without
    Normalization", section 3: the bias before an activation.

    Args:
        channels: C, checked against the input as in every other layer.
        device: where the parameter is made.
        dtype: its type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. ``bias``: (1,). N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    optimizer_needs: ClassVar[Mapping[str, ParameterNeeds]] = {"bias": _SLOW}
    bias: nn.Parameter

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, affine=False)
        self.bias = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        with without_autocast(x):
            y = (x + self.bias.to(statistics_dtype(x))).to(x.dtype)
        return followed(y, then)

    def extra_repr(self) -> str:
        return f"{self.channels}"


class FixupScale2d(SkipInit2d):
    """One learned factor and one learned summand for all values: ``y = scale * x + bias``.

    ``scale`` starts at 1 and ``bias`` at 0.

    >>> layer = FixupScale2d(3)
    >>> layer(torch.ones(1, 3, 1, 1)).flatten().tolist()
    [1.0, 1.0, 1.0]

    Source: Zhang, Dauphin & Ma 2019, "Fixup Initialization: Residual Learning Without
    Normalization", section 3: the end of a residual branch. Scale and bias learn at a tenth of the
    learning rate, as in the authors' code.

    Departures from the paper: see :class:`FixupConv2d`.

    Args:
        channels: C, checked against the input as in every other layer.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. ``scale`` and ``bias``: (1,). N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    optimizer_needs: ClassVar[Mapping[str, ParameterNeeds]] = {"scale": _SLOW, "bias": _SLOW}
    start: ClassVar[float] = 1.0
    bias: nn.Parameter

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, device=device, dtype=dtype)
        self.bias = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def _scaled(self, x: Tensor) -> Tensor:
        return super()._scaled(x) + self.bias.to(statistics_dtype(x))


def _layer(place: Place) -> type[nn.Module] | None:
    if place.position == "last":
        return None
    return NoNorm2d if place.position == "shortcut" else FixupBias2d


def _spread(place: Place) -> float:
    """L blocks of m = 2 convolutions: L ** (-1 / (2 m - 2)) for the first, 0 for the last."""
    factors = {"inner": 1 / math.sqrt(place.depth), "last": 0.0}
    return factors.get(place.position, 1.0)


SPEC = NormSpec(
    name="fixup",
    title="Fixup initialization",
    family="without",
    layer=FixupScale2d,
    formula="scale * x + bias",
    axes=(),
    variance="",
    eps_place="",
    parts=Parts(convolution=FixupConv2d, layer=_layer, weights=_spread, classifier=0.0),
    fails="It lacks the noise of batch statistics, which regularizes: its authors add other "
    "regularization, such as mixup, for their best results.",
    citation="Zhang, Dauphin & Ma 2019, Fixup Initialization",
)
