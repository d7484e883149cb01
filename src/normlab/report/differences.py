"""Every arm beside its reference: the chart of differences, the table of how sure, files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ..pages.words import NO_VALUE, listed
from ..results import Results
from ..results.statistics import Interval, Judgement, PairedComparison, every_pair, judge
from . import tables
from .answer import LABELS, judged
from .charts import LIGHT, Spec, chart, colour, files, for_page
from .numbers import bracket, margin, places, points, seeds_range, signed, with_interval

FIGURE = "differences"
Columns = tuple[str, ...]
COLUMNS: Columns = (
    "difference", "verdict", "alone (95 %)", "images", "seeds and images", "spread",
    "correlation", "visible", "seeds to see the margin", "seeds for equivalence",
)  # fmt: skip
EXPLAINED = (
    (
        "difference",
        "mean over the seeds of the arm's test accuracy less the reference's, in points, with the "
        "interval from which the verdict is made; all these intervals hold together",
    ),
    (
        "alone",
        "the interval for a reader who asked about this one arm and no other; where several are "
        "read side by side it is too short",
    ),
    (
        "images",
        "the same trained models on other test images of the same kind: bootstrap over images, "
        "within each class, both arms on the same images",
    ),
    ("seeds and images", "other seeds and other test images: the two variances add"),
    ("spread", "sample standard deviation of the differences over the seeds, in points"),
    (
        "correlation",
        "of the two arms over the seeds: near 1 pairing helps, near 0 it does not; rough with "
        "few seeds",
    ),
    (
        "visible",
        "the smallest true difference, in points, that so many seeds of this spread would find in "
        "four studies of five",
    ),
    (
        "seeds to see the margin",
        "how many seeds would find a difference of the margin in four studies of five; a range, "
        "because the spread is known from few seeds",
    ),
    (
        "seeds for equivalence",
        "how many seeds would find two arms without any difference equivalent in four studies of "
        "five; a range for the same reason",
    ),
)
"""What each column is, for the foot of the table."""


def context(results: Results, *, all_pairs: bool = False) -> dict[str, Any] | None:
    """What the sections say; None where nothing is compared."""
    judgement = judged(results)
    if not judgement.comparisons:
        return None
    return {
        "columns": COLUMNS,
        "rows": [
            (
                tables.breakable(found.arm),
                found.reference,
                [(text, name == "verdict") for name, text in zip(COLUMNS, cells(found))],  # noqa: B905
            )
            for found in judgement.comparisons
        ],
        "references": len({found.reference for found in judgement.comparisons}),
        "reference": judgement.comparisons[0].reference,
        "explained": EXPLAINED,
        "margin": margin(judgement.rule.margin),
        "charted": bool(rows(results)),
        "label": _label(judgement),
        "file": f"figures/{FIGURE}",
        "pairs": pairs(results) if all_pairs else None,
    }


def cells(found: PairedComparison) -> list[str]:
    """The columns of the table of how sure."""
    none = NO_VALUE
    if found.difference is None:
        return [none, "no verdict", *[none] * (len(COLUMNS) - 2)]
    digits = places(found.interval)

    def interval(of: Interval | None) -> str:
        return none if of is None else bracket(of, digits)

    def seeds(bounds: tuple[int | None, int | None] | None) -> str:
        return none if bounds is None else seeds_range(bounds)

    sd = found.difference.sd
    return [
        with_interval(found.difference.mean, found.interval),
        LABELS[found.verdict] if found.interval is not None else "no verdict",
        interval(found.unadjusted),
        interval(found.images.interval if found.images else None),
        interval(found.both),
        none if sd is None else points(sd, 2),
        none if found.correlation is None else f"{found.correlation:.2f}".replace("-", "−"),
        none if found.visible is None else points(found.visible, digits),
        seeds(found.seeds_to_see_margin),
        seeds(found.seeds_for_equivalence),
    ]


def pairs(results: Results) -> list[tuple[str, str, str, str]]:
    """Every two arms: both names, difference with its interval, verdict; the error is divided over
    all pairs."""
    judgement = judge(results, judged(results).rule, compared=every_pair(results), images=False)
    return [
        (found.arm, found.reference, *cells(found)[:2])  # type: ignore[misc]
        for found in judgement.comparisons
    ]


def pairs_note(results: Results) -> str:
    """What is to be known of the table of all pairs."""
    count = len(every_pair(results))
    return (
        f"Every two arms, asked for after the runs. The error is divided over all {count} pairs, "
        "so these intervals are wider than those beside the reference; they too hold together."
    )


def rows(results: Results) -> list[dict[str, Any]]:
    """The chart's data in points: a row an arm with its intervals, and one a seed."""
    found: list[dict[str, Any]] = []
    for comparison in judged(results).comparisons:
        difference = comparison.difference
        if difference is None:
            continue
        shared = {"arm": comparison.arm, "reference": comparison.reference}
        row: dict[str, Any] = {
            **shared,
            "kind": "arm",
            "value": 100 * difference.mean,
            "verdict": LABELS[comparison.verdict],
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


def bounds(found: Sequence[dict[str, Any]], least: float) -> tuple[float, float]:
    """The axis of these rows: all of them, 0 and ± ``least``."""
    ends = [
        row[name]
        for row in found
        for name in ("value", "low", "high", "both_low", "both_high")
        if name in row
    ]
    return min(*ends, -least), max(*ends, least)


def spec(results: Results) -> Spec:
    """The chart without its data: ``data("differences")`` takes :func:`rows`. The band is the
    margin."""
    judgement = judged(results)
    compared = [found for found in judgement.comparisons if found.difference is not None]
    names = {
        found.arm: f"{found.arm}: {LABELS[found.verdict]}"
        if found.interval is not None
        else found.arm
        for found in compared
    }
    near = "focus === '' || datum.arm === focus"
    least = 100 * judgement.rule.margin
    ends = bounds(rows(results), least)

    def strength(value: float) -> Spec:
        return {"condition": {"test": near, "value": value}, "value": 0.12}

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
            "labelExpr": f"({_object(names)})[datum.label]",
        },
    }
    scale = {"domain": [{"expr": "low"}, {"expr": "high"}], "nice": True, "zero": False}
    beside = {found.reference for found in compared}
    to = beside.pop() if len(beside) == 1 else "the reference"

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
                "color": colour(results),
                "strokeOpacity": strength(opacity),
            },
        }

    def mark(kind: str, only: str, opacity: float, **more: Any) -> Spec:
        encoding = {"x": x("value"), "y": y, "color": colour(results)}
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
            "params": [
                # Marks far outside the axis would leave the page's first layout no width.
                {"name": "low", "value": ends[0]},
                {"name": "high", "value": ends[1]},
                {"name": "focus", "value": ""},
                {"name": "focus_epoch", "value": 0},
            ],
            "height": {"step": 34},
            "layer": layers,
        },
        results,
    )


