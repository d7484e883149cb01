"""The weights of the probability, and what they find on kinds of pictures they have not seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from normlab.checks.copies.agreement import MEASURES
from normlab.checks.copies.probability import adjusted

from .measuring import Measured

_PENALTY = 0.3


def fitted(kinds: Sequence[Measured]) -> tuple[np.ndarray, float]:
    """Weights and intercept of a logistic regression."""
    values = np.concatenate([kind.measures for kind in kinds])
    true = np.concatenate([kind.true for kind in kinds])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_PENALTY, max_iter=5000))
    model.fit(values.astype(np.float64), true)
    scaler, regression = model[0], model[-1]
    weights = regression.coef_[0] / scaler.scale_
    return weights, float(regression.intercept_[0] - weights @ scaler.mean_)


def probability(kind: Measured, weights: np.ndarray, intercept: float) -> np.ndarray:
    """Of every pair of a kind."""
    logit = kind.measures.astype(np.float64) @ weights + intercept
    return adjusted(torch.from_numpy(logit)).numpy()


def left_out(kinds: Sequence[Measured]) -> list[np.ndarray]:
    """The probability of the pairs of each kind, by weights that were fitted to the others."""
    return [
        probability(one, *fitted([other for other in kinds if other is not one])) for one in kinds
    ]


def found_copies(kind: Measured, chance: np.ndarray, least: float) -> dict[str, list[set[int]]]:
    """By way, for each strength: the pictures whose copy was found."""
    found: dict[str, list[set[int]]] = defaultdict(lambda: [set(), set(), set()])
    for place in np.flatnonzero(kind.true & (chance >= least)).tolist():
        number = int(kind.numbers[place, 0])
        if number in kind.planted:
            way, strength = kind.planted[number]
            found[way][strength].add(number)
    return found


def source(weights: np.ndarray, intercept: float) -> str:
    """The lines for ``normlab.checks.copies.probability``."""
    lines = [f"INTERCEPT = {intercept:.4f}", "WEIGHTS = {"]
    lines += [f'    "{name}": {w:.4f},' for name, w in zip(MEASURES, weights, strict=True)]
    return "\n".join([*lines, "}"])
