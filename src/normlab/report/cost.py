"""Cost beside accuracy: what a training step of each arm takes in time and memory."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from ..pages.words import NO_VALUE
from ..results import Results, Run, Spread
from ..runs import RUNNING
from . import tables
from .charts import LIGHT, Spec, chart, colour, files, for_page
from .classes import SHAPES

FIGURE = "accuracy-by-cost"
MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What an arm's complete runs took; None where they do not tell.

    Attributes:
        arm: whose.
        accuracy: on the test images, a share of 1.
        step: time of a training step in milliseconds, a value a run.
        relative: ``step`` divided by that of the reference arm, both means.
        parameters: of the network.
        kept: bytes that autograd keeps for the backward pass of a batch.
        peak: bytes that tensors held on a GPU at most during an epoch.
    """

    arm: str
    accuracy: Spread | None
    step: Spread | None
    relative: float | None
    parameters: int | None
    kept: int | None
    peak: int | None


def costs(results: Results, reference: str | None = None) -> list[Cost]:
    """One an arm, in the order asked.

    Args:
        results: the study.
        reference: the arm whose time is 1; the first by default.
    """
    steps = {arm: _of_steps(results, arm) for arm in results.arms}
    base = steps.get(reference or results.arms[0])
    found = []
    for arm in results.arms:
        runs, step = [run for run in results.of_arm(arm) if run.complete], steps[arm]
        memory = [run.record.get("memory") or {} for run in runs]
        found.append(
            Cost(
                arm,
                results.spread(arm, "test", "accuracy"),
                step,
                step.mean / base.mean if step and base else None,
                _largest([run.record.get("parameters") for run in runs]),
                _largest([held.get("kept_for_backward") for held in memory]),
                _largest([held.get("peak") for held in memory]),
            )
        )
    return found


def step_milliseconds(run: Run) -> float | None:
    """Time of a training step of a run; None where its record does not tell.

    The seconds of training in the run's median epoch (rows ``train_running`` of history.csv,
    evaluation left out) divided by the updates of an epoch. The first epoch of a process is slower
    than the others, and one that shared the machine with something else is too.
    """
    seconds = [float(row["seconds"]) for row in run.history if row["split"] == RUNNING]
    steps, epochs = run.record.get("steps_done"), run.record.get("epochs_done")
    if not seconds or not steps or not epochs:
        return None
    value = 1000 * statistics.median(seconds) / (steps / epochs)
    return value if value > 0 else None


def context(results: Results, reference: str | None = None) -> dict[str, Any]:
    """What the section says."""
    found = costs(results, reference)
    return {
        "heads": _heads(found, _reference(results, reference)),
        "rows": [(tables.breakable(cost.arm), _cells(cost, found)) for cost in found],
        "notes": notes(results),
        "label": _label(rows(results)),
        "file": f"figures/{FIGURE}",
    }


def payload(results: Results) -> dict[str, Any] | None:
    """What the section's script draws; None where no run tells its time."""
    found = rows(results)
    if not found:
        return None
    return {"rows": found, "bounds": bounds(found), "spec": for_page(spec(results))}


def rows(results: Results) -> list[dict[str, Any]]:
    """A point an arm: time of a step ``x`` and test accuracy ``y`` in percent, each with one
    standard deviation to either side."""
    found = []
    for cost in costs(results):
        if cost.step is None or cost.accuracy is None:
            continue
        dx, dy = cost.step.sd or 0.0, 100 * (cost.accuracy.sd or 0.0)
        x, y = cost.step.mean, 100 * cost.accuracy.mean
        found.append(
            {
                "arm": cost.arm, "x": x, "x_low": x - dx, "x_high": x + dx,
                "y": y, "y_low": y - dy, "y_high": y + dy, "runs": cost.step.n,
            }
        )  # fmt: skip
    return found