def payload(results: Results) -> dict[str, Any] | None:
    """What the section's script draws."""
    found = rows(results)
    if not found:
        return None
    least = 100 * judged(results).rule.margin
    return {"rows": found, "least": least, "spec": for_page(spec(results))}


def figures(results: Results) -> dict[str, tuple[str, bytes]]:
    """SVG and PNG of the chart; none where nothing is compared."""
    found = rows(results)
    if not found:
        return {}
    drawn = {**spec(results), "width": 460, "background": LIGHT["ground"]}
    drawn["data"]["values"] = found
    return {FIGURE: files(drawn)}


def markdown(results: Results, *, all_pairs: bool = False) -> str:
    """The table of how sure as a section of results.md, or nothing."""
    judgement = judged(results)
    if not judgement.comparisons:
        return ""
    lines = [
        "",
        "## How sure",
        "",
        tables.markdown_row(["arm", "beside", *COLUMNS]),
        tables.markdown_row(["---", "---", *("---:" for _ in COLUMNS)]),
        *(
            tables.markdown_row(
                [*map(tables.markdown_code, (found.arm, found.reference)), *cells(found)]
            )
            for found in judgement.comparisons
        ),
        "",
        *(f"- *{name}*: {tables.markdown_text(said)}." for name, said in EXPLAINED),
    ]
    if all_pairs:
        lines += [
            "",
            "## All pairs",
            "",
            pairs_note(results),
            "",
            tables.markdown_row(["arm", "beside", "difference", "verdict"]),
            tables.markdown_row(["---", "---", "---:", "---"]),
            *(
                tables.markdown_row([tables.markdown_code(a), tables.markdown_code(b), *rest])
                for a, b, *rest in pairs(results)
            ),
        ]
    return "\n".join(lines) + "\n"


