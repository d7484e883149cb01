"""How likely a pair is a copy, given what was measured of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .agreement import MEASURES

SURE = 0.95
"""Pairs of at least this probability are sure; the others are likely."""
LIKELY = 0.5
"""Pairs below this probability are not listed."""

INTERCEPT = -45.1054
WEIGHTS = {
    "similarity": -1.0916,
    "worst windows": -3.4399,
    "poor windows": 2.3752,
    "correlation": 1.2728,
    "details": 0.3017,
    "similarity by details": 1.3854,
    "area": -3.7796,
    "similarity by area": -2.0434,
    "mean colour apart": -108.1718,
    "colours apart": -23.2607,
    "grey": -0.5251,
    "contrast": -0.0953,
    "brightness": -4.7249,
    "stretch": -22.5684,
    "shared": 8.5590,
    "windows": 8.0446,
    "usual": -4.4847,
    "above usual": 0.0370,
}


SHARE = 0.2
"""Share of copies among the pairs that the weights were fitted to."""

_LEAST_FACTOR = 0.05
_ROUNDS = 100


def probability_of(measures: Tensor) -> Tensor:
    """The probability of each pair of a set (n,), by logistic regression on
    :data:`.agreement.MEASURES`, adjusted to the set.

    The weights were fitted where every fifth pair is a copy. Most sets have fewer, and then a pair
    that looks like a copy is one less often. So the odds are multiplied by the ratio of the odds of
    a copy in the set to those where the weights were fitted, which is found by expectation and
    maximization (Saerens, Latinne and Decaestecker 2002). The factor is at most 1, and
    at least 0.05, so that one copy among thousands of look-alikes can still be found.
    """
    weights = torch.tensor([WEIGHTS[name] for name in MEASURES], dtype=torch.float64)
    return adjusted(measures.double() @ weights + INTERCEPT)


def adjusted(logit: Tensor) -> Tensor:
    """Probabilities from the logits that the weights give, for the share of copies in this set."""
    usual = math.log(SHARE / (1 - SHARE))
    shift = 0.0
    for _ in range(_ROUNDS if len(logit) else 0):
        share = float(torch.sigmoid(logit + shift).mean())
        odds = math.log(max(share, 1e-9) / max(1 - share, 1e-9))
        shift = min(max(odds - usual, math.log(_LEAST_FACTOR)), 0.0)
    found: Tensor = torch.sigmoid(logit + shift)
    return found
