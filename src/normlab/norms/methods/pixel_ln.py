"""Layer normalization over the channels of each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from .._base import PlainNorm2d


class LayerNorm2d(PlainNorm2d):
    """Layer normalization over the channels of each pixel.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-6,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, affine, device=device, dtype=dtype)

    def _formula(self, x: Tensor) -> Tensor:
        self._check_values(x, self.channels, "per pixel")
        centred = x - x.mean(1, keepdim=True)
        var = centred.square().mean(1, keepdim=True)
        return self._affine(centred * torch.rsqrt(var + self.eps))