def bounds(found: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """The axes of these rows: times from 0, so that twice as far is twice as slow."""
    low, high = min(row["y_low"] for row in found), max(row["y_high"] for row in found)
    return {
        "x": (0.0, 1.12 * max(row["x_high"] for row in found)),
        "y": (low, high) if high > low else (low - 1, high + (1 if high < 99.5 else 0)),
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
    # An arm a name, in as many columns as a phone has room for: a number that followed the width
    # would be laid out too late and cut off.
    longest = max(map(len, results.arms))
    legend = {
        "title": None, "orient": "top", "labelLimit": 200, "symbolOpacity": 1, "symbolSize": 80,
        "columns": max(1, 320 // (7 * min(longest, 28) + 36)),
    }  # fmt: skip
    hue = {**colour(results), "legend": legend}
    at = {"x": {**x, "field": "x"}, "y": {**y, "field": "y"}, "color": hue}
    bar = {"type": "rule", "strokeWidth": 1.5, "strokeOpacity": 0.6}
    shape = {
        "field": "arm", "type": "nominal", "legend": legend,
        "scale": {"domain": list(results.arms),
                  "range": [SHAPES[i % len(SHAPES)] for i in range(len(results.arms))]},
    }  # fmt: skip
    layers: list[Spec] = [
        {"mark": bar, "encoding": {**at, "x": {**x, "field": "x_low"}, "x2": {"field": "x_high"}}},
        {"mark": bar, "encoding": {**at, "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}}},
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {**at, "shape": shape},
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


def figures(results: Results) -> dict[str, tuple[str, bytes]]:
    """Name to SVG and PNG of the chart; none where no run tells its time."""
    found = rows(results)
    if not found:
        return {}
    drawn = {**spec(results), "width": 460, "background": LIGHT["ground"]}
    drawn["data"]["values"] = found
    return {FIGURE: files(drawn)}


def notes(results: Results) -> list[str]:
    """What a reader of the table has to know, in plain sentences."""
    said = [
        f"Times are as measured during the study{_beside(results)}: the median epoch of a "
        "run without its evaluation."
    ]
    norms = {str(fields.get("norm", arm)) for arm, fields in results.question["arms"].items()}
    if any(norm.startswith("torch_bn") for norm in norms) and len(norms) > 1:
        said.append(
            "torch_bn is one fused operation, the other layers are written from scratch in "
            "PyTorch's operations: between those two kinds a difference in speed comes from the "
            "implementation, not from the method."
        )
    else:
        said.append(
            "A layer written from scratch and one that is a single fused operation differ in "
            "speed for reasons of implementation, not of method."
        )
    said.append(
        "Memory is what autograd keeps between the forward and the backward pass of one batch, "
        "each storage once, parameters and buffers not counted."
    )
    if any(cost.kept is None for cost in costs(results)):
        said.append(f"{NO_VALUE}: the runs of that arm did not record it.")
    if any(cost.peak is not None for cost in costs(results)):
        said.append(
            "The peak is the most memory that tensors held on the GPU during an epoch; images "
            "that lie there, weights and the optimizer are in it."
        )
    return said


def markdown(results: Results, reference: str | None = None) -> str:
    """The table of costs as a section of results.md."""
    found = costs(results, reference)
    heads = _heads(found, _reference(results, reference))
    lines = [
        "",
        "## Cost beside accuracy",
        "",
        tables.markdown_row(["arm", *(tables.markdown_text(head) for head in heads)]),
        tables.markdown_row(["---", *("---:" for _ in heads)]),
        *(
            tables.markdown_row([tables.markdown_code(cost.arm), *_cells(cost, found)])
            for cost in found
        ),
        "",
        *(f"- {tables.markdown_text(note)}" for note in notes(results)),
    ]
    return "\n".join(lines) + "\n"


def latex(results: Results, reference: str | None = None) -> str:
    r"""cost.tex: the table as a LaTeX ``tabular`` that stands alone, notes in comments."""
    found = costs(results, reference)
    heads = _heads(found, _reference(results, reference))
    title = tables.one_line(str(results.question.get("title") or results.folder.name))
    lines = [
        f"% {title}: cost beside accuracy",
        r"% Needs \usepackage{booktabs} in the preamble.",
        *(f"% {tables.one_line(note)}" for note in notes(results)),
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"\toprule",
        " & ".join(["arm", *map(tables.latex_text, heads)]) + r" \\",
        r"\midrule",
        *(
            " & ".join([tables.latex_text(cost.arm), *map(_latex_cell, _cells(cost, found))])
            + r" \\"
            for cost in found
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(text: str) -> str:
    return tables.latex_cell(text).replace("×", r"$\times$")


def _reference(results: Results, reference: str | None) -> str:
    return reference or results.arms[0]


def _heads(found: list[Cost], reference: str) -> list[str]:
    heads = ["test accuracy (%)", "ms a step", f"time against {reference}", "parameters"]
    heads.append("kept for backward (MiB)")
    return [*heads, "peak on the GPU (MiB)"] if any(c.peak is not None for c in found) else heads


def _cells(cost: Cost, found: list[Cost]) -> list[str]:
    cells = [
        tables.cell(cost.accuracy),
        _milliseconds(cost.step, found),
        NO_VALUE if cost.relative is None else f"{cost.relative:.2f} ×",
        NO_VALUE if cost.parameters is None else f"{cost.parameters:,}",
        _mebibytes(cost.kept),
    ]
    return [*cells, _mebibytes(cost.peak)] if any(c.peak is not None for c in found) else cells


def _milliseconds(spread: Spread | None, found: list[Cost]) -> str:
    """With as many digits after the point as the shortest time of the table needs."""
    if spread is None:
        return NO_VALUE
    shortest = min(cost.step.mean for cost in found if cost.step is not None)
    places = 1 if shortest >= 10 else 2
    mean = f"{spread.mean:.{places}f}"
    return mean if spread.sd is None else f"{mean} ± {spread.sd:.{places}f}"


def _mebibytes(count: int | None) -> str:
    if count is None:
        return NO_VALUE
    value = count / MIB
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _of_steps(results: Results, arm: str) -> Spread | None:
    times = [step_milliseconds(run) for run in results.of_arm(arm) if run.complete]
    return Spread.of([time for time in times if time is not None])


def _largest(values: list[Any]) -> int | None:
    there = [int(value) for value in values if value is not None]
    return max(there, default=None)


def _beside(results: Results) -> str:
    """ ", with 2 processes side by side", as far as the runs tell."""
    told = sorted({int(run.record.get("side_by_side") or 0) for run in results.runs} - {0})
    if not told:
        return ", beside whatever else the machine did"
    if told == [1]:
        return ", with one run at a time"
    many = str(told[0]) if len(told) == 1 else f"{told[0]} to {told[-1]}"
    return f", with {many} processes side by side"


def _label(found: list[dict[str, Any]]) -> str:
    """The chart in words, for those who do not see it; empty where there is none."""
    if not found:
        return ""
    said = [f"{row['arm']}: {row['y']:.1f} % at {row['x']:.3g} ms" for row in found]
    return f"Test accuracy against time of a training step, a point an arm. {'; '.join(said)}."
