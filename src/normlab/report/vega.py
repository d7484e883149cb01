"""The chart kit: what all Vega-Lite charts share, for the page and for paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..pages.words import visible
from ..results import Results
from .styles import styles

Spec = dict[str, Any]
Figure = tuple[str, bytes]
"""SVG and PNG of a chart."""
Bounds = tuple[float, float]

LIGHT = {"ink": "#1b1f24", "muted": "#57606a", "grid": "#e4e7eb", "ground": "#ffffff"}
"""Colours of a chart on paper; the page has its own, light and dark."""
PAGE_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
LEGEND_ROWS = 12
"""Of a legend next to a chart; more arms take further columns."""
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right")
"""Of points, in the order of the arms."""
NEAR = "focus === '' || datum.arm === focus"
"""Whether a mark belongs to the arm that is brought forward, or none is."""
DIGITS = 5
"""Significant digits of the values in the page's charts."""


def parameters(low: float = 0, high: float = 1) -> list[Spec]:
    """The ends of the axis, and the arm and epoch that the page brings forward."""
    return [
        {"name": "low", "value": low},
        {"name": "high", "value": high},
        {"name": "focus", "value": ""},
        {"name": "focus_epoch", "value": 0},
    ]


def chart(spec: Spec, results: Results) -> Spec:
    """What all charts share. Colours are parameters, so that the page can follow its theme."""
    text = {"labelColor": {"expr": "muted"}, "titleColor": {"expr": "muted"}}
    quiet = {"gridColor": {"expr": "grid"}, "domainColor": {"expr": "grid"}}
    colours = [
        *({"name": name, "value": value} for name, value in LIGHT.items()),
        {"name": "palette", "value": [style.light for style in styles(results).values()]},
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        **spec,
        "params": [*spec["params"], *colours],
        "config": {
            "font": FONT,
            "view": {"stroke": None},
            "axis": {
                **text,
                **quiet,
                "tickColor": {"expr": "grid"},
                "labelFontSize": 12,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "labelPadding": 5,
                "titlePadding": 8,
            },
            "legend": {
                "labelColor": {"expr": "ink"},
                "labelFontSize": 12,
                "rowPadding": 4,
                "symbolLimit": 0,  # by default 30, and the rest is a number
            },
            "aria": False,
        },
    }


def colour(results: Results) -> Spec:
    """The colour of an arm, without a legend."""
    arms = list(results.arms)
    palette = [{"expr": f"palette[{index}]"} for index in range(len(arms))]
    return {
        "field": "arm",
        "type": "nominal",
        "scale": {"domain": arms, "range": palette},
        "legend": None,
    }


def shape(arms: Iterable[str], legend: Spec) -> Spec:
    """The shape of an arm's points."""
    names = list(arms)
    return {
        "field": "arm",
        "type": "nominal",
        "legend": legend,
        "scale": {"domain": names, "range": [SHAPES[i % len(SHAPES)] for i in range(len(names))]},
    }


def domain(of_arm: Mapping[str, Bounds]) -> Bounds:
    """The axis for these arms."""
    low = min((low for low, _ in of_arm.values()), default=0.0)
    high = max((high for _, high in of_arm.values()), default=1.0)
    return (low, high) if high > low else (low - 1, high + (1 if high < 99.5 else 0))


def ticks(epochs: int) -> list[int]:
    """Epochs to label: the first, and round ones, ten or so."""
    unit = 10 ** max(0, math.floor(math.log10(epochs)) - 1)
    step = next(unit * k for k in (1, 2, 5, 10, 20) if epochs <= 11 * unit * k)
    first = 2 * step if step == 2 else step  # 1 and 2 would touch
    return sorted({1, *range(first, epochs + 1, step)})


def short(value: float | None) -> float | None:
    """A value with as many digits as a chart on the page shows."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def for_page(spec: Spec) -> Spec:
    """A chart compiled to Vega that takes the width of its place on the page."""
    import vl_convert

    fit = {"type": "fit-x", "contains": "padding"}
    spec = {"height": 230, **spec, "width": "container", "autosize": fit, "background": None}
    spec["config"] = {**spec["config"], "font": PAGE_FONT}
    compiled: Spec = vl_convert.vegalite_to_vega(_drawable(spec))
    return compiled


def on_paper(spec: Spec, rows: list[dict[str, Any]], width: int = 460) -> Figure:
    """A chart with its data and no legend beyond its own, on white."""
    drawn = {**spec, "width": width, "background": LIGHT["ground"]}
    drawn["data"] = {**spec["data"], "values": rows}
    return picture(drawn)


def render(spec: Spec, bounds: Bounds, title: str | None = None) -> Figure:
    """A chart that has its data, with its axis set; with a title it gets a legend of the arms."""
    spec = {"width": 380, "height": 250, **spec, "background": LIGHT["ground"]}
    axis = dict(zip(("low", "high"), bounds, strict=True))
    spec["params"] = [{**p, "value": axis.get(p["name"], p["value"])} for p in spec["params"]]
    if title is not None:
        legend = {
            "title": None,
            "symbolType": "stroke",
            "symbolSize": 600,
            "symbolStrokeWidth": 2,
            "labelLimit": 260,
            "columns": -(-_entries(spec) // LEGEND_ROWS),
        }
        for layer in spec["layer"]:
            layer["encoding"]["y"] = {**layer["encoding"]["y"], "title": title}
            for channel in {"color", "strokeDash"} & layer["encoding"].keys():
                layer["encoding"][channel] = {**layer["encoding"][channel], "legend": legend}
    return picture(spec)


def _entries(spec: Spec) -> int:
    """Arms in the legend."""
    encodings = [layer["encoding"] for layer in spec["layer"]]
    domains = [e["color"]["scale"]["domain"] for e in encodings if "color" in e]
    return max(1, *map(len, domains))


def picture(spec: Spec) -> Figure:
    """SVG and PNG of a chart that has its data."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(_drawable(spec), allowed_base_urls=[])
    png: bytes = vl_convert.svg_to_png(svg, scale=3)
    return svg, png


def _drawable(value: Any) -> Any:
    """A specification without characters that SVG cannot contain, at which the renderer aborts."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(key): _drawable(inner) for key, inner in value.items()}
    return [_drawable(inner) for inner in value] if isinstance(value, (list, tuple)) else value
