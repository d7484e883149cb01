"""Filter response normalization and its activation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .._base import Norm2d, PlainNorm2d, yes_or_no
from .._core import (
    NOTHING,
    Pool,
    Then,
    gradients_see_operations,
    needs_plain_operations,
    normalize,
    per_channel,
)
from .._standardize import Sets, standardize
from ..places import Parts
from ..spec import NormSpec

_MAP = Sets(axes=(2, 3), centred=False)


class FilterResponseNorm2d(Norm2d):
    """Filter response normalization.

    With the mean square ms over the positions of one channel of one image::

        y = weight * x / sqrt(ms + eps) + bias

    Training and evaluation are the same. It was made together with
    :class:`ThresholdedLinearUnit2d`, which the arm ``frn_tlu`` has in place of every ReLU. The arm
    ``frn`` is this layer alone, before the network's own activations.

    >>> y = FilterResponseNorm2d(1)(torch.tensor([[1.0, 7.0], [10.0, 70.0]]).view(2, 1, 1, 2))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [0.2, 1.4, 0.2, 1.4]

    Source: Singh & Krishnan 2020, "Filter Response Normalization Layer: Eliminating Batch
    Dependence in the Training of Deep Neural Networks".

    The paper recommends a learned eps for maps of one pixel, where the output is otherwise nearly
    the sign of the input. With ``learned_eps`` the eps is ``eps + abs(extra_eps)``, one number for
    the layer, as in public implementations, which starts at 1e-4.

    Departures from the paper: none in the layer. About the network, see
    :class:`ThresholdedLinearUnit2d`. timm's layer has an eps of 1e-5 by default; in float32
    its values are the same otherwise.

    Args:
        channels: C.
        eps: added to the mean square inside the root; 1e-6, as in the paper.
        learned_eps: learn a number that is added to ``eps``. Compiled kernels do not compute this.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: an impossible argument; input that :class:`Norm2d` refuses.
    """

    extra_eps: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        eps: float = 1e-6,
        learned_eps: bool = False,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, affine, device=device, dtype=dtype)
        self.learned_eps = yes_or_no("learned_eps", learned_eps)
        extra = nn.Parameter(torch.tensor(1e-4, device=device, dtype=dtype))
        self.register_parameter("extra_eps", extra if self.learned_eps else None)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.extra_eps is not None:
            nn.init.constant_(self.extra_eps, 1e-4)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        extra = self.extra_eps
        if extra is not None:
            return standardize(x, self.weight, self.bias, _MAP, self.eps + extra.abs(), then)
        pool = Pool(groups=self.channels, centred=False)
        return normalize(x, self.weight, self.bias, (pool,), self.eps, then=then)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, eps={self.eps}, learned_eps={self.learned_eps}, affine={self.affine}"
        )


class ThresholdedLinearUnit2d(PlainNorm2d):
    """Thresholded linear unit (TLU), the activation of filter response normalization.

    With a threshold tau per channel, which is learned and starts at 0::

        y = max(x, tau)

    At the start it is ReLU, and has its derivative: where x equals tau, the gradient is tau's.

    >>> layer = ThresholdedLinearUnit2d(2)
    >>> _ = layer.tau.data.copy_(torch.tensor([0.0, -1.0]))
    >>> layer(torch.tensor([-2.0, -2.0]).view(1, 2, 1, 1)).flatten().tolist()
    [0.0, -1.0]

    Source: Singh & Krishnan 2020, "Filter Response Normalization Layer: Eliminating Batch
    Dependence in the Training of Deep Neural Networks".

    In a network, filter response normalization follows every convolution and the TLU stands where
    a ReLU would: in a block after the first normalization and after the sum, nowhere on a shortcut.

    Departures from the paper: its residual networks are of the second version, in which an
    activation follows every normalization at once. For the first version, which this is, sources
    disagree. Here it is as in Wu's reproduction,
    https://github.com/ppwwyyxx/FRN-on-common-ImageNet-baseline. Google's networks of Bayesian
    inference (bnn_hmc) have a TLU right after each normalization, also before the sum and on the
    shortcut, and a ReLU or another activation besides.

    Args:
        channels: C.
        device: where the parameter is made.
        dtype: its type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), in the input's type and memory format. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, affine=False)
        self.tau = nn.Parameter(torch.zeros(self.channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.tau)

    def _formula(self, x: Tensor) -> Tensor:
        if needs_plain_operations(x, self.tau):
            tau = per_channel(self.tau, x.dtype)
            return torch.where(x <= tau, tau, x)  # a NaN stays
        y: Tensor = _Thresholded.apply(x, self.tau)  # type: ignore[no-untyped-call]
        return y

    def extra_repr(self) -> str:
        return f"{self.channels}"


class _Thresholded(torch.autograd.Function):
    """max(x, tau), which keeps a byte of each value and none of the values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: Tensor) -> Tensor:
        wide = per_channel(tau, x.dtype)
        ctx.save_for_backward(x <= wide)
        ctx.dtype = tau.dtype
        return torch.maximum(x, wide)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        (closed,) = ctx.saved_tensors
        if gradients_see_operations(g):
            dx = torch.where(closed, 0, g)
        else:
            dx = torch.ops.aten.threshold_backward(g, closed.logical_not().to(g.dtype), 0)
        return dx, (g - dx).sum((0, 2, 3)).to(ctx.dtype)


SPEC = NormSpec(
    name="frn",
    title="Filter response normalization alone, before the network's own activations",
    family="sample",
    layer=FilterResponseNorm2d,
    formula="weight * x / sqrt(ms + eps) + bias",
    axes=("HW",),
    variance="",
    fails="On maps of one pixel the output is nearly the sign of the input. No mean is subtracted: "
    "channels may stay far from 0, where a ReLU lets everything pass or nothing. Its paper has a "
    "learned threshold in the place of ReLU for this reason (frn_tlu).",
    citation="Singh & Krishnan 2020, Filter Response Normalization Layer",
)
WITH_TLU = replace(
    SPEC,
    name="frn_tlu",
    title="Filter response normalization with thresholded linear units",
    parts=Parts(activation=lambda place: ThresholdedLinearUnit2d),
    fails="On maps of one pixel the output is nearly the sign of the input. In Wu's reproduction, "
    "with residual networks of the first version as here, 0.2 to 0.4 points behind batch "
    "normalization.",
)
