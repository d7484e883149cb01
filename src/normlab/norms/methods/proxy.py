"""Group normalization with proxy-normalized activations."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor, nn

from .._base import PlainNorm2d, at_least
from .._core import Pool, Then, normalize, per_channel
from ..places import Parts, Place
from ..spec import NormSpec
from .group import GroupNorm2d, number_of_groups

_SAMPLES = 200
_GAUSSIAN = tuple(NormalDist().inv_cdf((i + 0.5) / _SAMPLES) for i in range(_SAMPLES))
"""Quantiles of the standard normal distribution, which stand for it."""


class ProxyGroupNorm2d(PlainNorm2d):
    """Group normalization, ReLU, and normalization by what a Gaussian would give after both.

    With the mean and biased variance of each group as in :class:`GroupNorm2d`, and a Gaussian
    variable of each channel, the proxy::

        z = relu(weight * (x - mean) / sqrt(var + eps) + bias)
        p = relu(weight * ((1 + proxy_scale) * gaussian + proxy_mean) + bias)
        y = (z - E[p]) / sqrt(Var[p] + proxy_eps)

    ``weight``, ``bias``, ``proxy_mean`` and ``proxy_scale`` are learned per channel; the last two
    start at 0. The proxy's moments depend on them alone, not on the input: they are those of 200
    quantiles of the Gaussian, equally far apart in probability. Training and evaluation are the
    same.

    >>> import torch
    >>> layer = ProxyGroupNorm2d(2, groups=1)
    >>> y = layer(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1))  # relu(-1) and relu(1)
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-0.66, 0.99]

    Source: Labatie, Masters, Eaton-Rosen & Luschi 2021, "Proxy-Normalizing Activations to Match
    Batch Normalization while Removing Batch Dependence", and the authors' code
    (``cnns/training/Models/proxy_norm.py`` in Graphcore's examples), which has the 200 quantiles
    and a ``proxy_eps`` of 0.03. It takes the place of a normalization and the activation that
    follows it.

    Departures from the paper: none in what is computed. In the arm the stem and every block's first
    convolution have this layer and no other activation. The last convolution of a block and the
    one of a shortcut have :class:`GroupNorm2d`, since no activation follows them, and ReLU follows
    the sum; there the authors' EfficientNet leaves out the normalization's shift, which stays here.
    The authors exempt weight and bias from weight decay; here the run says what decays. They
    compute the proxy's moments once an update.

    Args:
        channels: C.
        groups: G, which must divide C; 8 by default.
        channels_per_group: C/G, in place of ``groups``.
        eps: added to the variance of a group inside the root.
        proxy_eps: added to the variance of the proxy inside the root.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: an impossible argument, such as groups that do not divide the channels; input
            that :class:`Norm2d` refuses; one value per group.
    """

    def __init__(
        self,
        channels: int,
        groups: int | None = None,
        channels_per_group: int | None = None,
        eps: float = 1e-5,
        proxy_eps: float = 0.03,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, affine, device=device, dtype=dtype)
        self.groups = number_of_groups(self.channels, groups, channels_per_group)
        self.proxy_eps = at_least(0, "proxy_eps", proxy_eps)
        self.proxy_mean = nn.Parameter(torch.zeros(self.channels, device=device, dtype=dtype))
        self.proxy_scale = nn.Parameter(torch.zeros(self.channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.proxy_mean)
        nn.init.zeros_(self.proxy_scale)

    def _formula(self, x: Tensor) -> Tensor:
        self._check_values(x, self.channels // self.groups * x.shape[2] * x.shape[3], "per group")
        z = normalize(
            x, self.weight, self.bias, (Pool(groups=self.groups),), self.eps, then=Then(relu=True)
        )
        mean, var = self._proxy_moments(x.new_tensor(_GAUSSIAN))
        factor = torch.rsqrt(var + self.proxy_eps)
        return z * factor - mean * factor  # backward keeps z alone, which the ReLU keeps already

    def _proxy_moments(self, gaussian: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (1, C, 1, 1) of the proxy after the activation.

        A sample g becomes slope * g + shift where that is above 0, and 0 elsewhere. Both moments
        follow from the moments of the samples above 0, so backward keeps no sample; and where all
        are above 0, what the shift adds to the variance is exactly 0, however large it is.
        """
        scale, mean = (per_channel(t, gaussian.dtype) for t in (self.proxy_scale, self.proxy_mean))
        shift, slope = self._affine(mean), 1 + scale
        if self.weight is not None:
            slope = slope * per_channel(self.weight, slope.dtype)
        above = (slope * gaussian + shift > 0).to(gaussian.dtype)  # (1, C, 1, samples)
        share, first, second = (
            (above * power).mean(3, keepdim=True) for power in (1, gaussian, gaussian.square())
        )
        rest = 1 - share
        var = slope.square() * (second - first.square())
        var = var + (2 * slope * shift * first + shift.square() * share) * rest
        return slope * first + shift * share, var.clamp_min(0)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, groups={self.groups}, eps={self.eps}, proxy_eps={self.proxy_eps}, "
            f"affine={self.affine}"
        )


def _before_activations(place: Place) -> type[nn.Module] | None:
    return None if place.position in ("stem", "inner") else GroupNorm2d


def _activation(place: Place) -> type[nn.Module]:
    return nn.Identity if place.position in ("stem", "inner") else nn.ReLU


SPEC = NormSpec(
    name="proxy_gn",
    title="Group normalization with proxy-normalized activations",
    family="sample",
    layer=ProxyGroupNorm2d,
    formula="(relu(weight * xhat + bias) - mean_of_proxy) / sqrt(variance_of_proxy + proxy_eps)",
    axes=("(C/G)HW",),
    parts=Parts(layer=_before_activations, activation=_activation),
    kept=2.0,
    fails="As group normalization, where the number of groups does not divide every width of the "
    "network.",
    citation="Labatie et al. 2021, Proxy-Normalizing Activations",
)
