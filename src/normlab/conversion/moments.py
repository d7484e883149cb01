"""Mean and spread of each channel, gathered over batches."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Mean, variance and covariance per channel of two tensors (N, C, H, W), in float64.

    Batches are merged by the formulas of Chan, Golub & LeVeque 1983. Variances are those of the
    population (divided by n).

    >>> moments = Moments()
    >>> for batch in (torch.zeros(1, 1, 1, 2), torch.ones(3, 1, 1, 2)):
    ...     moments.add(batch)
    >>> moments.mean.item(), moments.var.item()
    (0.75, 0.1875)
    """

    def __init__(self) -> None:
        self.values = 0
        self.calls = 0
        self._mean = self._other = self._squares = self._products = torch.zeros(())

    def add(self, x: Tensor, other: Tensor | None = None) -> None:
        """Take another batch in; without ``other``, the covariance is the variance."""
        self.calls += 1
        first, means, squares = _centred(x)
        second, others = (first, means) if other is None else _centred(other)[:2]
        products = squares if other is None else (first * second).sum(1)
        new = first.shape[1]
        total = self.values + new
        if not new:
            return
        if not self.values:
            self._mean, self._other = means, others
            self._squares, self._products = squares, products
        else:
            between = self.values * new / total
            d1, d2 = means - self._mean, others - self._other
            self._squares = self._squares + squares + d1 * d1 * between
            self._products = self._products + products + d1 * d2 * between
            self._mean = self._mean + d1 * (new / total)
            self._other = self._other + d2 * (new / total)
        self.values = total

    @property
    def mean(self) -> Tensor:
        """(C,)"""
        return self._mean

    @property
    def var(self) -> Tensor:
        """(C,)"""
        return self._squares / self.values

    @property
    def cov(self) -> Tensor:
        """(C,)"""
        return self._products / self.values

    def overall(self) -> tuple[float, float]:
        """Mean and standard deviation over all channels together."""
        mean = self.mean.mean()
        spread = (self.var + (self.mean - mean).square()).mean().sqrt()
        return float(mean), float(spread)


def _centred(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    flat = x.detach().double().transpose(0, 1).flatten(1)
    mean = flat.mean(1)
    flat = flat - mean[:, None]
    return flat, mean, flat.square().sum(1)
