"""What each arm gets wrong: confusion matrices, F1 by class, and the images most arms get wrong."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..pages.images import data_uri
from ..pages.words import shortened
from ..results import Answers, HardImage, Results, Spread, answers, class_f1, confusion, hardest
from ..runs.pictures import read_pictures
from . import tables
from .charts import LIGHT, Spec, chart, files, for_page
from .styles import styles

COUNTS_UP_TO = 12
"""Above so many classes a matrix has no numbers in its cells, and the table of F1 is folded."""
PAIRS = 3
"""Confusions named in words."""
CARDS = 12
"""Images shown before the rest is folded."""
SHOWN = 24
TONES = {
    "cell_low": {"light": "#f1f4f9", "dark": "#20252d"},
    "cell_middle": {"light": "#6f96d0", "dark": "#4d75a3"},
    "cell_high": {"light": "#0b3c86", "dark": "#a9d1ff"},
}
"""The colour scale of a matrix at a share of 0, 1/4 and 1: one hue, its lightness in CIELAB even in
the square root of the share (96, 61, 27 on light; 14, 48, 82 on dark)."""
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right")


def context(results: Results) -> dict[str, Any]:
    """What the section says."""
    found = answers(results)
    told = _told(found)
    style = styles(results)
    hard = hardest(results, count=SHOWN) if told else []
    cards, damaged = _cards(results, hard, found)
    return {
        "arms": [
            {
                "name": arm,
                "style": style[arm],
                "dash": " ".join(f"{x:g}" for x in style[arm].dash),
                "runs": len(found.of_arm[arm]),
                "says": _confused(results, found, arm),
                "file": f"figures/{_figure(arm)}",
            }
            for arm in told
        ],
        "without": [arm for arm in results.arms if arm not in told],
        "images": len(found.first.labels) if found.first else 0,
        "left_out": found.left_out,
        "width": _width(found.classes),
        "f1": _f1_table(results, found) if told else None,
        "folded": len(found.classes) > COUNTS_UP_TO,
        "cards": cards[:CARDS],
        "more_cards": cards[CARDS:],
        "pictured": any(card["picture"] for card in cards),
        "damaged": damaged,
    }


def payload(results: Results) -> dict[str, Any] | None:
    """What the section's script draws: counts as true, predicted, count, one cell after the other.
    None where no run has predictions."""
    found = answers(results)
    told = _told(found)
    if not told:
        return None
    return {
        "classes": list(found.classes),
        "arms": {
            arm: {
                "cells": [
                    number
                    for row in rows(results, arm)
                    for number in (row["t"], row["p"], row["count"])
                ],
                "label": _label(results, found, arm),
            }
            for arm in told
        },
        "tones": TONES,
        "spec": for_page(spec(results)),
    }


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
    confused can be seen beside the many that are not.
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


def figures(results: Results) -> dict[str, tuple[str, bytes]]:
    """Name to SVG and PNG: a matrix for every arm, and F1 by class; none without predictions."""
    found = answers(results)
    told = _told(found)
    made = {}
    for arm in told:
        drawn = spec(results)
        drawn["data"]["values"] = rows(results, arm)
        many = len(found.of_arm[arm])
        drawn |= {
            "width": _cell(len(found.classes)) * len(found.classes),
            "background": LIGHT["ground"],
            "title": {
                "text": f"{arm}: test images of {many} run{'' if many == 1 else 's'}",
                "anchor": "start", "fontSize": 13, "fontWeight": "normal", "color": LIGHT["ink"],
            },
        }  # fmt: skip
        made[_figure(arm)] = files(drawn)
    if told:
        made["f1-by-class"] = files(f1_spec(results))
    return made


def f1_spec(results: Results) -> Spec:
    """F1 of every class, a point an arm, with its standard deviation over the seeds."""
    found = answers(results)
    told = _told(found)
    classes = list(found.classes)
    values = []
    for arm in told:
        for name, spread in zip(classes, class_f1(results, arm), strict=True):
            if spread is not None:
                sd = spread.sd or 0.0
                values.append(
                    {
                        "arm": arm,
                        "class": name,
                        "value": 100 * spread.mean,
                        "low": 100 * max(0.0, spread.mean - sd),
                        "high": 100 * min(1.0, spread.mean + sd),
                    }
                )
    apart = len(told) <= 8
    position: Spec = {
        "y": {
            "field": "class", "type": "nominal", "title": None, "sort": None,
            "scale": {"domain": classes, "padding": 0.25},
            "axis": {"grid": False, "ticks": False, "labelLimit": 220},
        },
        "color": {
            "field": "arm", "type": "nominal",
            "scale": {"domain": told, "range": [styles(results)[arm].light for arm in told]},
            "legend": {"title": None, "labelLimit": 260, "symbolOpacity": 1},
        },
    }  # fmt: skip
    if apart:
        position["yOffset"] = {
            "field": "arm", "type": "nominal", "scale": {"domain": told, "padding": 0.5},
        }  # fmt: skip
    x: Spec = {
        "type": "quantitative", "title": "F1 on the test images (%)", "scale": {"zero": False},
        "axis": {"labelFlush": False},
    }  # fmt: skip
    shape = {
        "field": "arm", "type": "nominal",
        "scale": {"domain": told,
                  "range": [SHAPES[index % len(SHAPES)] for index in range(len(told))]},
        "legend": {"title": None, "labelLimit": 260, "symbolOpacity": 1},
    }  # fmt: skip
    return chart(
        {
            "data": {"values": values},
            "params": [],
            "width": 420,
            "height": len(classes) * (max(20, 7 * len(told) + 8) if apart else 18),
            "background": LIGHT["ground"],
            "layer": [
                {
                    "mark": {"type": "rule", "strokeOpacity": 0.55},
                    "encoding": {**position, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 44, "opacity": 1},
                    "encoding": {**position, "x": {**x, "field": "value"}, "shape": shape},
                },
            ],
        },
        results,
    )


def markdown(results: Results) -> str:
    """The table of F1 by class as a section of results.md; empty without predictions."""
    found = answers(results)
    told = _told(found)
    if not told:
        return ""
    columns = {arm: class_f1(results, arm) for arm in told}
    lines = [
        "",
        "## F1 by class",
        "",
        tables.markdown_row(["class", *(tables.markdown_code(arm) for arm in told)]),
        tables.markdown_row(["---", *("---:" for _ in told)]),
        *(
            tables.markdown_row(
                [tables.markdown_text(name), *(tables.cell(columns[arm][k]) for arm in told)]
            )
            for k, name in enumerate(found.classes)
        ),
        "",
        f"- Percent, on the test images: {_over_seeds(found)}",
        *(f"- Left out: {tables.markdown_text(said)}" for said in found.left_out),
    ]
    return "\n".join(lines) + "\n"


def latex(results: Results) -> str:
    r"""f1-by-class.tex: the table as a LaTeX ``tabular`` that stands alone; empty without
    predictions."""
    found = answers(results)
    told = _told(found)
    if not told:
        return ""
    columns = {arm: class_f1(results, arm) for arm in told}
    lines = [
        f"% F1 by class in percent, on the test images: {_over_seeds(found)}",
        r"% Needs \usepackage{booktabs} in the preamble.",
        *(f"% Left out: {tables.one_line(said)}" for said in found.left_out),
        rf"\begin{{tabular}}{{l{'r' * len(told)}}}",
        r"\toprule",
        " & ".join(["class", *map(tables.latex_text, told)]) + r" \\",
        r"\midrule",
        *(
            " & ".join(
                [
                    tables.latex_text(name),
                    *(tables.latex_cell(tables.cell(columns[arm][k])) for arm in told),
                ]
            )
            + r" \\"
            for k, name in enumerate(found.classes)
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _over_seeds(found: Answers) -> str:
    if any(len(seeds) > 1 for seeds in found.of_arm.values()):
        return "mean ± sample standard deviation over the seeds of an arm."
    return "the one run of each arm."


def _told(found: Answers) -> list[str]:
    """The arms that have predictions."""
    return [arm for arm, seeds in found.of_arm.items() if seeds]


def _figure(arm: str) -> str:
    return f"confusion-{arm.replace(':', ',')}"


def _cell(classes: int) -> int:
    """Side of a cell in pixels."""
    return 36 if classes <= COUNTS_UP_TO else 20 if classes <= 30 else max(4, 720 // classes)


def _width(classes: tuple[str, ...]) -> int:
    """Pixels that the matrix takes on a wide page, its labels with it."""
    if not classes:
        return 0
    labels = min(150, 7 * max(map(len, classes))) + 60
    return labels + round(1.25 * _cell(len(classes)) * len(classes))


def _confused(results: Results, found: Answers, arm: str) -> str:
    """The most frequent confusions of an arm in a sentence."""
    counts = confusion(results, arm)
    totals = counts.sum(1)
    pairs = sorted(
        (-int(counts[t, p]), int(t), int(p))
        for t, p in zip(*counts.nonzero(), strict=True)
        if t != p
    )
    runs = len(found.of_arm[arm])
    over = "its one run" if runs == 1 else f"its {runs} runs"
    if not pairs:
        return f"Over {over} {arm} took no test image for another class."
    named = [
        f"{found.classes[t]} for {found.classes[p]} ({-count} of {totals[t]} times)"
        for count, t, p in pairs[:PAIRS]
    ]
    wrong, whole = int(counts.sum() - counts.trace()), int(counts.sum())
    return (
        f"Over {over} {arm} was wrong {wrong:,} of {whole:,} times. "
        f"Most often it took {shortened(named)}."
    )


def _label(results: Results, found: Answers, arm: str) -> str:
    """The matrix in words, for those who do not see it."""
    return (
        f"Confusion matrix of {arm} on the test images, rows the true class, columns the predicted "
        f"one, {len(found.classes)} classes. {_confused(results, found, arm)}"
    )


def _f1_table(results: Results, found: Answers) -> dict[str, Any]:
    """Classes by arms; ``shade`` is 0 at the highest F1 of the table and 1 at the lowest."""
    told = _told(found)
    columns = {arm: class_f1(results, arm) for arm in told}
    cells: list[dict[str, Any]]
    lines: list[dict[str, Any]] = []
    means = {arm: [s.mean if s else 0.0 for s in spreads] for arm, spreads in columns.items()}
    every = [value for of_arm in means.values() for value in of_arm]
    low, high = min(every), max(every)
    least = {arm: min(of_arm) for arm, of_arm in means.items()}
    for index, name in enumerate(found.classes):
        cells = []
        for arm in told:
            spread, value = columns[arm][index], means[arm][index]
            cells.append(
                {
                    "text": f"{100 * value:.1f}",
                    "sd": _sd(spread),
                    "shade": round((high - value) / (high - low), 3) if high > low else 0,
                    "least": value == least[arm],
                }
            )
        lines.append({"name": name, "cells": cells, "least": sum(c["least"] for c in cells)})
    most = max(line["least"] for line in lines)
    hard = [line["name"] for line in lines if line["least"] == most]
    all_arms = f"all {len(told)} arms" if most == len(told) else f"{most} of the {len(told)} arms"
    where = "in the one arm" if len(told) == 1 else f"in {all_arms}"
    if high == low:
        says = "Every class has the same F1 in every arm."
    elif len(hard) == 1:
        says = f"{hard[0]} is the hardest class: its F1 is the lowest {where}."
    else:
        says = f"The hardest classes are {shortened(hard)}: the F1 of each is the lowest {where}."
    for line in lines:
        line["hard"] = high > low and line["least"] == most
    return {"arms": told, "lines": lines, "says": says, "over": _over_seeds(found)}


def _sd(spread: Spread | None) -> str:
    return "" if spread is None or spread.sd is None else f"{100 * spread.sd:.1f}"


def _cards(
    results: Results, hard: list[HardImage], found: Answers
) -> tuple[list[dict[str, Any]], str]:
    """The hardest images, and what is wrong with the file of their pixels, if anything."""
    try:
        pictures, damaged = read_pictures(results.folder), ""
    except InputError as error:
        pictures, damaged = {}, f"The images are not shown: {error}."
    cards = []
    for image in hard:
        pixels = pictures.get(image.name)
        cards.append(
            {
                "name": image.name,
                "picture": None if pixels is None else data_uri(pixels),
                "true": found.classes[image.label],
                "wrong": image.wrong,
                "runs": image.runs,
                "taken": [(found.classes[k], times) for k, times in image.taken_for],
                "arms": [
                    {
                        "name": arm,
                        "wrong": of_arm.wrong,
                        "runs": of_arm.runs,
                        "taken": None
                        if of_arm.taken_for is None
                        else found.classes[of_arm.taken_for],
                    }
                    for arm, of_arm in image.arms.items()
                ],
            }
        )
    return cards, damaged
