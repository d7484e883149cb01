"""The confusion matrix of an arm: chart, sentence and figure."""

from __future__ import annotations

from typing import Any

from ....pages.words import shortened
from ....results import Answers, Results, answers, confusion
from ...vega import LIGHT, Figure, Spec, chart, picture

COUNTS_UP_TO = 12
"""Matrices of more classes than this have no numbers in their cells."""
PAIRS = 3
"""Confusions named in words."""
TONES = {
    "cell_low": {"light": "#f1f4f9", "dark": "#20252d"},
    "cell_middle": {"light": "#6f96d0", "dark": "#4d75a3"},
    "cell_high": {"light": "#0b3c86", "dark": "#a9d1ff"},
}
"""The colour scale of a matrix at a share of 0, 1/4 and 1: one hue, its lightness in CIELAB even in
the square root of the share (96, 61, 27 on light; 14, 48, 82 on dark)."""


def told(found: Answers) -> list[str]:
    """The arms that have predictions."""
    return [arm for arm, seeds in found.of_arm.items() if seeds]


def rows(results: Results, arm: str) -> list[dict[str, Any]]:
    """The cells of an arm's confusion matrix that are not empty: indices ``t`` and ``p`` of the
    true and the predicted class, their names, the count, and its share of the true class."""
    counts = confusion(results, arm)
    names = answers(results).classes
    totals = counts.sum(1)
    return [
        {
            "t": int(t),
            "p": int(p),
            "true": names[t],
            "predicted": names[p],
            "count": int(counts[t, p]),
            "share": float(counts[t, p] / totals[t]),
        }
        for t, p in zip(*counts.nonzero(), strict=True)
    ]


def spec(results: Results) -> Spec:
    """The matrix without its data: ``data("cells")`` takes :func:`rows`.

    The colour is the share of the true class on a scale of square roots, so that the few that are
    confused remain visible next to the many that are not.
    """
    classes = list(answers(results).classes)
    cell = _cell(len(classes))
    longest = max(map(len, classes))
    small = 11 if cell >= 14 else 10
    labels: Spec = {
        "ticks": False, "domain": False, "labelLimit": 150, "labelOverlap": "greedy",
        "labelFontSize": small, "labelSeparation": 1,
    }  # fmt: skip
    across = {"labelAngle": 0} if longest <= 3 and cell >= 14 else {"labelAngle": -90}

    def axis(field: str, title: str, **more: Any) -> Spec:
        return {
            "field": field, "type": "nominal", "title": title, "sort": None,
            "scale": {"domain": classes, "paddingInner": 0.06 if cell >= 14 else 0,
                      "paddingOuter": 0},
            "axis": {**labels, **more},
        }  # fmt: skip

    position = {
        "x": axis("predicted", "predicted class", **across),
        "y": axis("true", "true class"),
    }
    colour: Spec = {
        "field": "share",
        "type": "quantitative",
        "scale": {
            "type": "sqrt",
            "domain": [0, 0.25, 1],
            "range": [{"expr": name} for name in TONES],
            "interpolate": "lab",
        },
        "legend": {
            "title": "share of the true class", "orient": "top", "format": ".0%",
            "values": [0, 0.05, 0.25, 0.5, 1], "gradientLength": 180, "gradientThickness": 10,
            "titleColor": {"expr": "muted"}, "titleFontWeight": "normal", "titleFontSize": 12,
            "labelColor": {"expr": "muted"}, "titleLimit": 300,
        },
    }  # fmt: skip
    layers: list[Spec] = [{"mark": "rect", "encoding": {**position, "color": colour}}]
    if len(classes) <= COUNTS_UP_TO:
        # On a cell whose luminance is above 0.18 black has the higher contrast, below it white.
        bright = "luminance(scale('color', datum.share)) > 0.18"
        fits = "bandwidth('x') >= 7 * length('' + datum.count) + 1"
        layers.append(
            {
                "transform": [{"filter": fits}],
                "mark": {"type": "text", "fontSize": 12},
                "encoding": {
                    **position,
                    "text": {"field": "count", "type": "quantitative"},
                    "color": {"condition": {"test": bright, "value": "#000"}, "value": "#fff"},
                },
            }
        )
    made = chart(
        {
            "data": {"name": "cells", "values": []},
            "params": [{"name": name, "value": tone["light"]} for name, tone in TONES.items()],
            "height": cell * len(classes),
            "view": {"fill": {"expr": "cell_low"}, "fillOpacity": 1},
            "layer": layers,
        },
        results,
    )
    made["config"]["axis"]["grid"] = False
    return made


def figures(results: Results) -> dict[str, Figure]:
    """Name to SVG and PNG: a matrix for every arm with predictions."""
    return {figure(arm): _on_paper(results, arm) for arm in told(answers(results))}


def _on_paper(results: Results, arm: str) -> Figure:
    found = answers(results)
    many = len(found.of_arm[arm]) * found.folds
    drawn = spec(results)
    drawn["data"]["values"] = rows(results, arm)
    drawn |= {
        "width": _cell(len(found.classes)) * len(found.classes),
        "background": LIGHT["ground"],
        "title": {
            "text": f"{arm}: test images of {many} run{'' if many == 1 else 's'}",
            "anchor": "start", "fontSize": 13, "fontWeight": "normal", "color": LIGHT["ink"],
        },
    }  # fmt: skip
    return picture(drawn)


def figure(arm: str) -> str:
    """The name of its figure."""
    return f"confusion-{arm.replace(':', ',')}"


def _cell(classes: int) -> int:
    """Side of a cell in pixels."""
    return 36 if classes <= COUNTS_UP_TO else 20 if classes <= 30 else max(4, 720 // classes)


def width(classes: tuple[str, ...]) -> int:
    """Pixels that the matrix takes on a wide page, its labels with it."""
    if not classes:
        return 0
    labels = min(150, 7 * max(map(len, classes))) + 60
    return labels + round(1.25 * _cell(len(classes)) * len(classes))


def confused(results: Results, found: Answers, arm: str) -> str:
    """The most frequent confusions of an arm in a sentence."""
    counts = confusion(results, arm)
    totals = counts.sum(1)
    pairs = sorted(
        (-int(counts[t, p]), int(t), int(p))
        for t, p in zip(*counts.nonzero(), strict=True)
        if t != p
    )
    runs = len(found.of_arm[arm]) * found.folds
    over = "its one run" if runs == 1 else f"its {runs} runs"
    if not pairs:
        return f"Over {over} {arm} mistook no test image for another class."
    named = [
        f"{found.classes[t]} for {found.classes[p]} ({-count} of {totals[t]} times)"
        for count, t, p in pairs[:PAIRS]
    ]
    wrong, whole = int(counts.sum() - counts.trace()), int(counts.sum())
    return (
        f"Over {over} {arm} was wrong {wrong:,} of {whole:,} times. "
        f"Most often it mistook {shortened(named)}."
    )


def chart_label(results: Results, found: Answers, arm: str) -> str:
    """The matrix in words, for those who do not see it."""
    return (
        f"Confusion matrix of {arm} on the test images, rows the true class, columns the predicted "
        f"one, {len(found.classes)} classes. {confused(results, found, arm)}"
    )
