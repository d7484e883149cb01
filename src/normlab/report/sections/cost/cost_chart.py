"""The chart of test accuracy against the time of a training step."""

from __future__ import annotations

from typing import Any

from ....results import Results
from ...vega import Bounds, Spec, chart, colour, domain, shape
from .costs import costs


def rows(results: Results) -> list[dict[str, Any]]:
    """One point per arm: time of a step ``x`` and test accuracy ``y`` in percent, each with one
    standard deviation to either side, as far as there can be such values."""
    found = []
    for cost in costs(results):
        if cost.step is None or cost.accuracy is None:
            continue
        dx, dy = cost.step.sd or 0.0, 100 * (cost.accuracy.sd or 0.0)
        x, y = cost.step.mean, 100 * cost.accuracy.mean
        found.append(
            {
                "arm": cost.arm, "x": x, "x_low": max(x - dx, 0.0), "x_high": x + dx,
                "y": y, "y_low": max(y - dy, 0.0), "y_high": min(y + dy, 100.0),
                "runs": cost.step.n,
            }
        )  # fmt: skip
    return found


def bounds(found: list[dict[str, Any]]) -> dict[str, Bounds]:
    """The axes of these rows: times from 0, so that twice as far is twice as slow."""
    return {
        "x": (0.0, 1.12 * max(row["x_high"] for row in found)),
        "y": domain({row["arm"]: (row["y_low"], row["y_high"]) for row in found}),
    }


def spec(results: Results) -> Spec:
    """The chart without its data: ``data("costs")`` takes :func:`rows`."""
    axes = bounds(rows(results))
    x: Spec = {
        "type": "quantitative", "title": "time of a training step (ms)",
        "scale": {"domain": list(axes["x"]), "nice": True},
        "axis": {"labelFlush": False, "tickCount": {"expr": "width / 80"}},
    }  # fmt: skip
    y: Spec = {
        "type": "quantitative", "title": "test accuracy (%)",
        "scale": {"domain": list(axes["y"]), "nice": True, "zero": False},
        "axis": {"tickCount": 5},
    }  # fmt: skip
    # One name per arm, in as many columns as a phone has room for: a number that followed the width
    # would be laid out too late and cut off.
    longest = max(map(len, results.arms))
    legend = {
        "title": None, "orient": "top", "labelLimit": 200, "symbolOpacity": 1, "symbolSize": 80,
        "columns": max(1, 320 // (7 * min(longest, 28) + 36)),
    }  # fmt: skip
    hue = {**colour(results), "legend": legend}
    at = {"x": {**x, "field": "x"}, "y": {**y, "field": "y"}, "color": hue}
    bar = {"type": "rule", "strokeWidth": 1.5, "strokeOpacity": 0.6}
    layers: list[Spec] = [
        {"mark": bar, "encoding": {**at, "x": {**x, "field": "x_low"}, "x2": {"field": "x_high"}}},
        {"mark": bar, "encoding": {**at, "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}}},
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {**at, "shape": shape(results.arms, legend)},
        },
    ]
    return chart(
        {
            "data": {"name": "costs", "values": []},
            "params": [],
            "height": 300,
            "layer": layers,
        },
        results,
    )


def chart_label(found: list[dict[str, Any]]) -> str:
    """The chart in words, for those who do not see it; empty where there is none."""
    if not found:
        return ""
    said = [f"{row['arm']}: {row['y']:.1f} % at {row['x']:.3g} ms" for row in found]
    return f"Test accuracy against time of a training step, one point per arm. {'; '.join(said)}."
