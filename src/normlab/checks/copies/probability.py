"""How likely a pair is a copy, given what was measured of it."""

from __future__ import annotations

import torch
from torch import Tensor

from .agreement import MEASURES

SURE = 0.95
"""Pairs of at least this probability are sure; the others are likely."""
LIKELY = 0.5
"""Pairs below this probability are not listed."""

INTERCEPT = -25.5331
WEIGHTS = {
    "similarity": 0.0000,
    "worst windows": 0.0000,
    "poor windows": 0.0000,
    "correlation": 0.4639,
    "details": 1.1844,
    "similarity by details": 0.0515,
    "mean colour apart": -52.6704,
    "colours apart": -30.3200,
    "grey": -1.4508,
    "contrast": -1.4893,
    "brightness": -1.4822,
    "stretch": -7.7711,
    "shared": 4.6719,
    "windows": 3.3721,
    "broad similarity": 1.8470,
    "pixels": 0.0000,
    "similarity by pixels": -0.0682,
    "usual": -3.1159,
    "above usual": 0.4312,
    "a little above usual": 0.7723,
    "somewhat above usual": 3.0663,
    "repeats": -1.4495,
    "above repeats": 0.4219,
    "a little above repeats": 0.0000,
    "somewhat above repeats": 0.5384,
}


def probability_of(measures: Tensor) -> Tensor:
    """The probability of each pair (n,), by logistic regression on :data:`.agreement.MEASURES`.

    The weights were fitted to pictures with planted copies (``benchmarks/copies``), so that they
    are right on average on kinds of pictures that they were not fitted to.
    """
    weights = torch.tensor([WEIGHTS[name] for name in MEASURES], dtype=torch.float64)
    found: Tensor = torch.sigmoid(measures.double() @ weights + INTERCEPT)
    return found
