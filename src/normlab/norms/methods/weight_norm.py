"""Weight normalization."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._convolution import ReparametrizedConv2d, per_filter
from .._core import statistics_dtype
from ..places import Parts
from ..spec import NormSpec
from .none import NoNorm2d

_FILTER = (1, 2, 3)


class WeightNormConv2d(ReparametrizedConv2d):
    """Convolution whose filters have a length and a direction as parameters.

    With ``v`` the filter of an output (all its weights), which is the parameter ``weight``, and
    one ``gain`` per output, the convolution uses::

        gain * v / |v|

    ``gain`` starts as ``|v|``, so that the layer starts as the plain convolution. A filter of
    zeros has no direction: its length counts as 1, so that it gives zeros and can learn.

    >>> layer = WeightNormConv2d(1, 1, (1, 2), bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([3.0, 4.0]))
    ...     _ = layer.gain.fill_(10.0)
    >>> layer.effective_weight().flatten().tolist()
    [6.0, 8.0]

    Source: Salimans & Kingma 2016, "Weight Normalization: A Simple Reparameterization to
    Accelerate Training of Deep Neural Networks", equation 2.

    Departures from the paper: gain and bias do not start from the statistics of a first batch
    (section 3), but such that the network starts as with plain convolutions.
    ``torch.nn.utils.parametrizations.weight_norm`` computes the same; its gain has the shape
    (outputs, 1, 1, 1).

    Weight decay on ``weight`` does not change the function, only how fast its direction turns.

    Args:
        shape, named: as in ``torch.nn.Conv2d``.

    Shapes:
        As in ``torch.nn.Conv2d``. ``gain``: (outputs,).

    Raises:
        ValueError: what ``torch.nn.Conv2d`` refuses.
    """

    gain: nn.Parameter

    def __init__(self, *shape: Any, **named: Any) -> None:
        super().__init__(*shape, **named)
        self.gain = nn.Parameter(self.weight.new_empty(self.out_channels))
        with torch.no_grad():
            self.weight_drawn()

    def reset_parameters(self) -> None:
        """Draw the weight as ``torch.nn.Conv2d`` does, and set the gain from it."""
        super().reset_parameters()
        if "gain" in self._parameters:
            with torch.no_grad():
                self.weight_drawn()

    def weight_drawn(self) -> None:
        """Set the gain to the length of each filter."""
        self.gain.copy_(_lengths(self.weight.to(statistics_dtype(self.weight))).flatten())

    def _filters(self, weight: Tensor) -> Tensor:
        lengths = _lengths(weight)
        lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
        return weight * (per_filter(self.gain, weight.dtype) / lengths)


def _lengths(weight: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(weight, dim=_FILTER, keepdim=True)
    return found


SPEC = NormSpec(
    name="weight_norm",
    title="Weight normalization",
    family="weights",
    layer=NoNorm2d,
    formula="x",
    filters="gain * w / norm",
    axes=(),
    variance="",
    eps_place="",
    conv_bias=True,
    parts=Parts(convolution=WeightNormConv2d),
    fails="Gitman & Ginsburg 2017 found ResNet-50 on ImageNet less stable, and about 6% less "
    "accurate on test images than with batch normalization.",
    citation="Salimans & Kingma 2016, Weight Normalization",
)
