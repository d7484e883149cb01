"""The chart of accuracy against a setting: batch size, learning rate, depth."""

from __future__ import annotations

import statistics
from typing import Any

from ..pages.words import setting_title
from ..results import Results
from ..splits import SPLIT_WORDS
from .styles import Style, styles_of
from .vega import Bounds, Spec, chart, for_page, parameters

LOGARITHMIC = {"batch_size", "lr", "accumulate", "weight_decay", "epochs"}
"""Settings whose steps are factors."""


def settings(results: Results) -> list[str]:
    """The varied fields with several numbers, in the order of the grid."""
    arms = results.question["arms"].values()
    return [
        name
        for name in results.question.get("varied", ())
        if name != "norm" and len({_number(fields.get(name)) for fields in arms} - {None}) > 1
    ]


def rows(results: Results, setting: str, split: str = "test") -> list[dict[str, Any]]:
    """One row per complete run, and one per arm for its mean."""
    found = []
    for arm in results.arms:
        fields = results.question["arms"][arm]
        x = _number(fields.get(setting))
        values = {
            run.seed: run.metric(split, "accuracy") for run in results.of_arm(arm) if run.complete
        }
        points = {seed: 100 * v for seed, v in values.items() if v is not None}
        if x is None or not points:
            continue
        shared = {"arm": arm, "line": _line(results, arm, setting), "x": x}
        found += [{**shared, "seed": s, "mean": False, "value": v} for s, v in points.items()]
        mean = statistics.fmean(points.values())
        found.append({**shared, "seed": None, "mean": True, "value": mean})
    return found


def spec(results: Results, setting: str, split: str = "test") -> Spec:
    """The chart without its data: ``data("values")`` takes :func:`rows`."""
    drawn = lines(results, setting)
    names = list(drawn)
    marks = sorted({row["x"] for row in rows(results, setting, split)})
    logarithmic = setting in LOGARITHMIC and marks[0] > 0
    if logarithmic:
        room = (marks[-1] / marks[0]) ** 0.06
        scale: Spec = {"type": "log", "domain": [marks[0] / room, marks[-1] * room]}
    else:
        space = 0.06 * (marks[-1] - marks[0])
        scale = {"domain": [marks[0] - space, marks[-1] + space]}
    position: dict[str, Spec] = {
        "x": {
            "field": "x",
            "type": "quantitative",
            "title": setting_title(setting),
            "scale": {**scale, "nice": False, "zero": False},
            "axis": {"values": marks, "format": "~g", "grid": False, "labelFlush": False},
        },
        "y": {
            "field": "value",
            "type": "quantitative",
            "title": f"{SPLIT_WORDS[split]} accuracy (%)",
            "scale": {
                "domain": [{"expr": "low"}, {"expr": "high"}], "nice": True, "zero": False,
            },
            "axis": {"tickCount": 5},
        },
        "color": {
            "field": "line",
            "type": "nominal",
            "scale": {
                "domain": names,
                "range": [{"expr": f"lines[{index}]"} for index in range(len(names))],
            },
            "legend": {"title": None, "symbolType": "stroke", "symbolSize": 400, "orient": "top",
                       "symbolStrokeWidth": 2, "labelLimit": 300,
                       "columns": max(1, 330 // (7 * max(map(len, names)) + 34))}
            if len(names) > 1 else None,
        },
    }  # fmt: skip
    return chart(
        {
            "data": {"name": "values", "values": []},
            "params": [
                *parameters(0, 100),
                {"name": "lines", "value": [style.light for style in drawn.values()]},
            ],
            "layer": [
                {
                    "transform": [{"filter": "datum.mean"}],
                    "mark": {"type": "line", "strokeWidth": 2},
                    "encoding": {
                        **position,
                        "strokeDash": {
                            "field": "line",
                            "type": "nominal",
                            "scale": {
                                "domain": names,
                                "range": [list(s.dash) or [1, 0] for s in drawn.values()],
                            },
                            "legend": position["color"]["legend"],
                        },
                    },
                },
                {
                    "transform": [{"filter": "!datum.mean"}],
                    "mark": {"type": "circle", "size": 46, "opacity": 1, "fillOpacity": 0.6},
                    "encoding": position,
                },
            ],
        },
        results,
    )


def payload(
    results: Results, setting: str, found: list[dict[str, Any]], drawn: Spec, name: str
) -> dict[str, Any]:
    """What a script draws: the chart of these rows under this name."""
    low, high = bounds(found)
    return {
        "name": name,
        "rows": found,
        "low": low,
        "high": high,
        "lines": [
            {"light": style.light, "dark": style.dark} for style in lines(results, setting).values()
        ],
        "spec": for_page(drawn),
    }


def lines(results: Results, setting: str) -> dict[str, Style]:
    """The chart's lines, each with the style of its layer."""
    named = {
        _line(results, arm, setting): {"norm": results.question["arms"][arm].get("norm", arm)}
        for arm in results.question["arms"]
    }
    found = styles_of(named)
    return {line: found[line] for line in named}


def bounds(found: list[dict[str, Any]]) -> Bounds:
    """The axis of these rows."""
    values = [row["value"] for row in found]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 1, high + 1)


def _line(results: Results, arm: str, setting: str) -> str:
    """What the arms of a line share: all that varies but the setting."""
    fields = results.question["arms"][arm]
    others = [
        str(fields.get(name)) if name == "norm" else f"{name}={fields.get(name)}"
        for name in results.question["varied"]
        if name != setting
    ]
    return ",".join(others)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)
