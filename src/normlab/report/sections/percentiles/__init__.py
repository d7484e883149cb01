"""How the penultimate features evolve: percentiles over validation, epoch by epoch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from ....results import Results
from ....runs import FEATURE_COLUMNS
from ...context import Report
from ...section import FolderSection
from ...styles import styles
from ...vega import LIGHT, Figure, Spec, chart, for_page, picture, short, ticks
from ..curves.curve_chart import last_epoch

PERCENTILES = FEATURE_COLUMNS[1:]
FIGURE = "features"


class PercentilesSection(FolderSection):
    """A small chart per arm."""

    heading = "Evolution of the features"

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """The charts in words; None where no run recorded features."""
        arms = [(arm, _label(report.results, arm)) for arm in recorded(report.results)]
        return {"arms": arms, "file": f"figures/{FIGURE}"} if arms else None

    def payload(self, report: Report) -> dict[str, Any] | None:
        """The percentiles of every arm."""
        results = report.results
        arms = recorded(results)
        if not arms:
            return None
        return {
            "rows": {
                arm: [
                    {k: short(v) if isinstance(v, float) else v for k, v in row.items()}
                    for row in rows(results, arm)
                ]
                for arm in arms
            },
            "high": highest(results),
            "spec": for_page({**spec(results, last_epoch(results)), "height": 130}),
        }

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """All arms next to each other in one chart."""
        results = report.results
        return {FIGURE: picture(_together(results))} if recorded(results) else {}


def _label(results: Results, arm: str) -> str:
    """The chart in words, for those who do not see it."""
    last = rows(results, arm)[-1]
    ends = ", ".join(f"{name[1:]} %: {last[name]:.3g}" for name in PERCENTILES)
    return f"Percentiles of the penultimate features of {arm} by epoch. At the last: {ends}."


def recorded(results: Results) -> list[str]:
    """Arms with complete runs that recorded features."""
    return [arm for arm in results.arms if _features(results, arm)]


def rows(results: Results, arm: str) -> list[dict[str, Any]]:
    """One row per epoch: each percentile's mean over the arm's complete runs, as far as all go."""
    runs = _features(results, arm)
    epochs = range(1, 1 + min(len(features) for features in runs))
    found = []
    for epoch in epochs:
        there = [row for features in runs for row in features if row["epoch"] == epoch]
        means = {name: statistics.fmean(row[name] for row in there) for name in PERCENTILES}
        found.append({"arm": arm, "epoch": epoch, **means})
    return found


def _features(results: Results, arm: str) -> list[Any]:
    return [run.features for run in results.of_arm(arm) if run.complete and run.features]


def highest(results: Results) -> float:
    """The end of the axis that all arms share."""
    return max(
        (max(row["p99"] for row in rows(results, arm)) for arm in recorded(results)), default=1.0
    )


def spec(results: Results, epochs: int) -> Spec:
    """A chart of one arm without its data: ``data("features")`` takes :func:`rows`, the parameter
    ``own`` the arm's colour and ``high`` the end of the axis."""
    x = {
        "field": "epoch",
        "type": "quantitative",
        "title": "epoch",
        "scale": {"domain": [1, max(2, epochs)], "nice": False},
        "axis": {"values": ticks(epochs), "format": "d", "grid": False, "labelFlush": False},
    }
    y = {
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [0, {"expr": "high"}], "nice": True, "clamp": True},
        "axis": {"tickCount": 4},
    }

    def band(low: str, high: str, strength: float) -> Spec:
        return {
            "mark": {"type": "area", "fillOpacity": strength, "opacity": 1,
                     "color": {"expr": "own"}},
            "encoding": {"x": x, "y": {**y, "field": high}, "y2": {"field": low}},
        }  # fmt: skip

    def line(field: str, width: float) -> Spec:
        return {
            "mark": {"type": "line", "strokeWidth": width, "color": {"expr": "own"}},
            "encoding": {"x": x, "y": {**y, "field": field}},
        }

    first, low, high, last = PERCENTILES
    return chart(
        {
            "data": {"name": "features", "values": []},
            "params": [{"name": "high", "value": 1}, {"name": "own", "value": "#000000"}],
            "layer": [
                band(first, last, 0.16),
                band(low, high, 0.34),
                *(line(name, 1.2) for name in PERCENTILES),
            ],
        },
        results,
    )


def _together(results: Results) -> Spec:
    arms = recorded(results)
    style = styles(results)
    epochs = max(int(row["epoch"]) for arm in arms for row in rows(results, arm))
    plain = spec(results, epochs)
    high = highest(results)
    panels = []
    for arm in arms:
        text = _with_colour({"layer": plain["layer"]}, style[arm].light, high)
        panels.append(
            {
                **text,
                "title": {"text": arm, "fontSize": 13, "anchor": "start"},
                "width": 200,
                "height": 130,
                "data": {"values": rows(results, arm)},
            }
        )
    shared = {k: v for k, v in plain.items() if k not in ("layer", "data", "params")}
    params = [p for p in plain["params"] if p["name"] not in ("own", "high")]
    return {**shared, "params": params, "columns": 4, "concat": panels,
            "background": LIGHT["ground"]}  # fmt: skip


def _with_colour(node: Any, colour: str, high: float) -> Any:
    """The same specification with the two parameters put in: panels share one set of names."""
    if isinstance(node, dict):
        if node == {"expr": "own"}:
            return colour
        if node == {"expr": "high"}:
            return high
        return {name: _with_colour(value, colour, high) for name, value in node.items()}
    if isinstance(node, list):
        return [_with_colour(value, colour, high) for value in node]
    return node
