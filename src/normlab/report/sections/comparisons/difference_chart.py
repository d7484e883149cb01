"""The chart of differences to the reference, with their intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ....pages.words import listed, visible
from ....results.statistics import Judgement
from ...context import Report
from ...numbers import bracket, signed
from ...vega import NEAR, Bounds, Spec, chart, colour, parameters

LONGEST = 16
"""Characters of an arm's name that fit next to its verdict."""


def rows(report: Report) -> list[dict[str, Any]]:
    """The chart's data in points: one row per arm with its intervals, and one per seed."""
    found: list[dict[str, Any]] = []
    for comparison in report.judgement.comparisons:
        difference = comparison.difference
        if difference is None:
            continue
        shared = {"arm": comparison.arm, "reference": comparison.reference}
        row: dict[str, Any] = {
            **shared,
            "kind": "arm",
            "value": 100 * difference.mean,
            "verdict": str(comparison.verdict),
            "seeds": len(difference.seeds),
        }
        for name, interval in (
            ("", comparison.interval),
            ("alone_", comparison.unadjusted),
            ("both_", comparison.both),
        ):
            if interval is not None:
                row[f"{name}low"], row[f"{name}high"] = 100 * interval.low, 100 * interval.high
        found.append(row)
        found += [
            {**shared, "kind": "seed", "seed": seed, "value": 100 * value}
            for seed, value in zip(difference.seeds, difference.values, strict=True)
        ]
    return found


def bounds(found: Sequence[dict[str, Any]], least: float) -> Bounds:
    """The axis of these rows: all of them, 0 and ± ``least``."""
    ends = [
        row[name]
        for row in found
        for name in ("value", "low", "high", "both_low", "both_high")
        if name in row
    ]
    return min(*ends, -least), max(*ends, least)


def spec(report: Report) -> Spec:
    """The chart without its data: ``data("differences")`` takes :func:`rows`. The band is the
    margin."""
    judgement = report.judgement
    compared = [found for found in judgement.comparisons if found.difference is not None]
    # An escape in an expression is a character again, so nothing that needs one may be left.
    names = {
        visible(found.arm): visible(
            found.arm if found.interval is None else f"{_cut(found.arm)}: {found.verdict}"
        )
        for found in compared
    }
    least = 100 * judgement.rule.margin
    ends = bounds(rows(report), least)

    def strength(value: float) -> Spec:
        return {"condition": {"test": NEAR, "value": value}, "value": 0.12}

    y: Spec = {
        "field": "arm",
        "type": "nominal",
        "title": None,
        "sort": None,
        "scale": {"domain": list(names), "padding": 0},
        "axis": {
            "grid": False,
            "ticks": False,
            "domain": False,
            "labelLimit": 190,
            "labelExpr": f"({json.dumps(names)})[datum.label]",
        },
    }
    scale = {"domain": [{"expr": "low"}, {"expr": "high"}], "nice": True, "zero": False}
    references = {found.reference for found in compared}
    to = references.pop() if len(references) == 1 else "the reference"

    def x(name: str) -> Spec:
        return {
            "field": name,
            "type": "quantitative",
            "title": f"points above {to}",
            "axis": {"labelFlush": False, "tickCount": {"expr": "width / 80"}},
            "scale": scale,
        }

    def bar(prefix: str, width: float, opacity: float, cap: str = "butt") -> Spec:
        return {
            "transform": [{"filter": f"datum.kind === 'arm' && isValid(datum.{prefix}low)"}],
            "mark": {"type": "rule", "strokeWidth": width, "strokeCap": cap, "opacity": 1},
            "encoding": {
                "x": x(f"{prefix}low"),
                "x2": {"field": f"{prefix}high"},
                "y": y,
                "color": colour(report.results),
                "strokeOpacity": strength(opacity),
            },
        }

    def mark(kind: str, only: str, opacity: float, **more: Any) -> Spec:
        encoding = {"x": x("value"), "y": y, "color": colour(report.results)}
        return {
            "transform": [{"filter": only}],
            "mark": {"type": kind, "opacity": 1, **more},
            "encoding": {**encoding, "fillOpacity": strength(opacity)},
        }

    layers: list[Spec] = [
        {
            "data": {"values": [{"a": -least, "b": least}]},
            "mark": {"type": "rect", "color": {"expr": "muted"}, "opacity": 1,
                     "fillOpacity": 0.14},
            "encoding": {"x": {**x("a")}, "x2": {"field": "b"}},
        },
        {
            "data": {"values": [{"a": 0}]},
            "mark": {"type": "rule", "color": {"expr": "muted"}, "strokeWidth": 1},
            "encoding": {"x": x("a")},
        },
        bar("both_", 1, 0.9),
        bar("alone_", 9, 0.3),
        bar("", 3, 1),
        mark("circle", "datum.kind === 'seed'", 0.55, size=30, yOffset=9),
        mark("tick", "datum.kind === 'arm'", 1, thickness=3, size=17),
    ]  # fmt: skip
    return chart(
        {
            "data": {"name": "differences", "values": []},
            # Marks far outside the axis would leave the page's first layout no width.
            "params": parameters(*ends),
            "height": {"step": 34},
            "layer": layers,
        },
        report.results,
    )


def _cut(arm: str) -> str:
    """A name that leaves room for the verdict."""
    return arm if len(arm) <= LONGEST else f"{arm[: LONGEST - 1]}…"


def chart_label(judgement: Judgement) -> str:
    """The chart in words, for those who do not see it."""
    said = [
        f"{found.arm}: {signed(found.difference.mean)}"
        + (f", interval {bracket(found.interval)}, {found.verdict}" if found.interval else "")
        for found in judgement.comparisons
        if found.difference is not None
    ]
    references = listed(dict.fromkeys(found.reference for found in judgement.comparisons))
    return f"Difference in test accuracy to {references} in points. {'; '.join(said)}."
