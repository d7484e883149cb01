"""Test accuracy of every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....results import Results
from ...context import Report
from ...section import FolderSection
from ...vega import (
    NEAR,
    Bounds,
    Figure,
    Spec,
    chart,
    colour,
    domain,
    for_page,
    parameters,
    render,
)

FIGURE = "accuracy-test"
NO_MODEL = "no run ended with a model"


class AccuracySection(FolderSection):
    """A point per run, a bar per arm."""

    heading = "Test accuracy, run by run"

    def context(self, report: Report) -> Mapping[str, Any]:
        """The chart in words, for those who do not see it."""
        return {"label": _label(report.results), "file": f"figures/{FIGURE}",
                "compared": any(c.difference for c in report.judgement.comparisons)}  # fmt: skip

    def payload(self, report: Report) -> dict[str, Any]:
        """The points, and the extent of each arm."""
        return {
            "rows": rows(report.results),
            "bounds": extents(report.results),
            "spec": for_page(spec(report.results)),
        }

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """The chart."""
        drawn = spec(report.results)
        drawn["data"]["values"] = rows(report.results)
        return {FIGURE: render(drawn, domain(extents(report.results)))}


def rows(results: Results) -> list[dict[str, Any]]:
    """Test accuracy of every complete run, in percent. Seeds are at different heights, so that
    equal values do not cover each other."""
    seeds = list(results.question["seeds"])
    found = []
    for run in results.runs:
        value = run.metric("test", "accuracy")
        if value is not None:
            found.append(
                {
                    "arm": run.arm,
                    "seed": run.seed,
                    "value": 100 * value,
                    "lift": (seeds.index(run.seed) + 0.5) / len(seeds) - 0.5,
                }
            )
    return found


def extents(results: Results) -> dict[str, Bounds]:
    """Lowest and highest test accuracy of every arm."""
    found: dict[str, list[float]] = {}
    for row in rows(results):
        found.setdefault(row["arm"], []).append(row["value"])
    return {arm: (min(values), max(values)) for arm, values in found.items()}


def spec(results: Results) -> Spec:
    """Test accuracy without its data: ``data("tests")`` takes :func:`rows`."""
    full = {"condition": {"test": NEAR, "value": 1}, "value": 0.16}
    y = {
        "field": "arm",
        "type": "nominal",
        "title": None,
        "sort": None,
        "scale": {"domain": list(results.arms), "padding": 0},
        "axis": {"grid": True, "ticks": False, "domain": False, "labelLimit": 170},
    }
    x = {
        "field": "value",
        "type": "quantitative",
        "title": "test accuracy (%)",
        "axis": {"labelFlush": False, "tickCount": {"expr": "width / 80"}},
        "scale": {
            "domain": [{"expr": "low"}, {"expr": "high"}],
            "nice": True,
            "zero": False,
        },
    }
    mean = {
        "transform": [
            {"aggregate": [{"op": "mean", "field": "value", "as": "value"}], "groupby": ["arm"]}
        ],
        "mark": {"type": "tick", "thickness": 3, "size": 18, "opacity": 1},
        "encoding": {"x": x, "y": y, "color": colour(results), "fillOpacity": full},
    }
    faint = {"condition": {"test": NEAR, "value": 0.62}, "value": 0.1}
    lift = {
        "field": "lift",
        "type": "quantitative",
        "scale": {"domain": [-0.5, 0.5], "range": [7, 21]},
    }
    points = {
        "mark": {"type": "circle", "size": 52, "opacity": 1},
        "encoding": {
            "x": x,
            "y": y,
            "yOffset": lift,
            "color": colour(results),
            "fillOpacity": faint,
        },
    }
    empty = [
        {"arm": arm, "text": NO_MODEL}
        for arm in results.arms
        if results.spread(arm, "test", "accuracy") is None
    ]
    without = {
        "data": {"values": empty},
        "mark": {"type": "text", "align": "left", "color": {"expr": "muted"}},
        "encoding": {"x": {"value": 8}, "y": y, "text": {"field": "text", "type": "nominal"}},
    }
    return chart(
        {
            "data": {"name": "tests", "values": []},
            "params": parameters(),
            "height": {"step": 28},
            "layer": [points, mean, *([without] if empty else [])],
        },
        results,
    )


def _label(results: Results) -> str:
    said = []
    for arm in results.arms:
        values = [run.metric("test", "accuracy") for run in results.of_arm(arm)]
        points = ", ".join(f"{100 * value:.1f}" for value in values if value is not None)
        said.append(f"{arm}: {points or NO_MODEL}")
    return f"Test accuracy in percent, one point per run. {'; '.join(said)}."
