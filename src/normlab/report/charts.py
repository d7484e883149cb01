"""Charts as Vega-Lite specifications, rendered to PNG and SVG without a browser."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_bytes, write_text
from ..studies import Results
from ..training.metrics import METRICS

CURVES = ("loss", *METRICS)
CURVE_SPLITS = {"train_running": "train", "val": "val"}
"""Split in history.csv to the name used in files: curves show the running training metrics."""
TITLES = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "train": "training (while the epoch runs)",
    "val": "validation",
}

# After Okabe and Ito, told apart by people who see fewer colours, in middle tones that hold on
# white and on black. The control shares the hue of nothing and is dashed.
_COLOURS = {
    "torch_bn": "#7a7a7a",
    "bn": "#0072b2",
    "in": "#d98c00",
    "bin": "#d55e00",
    "ln": "#009e73",
    "gn": "#c65f97",
    "none": "#4aa8dc",
}
_FURTHER = ("#8a6fd1", "#999933", "#b3485f", "#44aa99", "#a5662e", "#6c8ebf", "#5f8f2f", "#b55fc0")
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])


def style(arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and dash of each arm; an arm of the catalogue keeps its own in every study."""
    found: dict[str, dict[str, Any]] = {}
    others = 0
    for arm in arms:
        if arm in _COLOURS:
            dash = [5, 3] if arm == "torch_bn" else [1, 0]
            found[arm] = {"colour": _COLOURS[arm], "dash": dash}
        else:
            dash = _DASHES[others // len(_FURTHER) % len(_DASHES)]
            found[arm] = {"colour": _FURTHER[others % len(_FURTHER)], "dash": dash}
            others += 1
    return found


def curve_rows(results: Results, metric: str, split: str) -> list[dict[str, Any]]:
    """A row an arm and epoch: mean over seeds, and each seed's value. Values that are not finite
    are left out, so a diverged run is drawn as far as it goes. Shares become percent."""
    scale = 1.0 if metric == "loss" else 100.0
    rows = []
    for arm in results.arms:
        values: dict[int, dict[int, float]] = {}
        for run in results.of_arm(arm):
            for line in run.history:
                if line["split"] == split and math.isfinite(line[metric]):
                    values.setdefault(line["epoch"], {})[run.seed] = scale * line[metric]
        for epoch, by_seed in sorted(values.items()):
            rows.append(
                {
                    "arm": arm,
                    "epoch": epoch,
                    "mean": round(statistics.fmean(by_seed.values()), 4),
                    "seeds": {str(seed): round(v, 4) for seed, v in sorted(by_seed.items())},
                }
            )
    return rows


def curve_spec(results: Results, metric: str, split: str) -> dict[str, Any]:
    """Mean over seeds as a line, each seed as a faint one. The data is a row an arm, seed and
    epoch; the means are rows without a seed."""
    rows = curve_rows(results, metric, split)
    looks = style(results.arms)
    unit = "nats" if metric == "loss" else "%"
    lines = [{"arm": r["arm"], "epoch": r["epoch"], "value": r["mean"], "seed": "mean",
              "seeds": ", ".join(f"{v:.4g}" for v in r["seeds"].values())} for r in rows]  # fmt: skip
    faint = [
        {"arm": r["arm"], "epoch": r["epoch"], "value": value, "seed": seed}
        for r in rows
        for seed, value in r["seeds"].items()
        if len(r["seeds"]) > 1
    ]
    epochs = sorted({r["epoch"] for r in rows})
    x = {
        "field": "epoch",
        "type": "quantitative",
        "title": "epoch",
        "axis": {"tickMinStep": 1, "format": "d", "grid": False},
        "scale": {"domain": [min(epochs, default=1), max(epochs, default=1)], "nice": False},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "title": unit,
        "scale": {"zero": False},
        "axis": {"tickCount": 5},
    }
    colour = {
        "field": "arm",
        "type": "nominal",
        "sort": list(results.arms),
        "scale": {
            "domain": list(results.arms),
            "range": [looks[arm]["colour"] for arm in results.arms],
        },
        "legend": {"title": None},
    }
    dash = {
        "field": "arm",
        "type": "nominal",
        "sort": list(results.arms),
        "scale": {
            "domain": list(results.arms),
            "range": [looks[arm]["dash"] for arm in results.arms],
        },
        "legend": {"title": None},
    }
    tooltip = [
        {"field": "arm", "type": "nominal", "title": "arm"},
        {"field": "epoch", "type": "quantitative", "title": "epoch"},
        {"field": "value", "type": "quantitative", "title": f"mean ({unit})", "format": ".4g"},
        {"field": "seeds", "type": "nominal", "title": "seeds"},
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": f"{TITLES[metric]}, {TITLES[CURVE_SPLITS[split]]}",
        "data": {"name": "curves", "values": lines + faint},
        "encoding": {"x": x, "y": y, "color": colour},
        "layer": [
            {
                "transform": [{"filter": "datum.seed != 'mean'"}],
                "mark": {"type": "line", "strokeWidth": 0.8, "opacity": 0.3},
                "encoding": {"detail": {"field": "seed", "type": "nominal"}},
            },
            {
                "transform": [{"filter": "datum.seed == 'mean'"}],
                "mark": {"type": "line", "strokeWidth": 2.2},
                "encoding": {"strokeDash": dash},
            },
            {
                "transform": [{"filter": "datum.seed == 'mean'"}],
                "mark": {"type": "point", "filled": True, "size": 34},
                "encoding": {"tooltip": tooltip},
            },
        ],
    }


def points_spec(results: Results) -> dict[str, Any]:
    """Test accuracy: every run a point, the arm's mean a bar, all on one scale."""
    looks = style(results.arms)
    rows = []
    for arm in results.arms:
        spread = results.spread(arm, "test", "accuracy")
        for run in results.of_arm(arm):
            value = run.metric("test", "accuracy")
            if value is not None and spread is not None:
                rows.append(
                    {
                        "arm": arm,
                        "seed": run.seed,
                        "value": round(100 * value, 3),
                        "mean": round(100 * spread.mean, 3),
                    }
                )
    y = {
        "field": "arm",
        "type": "nominal",
        "sort": list(results.arms),
        "title": None,
        "scale": {"domain": list(results.arms)},
        "axis": {"grid": True},
    }
    colour = {
        "field": "arm",
        "type": "nominal",
        "scale": {
            "domain": list(results.arms),
            "range": [looks[arm]["colour"] for arm in results.arms],
        },
        "legend": None,
    }
    scale = {"zero": False, "nice": True}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": "Test accuracy: every run a point, the mean a bar",
        "data": {"name": "points", "values": rows},
        "height": {"step": 26},
        "encoding": {"y": y, "color": colour},
        "layer": [
            {
                "mark": {"type": "tick", "thickness": 3, "size": 20},
                "encoding": {"x": {"aggregate": "mean", "field": "value", "type": "quantitative"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.65},
                "encoding": {
                    "x": {
                        "field": "value",
                        "type": "quantitative",
                        "title": "test accuracy (%)",
                        "scale": scale,
                    },
                    "tooltip": [
                        {"field": "arm", "title": "arm"},
                        {"field": "seed", "type": "nominal", "title": "seed"},
                        {"field": "value", "title": "test accuracy (%)", "format": ".2f"},
                        {"field": "mean", "title": "mean of the arm", "format": ".2f"},
                    ],
                },
            },
        ],
    }


PAPER: dict[str, Any] = {
    "background": "white",
    "font": "DejaVu Sans, Helvetica, Arial, sans-serif",
    "title": {"fontSize": 13, "fontWeight": 600, "anchor": "start"},
    "axis": {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"},
    "legend": {"labelFontSize": 11, "symbolStrokeWidth": 2.2, "symbolSize": 120},
    "view": {"stroke": None},
}


def write_figures(results: Results) -> tuple[Path, ...]:
    """Write figures/METRIC-SPLIT.png and .svg for every curve, and test-accuracy."""
    import vl_convert

    specs = {
        f"{metric}-{name}": {**curve_spec(results, metric, split), "width": 420, "height": 260}
        for metric in CURVES
        for split, name in CURVE_SPLITS.items()
    }
    specs["test-accuracy"] = {**points_spec(results), "width": 420}
    written = []
    for name, spec in specs.items():
        text = json.dumps({**spec, "config": PAPER})
        png = results.folder / "figures" / f"{name}.png"
        write_bytes(png, vl_convert.vegalite_to_png(text, scale=2.0))
        svg = results.folder / "figures" / f"{name}.svg"
        write_text(svg, vl_convert.vegalite_to_svg(text))
        written += [png, svg]
    return tuple(written)
