"""What the curves of an arm say, in words, by fixed rules."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from .reading import Results

IMPROVING = 0.005
"""Still improving: mean validation accuracy of the last quarter of the epochs is above that of
the quarter before by more than this (half a point)."""
GAP = 0.03
"""Overfitting: training accuracy is above validation accuracy by more than this, and ..."""
RISE = 0.05
"""... validation loss ends above its lowest by more than this share of it."""
OSCILLATION = 0.02
"""Oscillating: within the last third of the epochs validation accuracy falls from one epoch to
the next by more than this, on average over seeds of the largest fall."""
FEWEST_EPOCHS = 4
"""With fewer epochs no trend is reported."""


@dataclass(frozen=True)
class CurveReading:
    """What an arm's curves say.

    Attributes:
        trend: whether the arm was still improving or flat at the end.
        gap: train against validation accuracy of the chosen weights, and whether that is
            overfitting.
        oscillation: whether validation accuracy jumps in the last epochs.
    """

    trend: str
    gap: str
    oscillation: str


def read_curves(results: Results, arm: str) -> CurveReading:
    """Read the curves of an arm."""
    series, losses = (
        [
            [row[quantity] for row in run.history if row["split"] == "val"]
            for run in results.of_arm(arm)
            if run.complete
        ]
        for quantity in ("accuracy", "loss")
    )
    if not series:
        return CurveReading("no run of this arm ended with a model", "", "")
    return CurveReading(_trend(series), _gap(results, arm, _rises(losses)), _oscillation(series))


def at_chance(results: Results) -> str:
    """A sentence where no arm has learned anything that shows on the test images, else nothing.

    An arm has if one of its runs has a test accuracy above that of always giving the most frequent
    class by more than two standard errors of that share.
    """
    counts = results.data.get("counts", {}).get("test", {})
    images = sum(counts.values())
    folds = results.folds
    which = f"{images:,} test images" if folds is None else f"{folds.size('test')} images of a fold"
    found = [a for run in results.runs if (a := run.metric("test", "accuracy")) is not None]
    if not images or not found:
        return ""
    share = max(counts.values()) / images
    noise = 2 * math.sqrt(share * (1 - share) / images)
    if max(found) > share + noise:
        return ""
    return (
        f"No arm learned anything that shows on the {which}: no run is clearly "
        f"better than always giving their most frequent class, which is right on {100 * share:.1f} "
        "%. "
        "Train for more epochs, or check the learning rate and the data, before comparing arms."
    )


def _trend(series: list[list[float]]) -> str:
    epochs = min(map(len, series))
    if epochs < FEWEST_EPOCHS:
        return f"too few epochs ({epochs}) for a trend"
    quarter = max(1, epochs // 4)
    rise = statistics.fmean(
        statistics.fmean(s[-quarter:]) - statistics.fmean(s[-2 * quarter : -quarter])
        for s in series
    )
    span = "epoch" if quarter == 1 else f"{quarter} epochs"
    if rise > IMPROVING:
        return (
            f"still improving at the end: validation accuracy rose by {100 * rise:.1f} points "
            f"in the last {span}; more epochs would change this number"
        )
    if rise < -IMPROVING:
        return f"falling at the end, by {100 * -rise:.1f} points in the last {span}"
    return f"flat at the end ({round(100 * rise, 1) + 0.0:+.1f} points in the last {span})"


def _rises(losses: list[list[float]]) -> bool:
    """Whether validation loss, as the mean over seeds, ends well above its lowest."""
    epochs = min(map(len, losses))
    means = [statistics.fmean(series[epoch] for series in losses) for epoch in range(epochs)]
    return epochs >= FEWEST_EPOCHS and means[-1] > (1 + RISE) * min(means)


def _gap(results: Results, arm: str, rises: bool) -> str:
    train, val = (results.spread(arm, split, "accuracy") for split in ("train", "val"))
    assert train is not None
    assert val is not None
    gap = train.mean - val.mean
    if gap > GAP:
        above = f"training accuracy is {100 * gap:.1f} points above validation"
        return f"it overfits: validation loss rises again, and {above}" if rises else above
    return f"training and validation accuracy are {100 * abs(gap):.1f} points apart"


def _oscillation(series: list[list[float]]) -> str:
    epochs = min(map(len, series))
    if epochs < FEWEST_EPOCHS:
        return ""
    tail = max(2, epochs // 3) + 1
    falls = [
        max(0.0, *(a - b for a, b in zip(s[-tail:], s[-tail + 1 :], strict=False))) for s in series
    ]
    fall = statistics.fmean(falls)
    if fall > OSCILLATION:
        return f"it oscillates: falls of {100 * fall:.1f} points from one epoch to the next"
    return "steady in the last epochs"
