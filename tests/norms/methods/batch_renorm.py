"""Batch renormalization: PyTorch's batch norm with a weight and a bias that are corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.norms._core import Pool
from normlab.norms.methods.batch import batch_pool

from ..families import unlike
from ..mutants import mutation
from ..reference import Array, looped, moments, written


@written("batch_renorm")
class Renorm(nn.BatchNorm2d):
    """Algorithm 1 of Ioffe 2017, with running variances as in PyTorch."""

    r_max, d_max = 3.0, 5.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        var, mean = torch.var_mean(x.detach().to(wide), (0, 2, 3), correction=0)
        sigma = (self.running_var + self.eps).sqrt()
        r = ((var + self.eps).sqrt() / sigma).clamp(1 / self.r_max, self.r_max)
        d = ((mean - self.running_mean) / sigma).clamp(-self.d_max, self.d_max)
        weight, bias = self.weight * r, self.weight * d + self.bias
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        known = self.running_mean, self.running_var
        return F.batch_norm(x, *known, weight, bias, True, share, self.eps)


@looped("batch_renorm")
def by_loops(layer: nn.Module, x: Array, state: Mapping[str, Array]) -> Array:
    y = np.empty_like(x)
    found = moments("NHW", x)
    for c in range(x.shape[1]):
        mean, var = float(state["running_mean"][c]), float(state["running_var"][c])
        sigma, r, d = (var + layer.eps) ** 0.5, 1.0, 0.0
        if layer.training:
            of_batch = found[(c,)]
            s = (of_batch.variance("n") + layer.eps) ** 0.5
            r = max(1 / layer.r_max, min(layer.r_max, s / sigma))
            d = max(-layer.d_max, min(layer.d_max, (of_batch.mean - mean) / sigma))
            mean, sigma = of_batch.mean, s
        y[:, c] = (x[:, c] - mean) / sigma * r + d
        if "weight" in state:
            y[:, c] = state["weight"][c] * y[:, c] + state["bias"][c]
    return y


HELD = "r and d count as constants in the derivative, though they follow from the input"
unlike(
    "batch_renorm",
    derivatives_match_finite_differences=HELD,
    second_derivatives_match_finite_differences=HELD,
    saves_no_more_than_torch="two more numbers per channel are kept, r and d",
)
IT = ("batch_renorm",)
Correction = tuple[Tensor, Tensor] | None


@mutation("forward_matches_reference", families=IT, written=False)
class NothingCorrected(nn.Module):
    def _correction(self, x: Tensor, pool: Pool) -> Correction:
        return None


@mutation("forward_matches_reference", families=IT, written=False)
class NothingClipped(nn.Module):
    def _correction(self, x: Tensor, pool: Pool) -> Correction:
        self.r_max, self.d_max = 1e9, 1e9
        return super()._correction(x, pool)


@mutation("gradients_match_counterpart", families=IT, written=False)
class CorrectionNotHeld(nn.Module):
    """r and d with their derivatives: the gradient of evaluation's formula."""

    def _normalized(self, x: Tensor, then: object = None) -> Tensor:
        if not self.training:
            return super()._normalized(x)
        sigma = (self.running_var + self.eps).sqrt()
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        r = ((var + self.eps).sqrt() / sigma).clamp(1 / self.r_max, self.r_max)
        d = ((mean - self.running_mean) / sigma).clamp(-self.d_max, self.d_max)
        xhat = F.batch_norm(x, None, None, training=True, eps=self.eps)
        y = r[:, None, None] * xhat + d[:, None, None]
        return y * self.weight[:, None, None] + self.bias[:, None, None]


@mutation("forward_matches_reference", families=IT, written=False)
class BiasCorrectedToo(nn.Module):
    """``(weight * xhat + bias) * r + d``."""

    def _normalized(self, x: Tensor, then: object = None) -> Tensor:
        correction = self._correction(x, batch_pool())
        y = F.batch_norm(x, None, None, self.weight, self.bias, True, eps=self.eps)
        if correction is None:
            return super()._normalized(x)
        r, d = (t[:, None, None] for t in correction)
        return y * r + d


@mutation("forward_matches_reference", families=IT, written=False)
class AfterTheMove(nn.Module):
    """Against running statistics that this batch has moved already."""

    def _correction(self, x: Tensor, pool: Pool) -> Correction:
        with torch.no_grad():
            if self.training:
                var, mean = torch.var_mean(x, (0, 2, 3))
                self._track(x, mean, var)
        return super()._correction(x, pool)


@mutation("a_divided_batch_counts_as_one", families=IT, written=False)
class CorrectedByThePart(nn.Module):
    def _correction(self, x: Tensor, pool: Pool) -> Correction:
        return super()._correction(x, replace(pool, divided=None)) if len(x) else None


@mutation("forward_matches_reference", families=IT, written=False)
class SpreadsTheOtherWay(nn.Module):
    """The running spread over the batch's."""

    def _correction(self, x: Tensor, pool: Pool) -> Correction:
        found = super()._correction(x, pool)
        return found and (1 / found[0], found[1])
