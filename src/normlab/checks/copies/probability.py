"""How likely a pair is a copy, given what was measured of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .agreement import MEASURES
from .thumbnails import FINE

SURE = 0.95
"""Pairs of at least this probability are sure."""
LISTED = 0.4
"""Pairs below this probability are not listed. Counts add up probabilities, so a pair that is less
likely than not does not make a copy of its own."""
_TINY = 16
"""Of images with fewer pixels a side only sure pairs are listed: eight pixels show one digit much
like another."""

INTERCEPT = -28.1187
WEIGHTS = {
    "similarity": 0.0000,
    "worst windows": 0.0000,
    "poor windows": 0.0000,
    "correlation": 0.4534,
    "details": 1.2523,
    "similarity by details": 0.0529,
    "mean colour apart": -51.8725,
    "colours apart": -30.3274,
    "grey": -1.4421,
    "contrast": -1.4484,
    "brightness": -1.4662,
    "stretch": -7.6537,
    "shared": 3.9855,
    "windows": 3.9475,
    "broad similarity": 1.8954,
    "pixels": 0.0000,
    "similarity by pixels": -0.0254,
    "usual": -3.0113,
    "above usual": 0.4467,
    "a little above usual": 0.4584,
    "somewhat above usual": 3.4565,
    "repeats": -1.3692,
    "above repeats": 0.4293,
    "a little above repeats": 0.0000,
    "somewhat above repeats": 0.6392,
}


def probability_of(measures: Tensor) -> Tensor:
    """The probability of each pair (n,), by logistic regression on :data:`.agreement.MEASURES`.

    The weights were fitted to pictures with planted copies (``benchmarks/copies``), so that they
    are right on average on kinds of pictures that they were not fitted to.
    """
    weights = torch.tensor([WEIGHTS[name] for name in MEASURES], dtype=torch.float64)
    found: Tensor = torch.sigmoid(measures.double() @ weights + INTERCEPT)
    return found


def listed(chance: Tensor, measures: Tensor) -> Tensor:
    """Which pairs are listed (n,), by their probability and measures."""
    tiny = measures[:, MEASURES.index("pixels")] < math.log(_TINY / FINE) - 1e-6
    return chance >= torch.where(tiny, SURE, LISTED)
