"""How likely a pair is a copy, given what was measured of it."""

from __future__ import annotations

import torch
from torch import Tensor

from .agreement import MEASURES

SURE = 0.95
"""Pairs of at least this probability are sure; the others are likely."""
LIKELY = 0.5
"""Pairs below this probability are not listed."""

INTERCEPT = 0.0
WEIGHTS = dict.fromkeys(MEASURES, 0.0)


def probability_of(measures: Tensor) -> Tensor:
    """The probability of each pair (n,), by logistic regression on :data:`.agreement.MEASURES`."""
    weights = torch.tensor([WEIGHTS[name] for name in MEASURES], dtype=torch.float64)
    found: Tensor = torch.sigmoid(measures.double() @ weights + INTERCEPT)
    return found
