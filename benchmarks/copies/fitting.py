"""The weights of the probability, and what they find on kinds of pictures they have not seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from normlab.checks.copies import probability
from normlab.checks.copies.agreement import MEASURES

from .measuring import Measured

_PENALTY = 1 / 0.03
_PER_KIND = 1000

_FOR, _AGAINST = (0.0, None), (None, 0.0)
_SIGNS = {
    "mean colour apart": _AGAINST,
    "colours apart": _AGAINST,
    "contrast": _AGAINST,
    "brightness": _AGAINST,
    "stretch": _AGAINST,
    "usual": _AGAINST,
    "repeats": _AGAINST,
    "grey": (None, None),
    "similarity by pixels": (None, None),
}
"""Which way a measure may count; those that are not here speak for a copy. A weight of the other
sign could only come from how the fitted kinds happen to be, and be wrong on others."""


@dataclass(frozen=True)
class Weights:
    """Of a logistic regression.

    Attributes:
        of: one weight per measure.
        intercept: what is added.
    """

    of: np.ndarray
    intercept: float

    def logit(self, kind: Measured) -> np.ndarray:
        """Of every pair of a kind."""
        return kind.measures.astype(np.float64) @ self.of + self.intercept

    def probability(self, kind: Measured) -> np.ndarray:
        """Of every pair of a kind."""
        return 1 / (1 + np.exp(-self.logit(kind)))


def fitted(kinds: Sequence[Measured]) -> Weights:
    """Weights that hold on kinds they were not fitted to.

    Logits of pairs that the weights know are too far from 0. So each family of kinds is left out in
    turn, and the logits are scaled and shifted to be right there on average (Platt 1999).
    """
    logits, true, counts = [], [], []
    for family in _families(kinds):
        others = _regression([kind for kind in kinds if kind.family != family])
        for kind in kinds:
            if kind.family == family:
                logits.append(others.logit(kind))
                true.append(kind.true)
                counts.append(_counts(kind))
    slope, shift = _minimized(
        np.concatenate(logits)[:, None],
        np.concatenate(true),
        np.concatenate(counts),
        [(None, None)],
        0.0,
    )
    raw = _regression(kinds)
    return Weights(raw.of * slope, raw.intercept * slope + shift)


def _families(kinds: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(kind.family for kind in kinds))


def _counts(kind: Measured) -> np.ndarray:
    """Every kind counts the same, however many pairs look alike there."""
    return np.full(len(kind.true), _PER_KIND / max(len(kind.true), 1))


def _regression(kinds: Sequence[Measured]) -> Weights:
    values = np.concatenate([kind.measures for kind in kinds]).astype(np.float64)
    mean, spread = values.mean(0), values.std(0) + 1e-9
    found = _minimized(
        (values - mean) / spread,
        np.concatenate([kind.true for kind in kinds]),
        np.concatenate([_counts(kind) for kind in kinds]),
        [_SIGNS.get(name, _FOR) for name in MEASURES],
        _PENALTY,
    )
    of = found[:-1] / spread
    return Weights(of, float(found[-1] - of @ mean))


def _minimized(
    values: np.ndarray,
    true: np.ndarray,
    counts: np.ndarray,
    bounds: list[tuple[float | None, float | None]],
    penalty: float,
) -> np.ndarray:
    """Weights and intercept of a logistic regression with bounds and an L2 penalty."""
    sign = np.where(true, 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (values @ weights[:-1] + weights[-1])
        slope = -sign * counts / (1 + np.exp(np.clip(margin, -500, 500)))
        return (
            float(counts @ np.logaddexp(0, -margin) + penalty * weights[:-1] @ weights[:-1] / 2),
            np.append(values.T @ slope + penalty * weights[:-1], slope.sum()),
        )

    found = minimize(
        loss,
        np.zeros(values.shape[1] + 1),
        jac=True,
        bounds=[*bounds, (None, None)],
        method="L-BFGS-B",
        options={"maxiter": 3000},
    )
    return np.asarray(found.x)


def left_out(kinds: Sequence[Measured]) -> list[np.ndarray]:
    """The probability of the pairs of each kind, by weights that no kind of its family shaped."""
    by_family = {
        family: fitted([kind for kind in kinds if kind.family != family])
        for family in _families(kinds)
    }
    return [by_family[kind.family].probability(kind) for kind in kinds]


def listed(kind: Measured, chance: np.ndarray) -> np.ndarray:
    """Which pairs of a kind the search lists."""
    found = probability.listed(torch.from_numpy(chance), torch.from_numpy(kind.measures))
    return np.asarray(found.numpy())


def found_copies(kind: Measured, listed: np.ndarray) -> dict[str, list[set[int]]]:
    """By way, for each strength: the pictures whose copy is among the listed pairs."""
    found: dict[str, list[set[int]]] = defaultdict(lambda: [set(), set(), set()])
    for place in np.flatnonzero(kind.true & listed).tolist():
        number = int(kind.numbers[place, 0])
        if number in kind.planted:
            way, strength = kind.planted[number]
            found[way][strength].add(number)
    return found


def source(weights: Weights) -> str:
    """The lines for ``normlab.checks.copies.probability``."""
    lines = [f"INTERCEPT = {weights.intercept:.4f}", "WEIGHTS = {"]
    lines += [f'    "{name}": {w:.4f},' for name, w in zip(MEASURES, weights.of, strict=True)]
    return "\n".join([*lines, "}"])