def latex(results: Results) -> str:
    r"""comparisons.tex: a ``tabular`` that stands alone, notes in comments."""
    judgement = judged(results)
    shown = (0, 1, 2, 4, 5, 7)
    heads = [COLUMNS[index] for index in shown]
    title = tables.one_line(str(results.question.get("title") or results.folder.name))
    notes = [
        f"Differences in points of test accuracy, margin {margin(judgement.rule.margin)}.",
        *(f"{name}: {said}." for name, said in EXPLAINED if any(name in head for head in heads)),
    ]
    lines = [
        f"% {title}",
        r"% Needs \usepackage{booktabs} in the preamble.",
        *(f"% {tables.one_line(note)}" for note in notes),
        rf"\begin{{tabular}}{{ll{'r' * len(heads)}}}",
        r"\toprule",
        " & ".join(["arm", "beside", *map(tables.latex_text, heads)]) + r" \\",
        r"\midrule",
    ]
    for found in judgement.comparisons:
        every = cells(found)
        shown_cells = (tables.latex_cell(tables.latex_text(every[index])) for index in shown)
        names = map(tables.latex_text, (found.arm, found.reference))
        lines.append(" & ".join([*names, *shown_cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


CSV = (
    "arm", "reference", "seeds", "mean", "sd", "low", "high", "level", "unadjusted_low",
    "unadjusted_high", "images_low", "images_high", "both_low", "both_high", "margin", "verdict",
    "withheld", "arm_lost", "reference_lost", "correlation", "visible",
)  # fmt: skip


def comparisons_csv(results: Results) -> str:
    """comparisons.csv: every number in full precision, differences as shares of 1."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV, lineterminator="\n")
    writer.writeheader()
    for found in judged(results).comparisons:
        row: dict[str, Any] = {
            "arm": found.arm,
            "reference": found.reference,
            "level": found.level,
            "margin": found.margin,
            "verdict": str(found.verdict),
            "withheld": found.withheld,
            "arm_lost": len(found.lost[0]),
            "reference_lost": len(found.lost[1]),
            "correlation": found.correlation,
            "visible": found.visible,
        }
        if found.difference is not None:
            row["seeds"] = len(found.difference.seeds)
            row["mean"], row["sd"] = found.difference.mean, found.difference.sd
        for name, interval in (
            ("", found.interval),
            ("unadjusted_", found.unadjusted),
            ("images_", found.images.interval if found.images else None),
            ("both_", found.both),
        ):
            if interval is not None:
                row[f"{name}low"], row[f"{name}high"] = interval.low, interval.high
        writer.writerow(row)
    return buffer.getvalue()


def _object(names: dict[str, str]) -> str:
    """A JavaScript object of plain text, for an expression."""
    import json

    return json.dumps(names)


def _label(judgement: Judgement) -> str:
    """The chart in words, for those who do not see it."""
    said = [
        f"{found.arm}: {signed(found.difference.mean)}"
        + (f", interval {bracket(found.interval)}, {found.verdict}" if found.interval else "")
        for found in judgement.comparisons
        if found.difference is not None
    ]
    beside = listed(list(dict.fromkeys(found.reference for found in judgement.comparisons)))
    return f"Difference in test accuracy to {beside} in points. {'; '.join(said)}."
