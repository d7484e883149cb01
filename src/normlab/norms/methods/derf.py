"""Dynamic erf, a function of each value in the place of normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._pointwise import squashed
from ..spec import NormSpec
from .dyt import DynamicTanh2d


class DynamicErf2d(DynamicTanh2d):
    """Dynamic erf (Derf): every value squashed by itself.

    With one learned ``alpha`` and one learned ``shift`` (which starts at 0) for the whole layer::

        y = weight * erf(alpha * x + shift) + bias

    with ``weight`` and ``bias`` per channel. Training and evaluation are the same.

    >>> layer = DynamicErf2d(1)
    >>> round(layer(torch.full((1, 1, 1, 1), 2.0)).item(), 4)
    0.8427

    Source: Chen, Lu, Zhu, Sun & Liu 2025, "Stronger Normalization-Free Transformers", equation 10.

    Departures from the paper: none in the layer. The paper puts it in the place of layer norm in
    transformers; here it follows convolutions.

    Args:
        channels: C.
        alpha_init: what ``alpha`` starts at.
        affine: learn ``weight`` and ``bias``. ``alpha`` and ``shift`` are always learned.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. ``alpha`` and ``shift``: (1,). N may be
        0.

    Raises:
        ValueError: a start that is not a number above 0; input that :class:`Norm2d` refuses.
    """

    shift: nn.Parameter

    def __init__(
        self,
        channels: int,
        alpha_init: float = 0.5,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, alpha_init, affine, device=device, dtype=dtype)
        self.shift = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.shift)

    def _formula(self, x: Tensor) -> Tensor:
        return squashed(torch.erf, x, self.alpha, self.shift, self.weight, self.bias)


SPEC = NormSpec(
    name="derf",
    title="Dynamic erf",
    family="without",
    layer=DynamicErf2d,
    formula="weight * erf(alpha * x + shift) + bias",
    axes=(),
    variance="",
    eps_place="",
    kept=2.0,
    fails="Made for transformers. Nothing holds the scale of its input, and values far beyond "
    "1 / alpha pass almost no gradient.",
    citation="Chen et al. 2025, Stronger Normalization-Free Transformers",
)
