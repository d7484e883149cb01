"""Group normalization with proxy-normalized activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import CATALOG

from .. import reference
from ..mutants import mutation
from ..reference import Array, looped, written

FAMILY = ("proxy_gn",)


@looped("proxy_gn")
def loop(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    z = reference.forward(CATALOG["gn"], x, state, eps=layer.eps, groups=layer.groups)
    y = np.maximum(z, 0)
    quantiles = [NormalDist().inv_cdf((i + 0.5) / 200) for i in range(200)]
    for c in range(x.shape[1]):
        mean, scale = (float(state[f"proxy_{name}"][c]) for name in ("mean", "scale"))
        weight, bias = (
            float(state[n][c]) if n in state else d for n, d in (("weight", 1.0), ("bias", 0.0))
        )
        proxy = [max(0.0, weight * ((1 + scale) * q + mean) + bias) for q in quantiles]
        centre = math.fsum(proxy) / 200
        var = math.fsum((p - centre) ** 2 for p in proxy) / 200
        y[:, c] = (y[:, c] - centre) / math.sqrt(var + layer.proxy_eps)
    return y


@written("proxy_gn")
class ProxyNormalized(nn.Module):
    """Labatie et al. 2021, from PyTorch's group norm; quantiles by its own function."""

    num_groups = 8

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.proxy_mean = nn.Parameter(torch.zeros(channels))
        self.proxy_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        z = F.group_norm(wide, self.num_groups, self.weight, self.bias).relu()
        at = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
        gaussian = torch.special.ndtri(at).to(wide.dtype)
        shift, scale, bias, weight = (
            t[:, None] for t in (self.proxy_mean, self.proxy_scale, self.bias, self.weight)
        )
        proxy = (weight * (gaussian * (1 + scale) + shift) + bias).relu()
        mean, var = (t.view(1, -1, 1, 1) for t in (proxy.mean(1), proxy.var(1, correction=0)))
        return ((z - mean) / torch.sqrt(var + 0.03)).to(x.dtype)


@mutation("forward_matches_reference", families=FAMILY, written=False)
class ProxyWithoutActivation(nn.Module):
    """The moments of the proxy before the ReLU."""

    def _proxy_moments(self, gaussian: Tensor) -> tuple[Tensor, Tensor]:
        proxy = self._affine((1 + self.proxy_scale.view(1, -1, 1, 1)) * gaussian)
        return proxy.mean(3, keepdim=True), proxy.var(3, keepdim=True, correction=0)


@mutation("forward_matches_reference", families=FAMILY, written=False)
class ProxyUnbiasedVariance(nn.Module):
    def _proxy_moments(self, gaussian: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = super()._proxy_moments(gaussian)
        return mean, var * 200 / 199


@mutation("forward_matches_reference", families=FAMILY, written=False)
class ProxyEpsOfTheGroups(nn.Module):
    """1e-5 where it is 0.03."""

    def _proxy_moments(self, gaussian: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = super()._proxy_moments(gaussian)
        return mean, var + self.eps - self.proxy_eps


@mutation("forward_matches_reference", families=FAMILY, written=False)
class ProxyOfSomeSamples(nn.Module):
    """Fewer quantiles."""

    def _proxy_moments(self, gaussian: Tensor) -> tuple[Tensor, Tensor]:
        return super()._proxy_moments(gaussian[::2])


@mutation("gradients_match_counterpart", families=FAMILY, written=False)
class ProxyDetached(nn.Module):
    """Its parameters then learn nothing."""

    def _proxy_moments(self, gaussian: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = super()._proxy_moments(gaussian)
        alive = 0 * (self.proxy_mean.sum() + self.proxy_scale.sum())
        return mean.detach() + alive, var.detach()


@mutation("state_is_declared", families=FAMILY, written=False)
class ProxyScaleStartsAtOne(nn.Module):
    """It is added to 1."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        nn.init.ones_(self.proxy_scale)


@mutation("keeps_what_its_spec_says", families=FAMILY, written=False)
class ProxyReluAfterwards(nn.Module):
    """Another output is kept."""

    def _formula(self, x: Tensor) -> Tensor:
        return super()._formula(x).tanh().atanh()
