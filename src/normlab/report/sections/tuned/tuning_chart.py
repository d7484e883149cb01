"""The chart of validation accuracy against a tuned setting."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from ....results import Tuning
from ... import setting_chart
from ...vega import Bounds, Spec
from .shared_and_tuned import title, value

FAR = 5.0
"""Values this many times the quartiles' distance below the median do not stretch the axis."""


def charted(tuning: Tuning) -> bool:
    """Whether the values are numbers and a trial ended with one."""
    return bool(points(tuning)) and tuning.search.ordered


def points(tuning: Tuning) -> list[dict[str, Any]]:
    """Validation accuracy of every trial in percent, means with whether they were chosen; ``arm``
    is the study's."""
    home = {
        name: choice.arm
        for choice in tuning.choices
        for name in tuning.trials.arms
        if name.startswith(f"{choice.arm},{tuning.search.field}=")
    }
    chosen = {choice.name for choice in tuning.choices if not choice.failed}
    return [
        {**row, "arm": home[row["arm"]], "chosen": row["mean"] and row["arm"] in chosen}
        for row in setting_chart.rows(tuning.trials, tuning.search.field, "val")
    ]


def spec(tuning: Tuning) -> Spec:
    """The chart without its data: ``data("values")`` takes :func:`points`. A ring marks the value
    that was chosen."""
    made = setting_chart.spec(tuning.trials, tuning.search.field, "val")
    position = made["layer"][1]["encoding"]
    for layer in made["layer"]:
        scale = {**layer["encoding"]["y"]["scale"], "clamp": True}
        layer["encoding"]["y"] = {**layer["encoding"]["y"], "scale": scale}
    made["layer"].append(
        {
            "transform": [{"filter": "datum.chosen"}],
            "mark": {
                "type": "point", "filled": False, "size": 190, "strokeWidth": 2, "opacity": 1,
            },
            "encoding": position,
        }
    )  # fmt: skip
    return made


def bounds(found: Sequence[dict[str, Any]]) -> Bounds:
    """The axis of these rows. Values far below the others (a rate at which nothing is
    learned) do not stretch it."""
    low, high = setting_chart.bounds(list(found))
    values = sorted(row["value"] for row in found)
    if len(values) > 3:
        lower, median, upper = statistics.quantiles(values, n=4)
        near = [value for value in values if value >= median - FAR * (upper - lower)]
        low = min(near)
    return (low, high) if high > low else (low - 1, high)


def cut(tuning: Tuning) -> float | None:
    """Where the axis ends above a value that was reached, else None."""
    found = points(tuning)
    low = bounds(found)[0]
    return low if any(row["value"] < low for row in found) else None


def chart_label(tuning: Tuning) -> str:
    """The chart in words, for those who do not see it."""
    said = []
    for choice in tuning.choices:
        means = ", ".join(
            f"{100 * spread.mean:.1f} at {value(tried)}"
            for tried, spread, _ in tuning.reached(choice.arm)
            if spread is not None
        )
        said.append(f"{choice.arm}: {means or 'no trial ended'}; chosen {value(choice.value)}")
    return (
        f"Validation accuracy in percent against {title(tuning)}, mean over the trials. "
        f"{'. '.join(said)}."
    )
