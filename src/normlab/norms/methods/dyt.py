"""Dynamic tanh, a function of each value in the place of normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import PlainNorm2d, positive
from .._pointwise import squashed
from ..spec import NormSpec


class DynamicTanh2d(PlainNorm2d):
    """Dynamic tanh (DyT): every value squashed by itself.

    With one learned ``alpha`` for the whole layer::

        y = weight * tanh(alpha * x) + bias

    with ``weight`` and ``bias`` per channel. Training and evaluation are the same.

    >>> layer = DynamicTanh2d(1)
    >>> round(layer(torch.full((1, 1, 1, 1), 2.0)).item(), 4)
    0.7616

    Source: Zhu, Chen, He, LeCun & Liu 2025, "Transformers without Normalization", section 4.

    Departures from the paper: none in the layer. The paper puts it in the place of layer norm in
    transformers; here it follows convolutions.

    Args:
        channels: C.
        alpha_init: what ``alpha`` starts at.
        affine: learn ``weight`` and ``bias``. ``alpha`` is always learned.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. ``alpha``: (1,). N may be 0.

    Raises:
        ValueError: a start that is not a number above 0; input that :class:`Norm2d` refuses.
    """

    alpha: nn.Parameter

    def __init__(
        self,
        channels: int,
        alpha_init: float = 0.5,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, affine=affine, device=device, dtype=dtype)
        self.alpha_init = positive("alpha_init", alpha_init)
        self.alpha = nn.Parameter(torch.full((1,), self.alpha_init, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.alpha, self.alpha_init)

    def _formula(self, x: Tensor) -> Tensor:
        return squashed(torch.tanh, x, self.alpha, None, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.channels}, alpha_init={self.alpha_init}, affine={self.affine}"


SPEC = NormSpec(
    name="dyt",
    title="Dynamic tanh",
    family="without",
    layer=DynamicTanh2d,
    formula="weight * tanh(alpha * x) + bias",
    axes=(),
    variance="",
    eps_place="",
    kept=2.0,
    fails="Made for transformers. Nothing holds the scale of its input, and values far beyond "
    "1 / alpha pass almost no gradient.",
    citation="Zhu et al. 2025, Transformers without Normalization",
)
