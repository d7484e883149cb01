"""Divisive normalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._base import ParameterNeeds, PlainNorm2d, at_least, whole
from ..spec import NormSpec


class DivisiveNorm2d(PlainNorm2d):
    """Divisive normalization by the neighbourhood of each pixel.

    With means over all channels and the pixels of a square window around each pixel, as far as they
    are in the image::

        v = x - mean(x)
        y = weight * v / sqrt(sigma ** 2 + mean(v ** 2)) + bias

    ``sigma``, one number for the layer, is learned. The second mean is of deviations from the means
    of their own pixels. Training and evaluation are the same.

    >>> import torch
    >>> layer = DivisiveNorm2d(2, window=1, smoothing=0.0)
    >>> y = layer(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1))
    >>> y.flatten().tolist()
    [-1.0, 1.0]

    Source: Ren, Liao, Urtasun, Sinz & Zemel 2017, "Normalizing the Normalizers: Comparing and
    Extending Network Normalization Schemes", its divisive normalization (DN), with both
    neighbourhoods alike, and its smoothing term sigma.

    Departures from the paper: weight and bias per channel, as for the other layers compared here,
    where the authors' residual networks have none with this layer; no L1 penalty on v (DN*). From
    those networks (``resnet-32-dn`` for CIFAR-10 in ``cifar_exp_config.py``) are the window of 5
    pixels, which is 7 in their first stage, and a learned sigma that starts at 0.5 and does not
    decay. At the edges of the image the authors' code (``div_norm_2d``) fills the window with zeros
    and divides by its full size. Here the mean is over the values that there are, as in the paper's
    definition by sets of neighbours. The two differ at pixels less than ``window - 1`` from an
    edge.

    Args:
        channels: C.
        window: side of the window in pixels, odd.
        smoothing: where sigma starts, at least 0.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: an impossible argument; input that :class:`Norm2d` refuses.

    Where sigma is exactly 0, a neighbourhood of equal values has no value (NaN).
    """

    optimizer_needs: ClassVar[Mapping[str, ParameterNeeds]] = {
        "sigma": ParameterNeeds(weight_decay=False)
    }

    def __init__(
        self,
        channels: int,
        window: int = 5,
        smoothing: float = 0.5,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, affine=affine, device=device, dtype=dtype)
        self.window = whole("window", window, odd=True)
        self.smoothing = at_least(0, "smoothing", smoothing)
        self.sigma = nn.Parameter(torch.full((), self.smoothing, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.sigma, self.smoothing)

    def _formula(self, x: Tensor) -> Tensor:
        # A constant for each image changes nothing but the rounding. One that is not finite would
        # take a NaN beyond its neighbourhood.
        constant = x.detach().mean((1, 2, 3), keepdim=True)
        x = x - constant.nan_to_num(0.0, 0.0, 0.0)
        v = x - self._local_mean(x)
        power = self._local_mean(v.square())
        sigma = self.sigma.to(x.dtype)
        return self._affine(v * torch.rsqrt(sigma.square() + power))

    def _local_mean(self, t: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W): over all channels and the window."""
        of_pixels = t.mean(1, keepdim=True)
        reach = self.window // 2
        return F.avg_pool2d(of_pixels, self.window, 1, reach, count_include_pad=False)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, window={self.window}, smoothing={self.smoothing}, "
            f"affine={self.affine}"
        )


SPEC = NormSpec(
    name="divisive",
    title="Divisive normalization by neighbourhoods",
    family="sample",
    layer=DivisiveNorm2d,
    formula="weight * (x - local_mean) / sqrt(sigma ** 2 + local_mean_square) + bias",
    axes=("CHW windows",),
    variance="",
    eps_place="",
    kept=2.5,  # deviations and quotients, and three numbers a pixel (of six channels here)
    citation="Ren et al. 2017, Normalizing the Normalizers",
)
