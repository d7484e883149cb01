"""Curves by epoch: one definition for page and paper."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....results import Results, Run
from ....runs import METRICS
from ...styles import families, styles
from ...vega import NEAR, Bounds, Figure, Spec, chart, colour, domain, parameters, render, ticks

QUANTITIES = ("loss", *METRICS)
SPLITS = {"train": "train_running", "val": "val"}
"""Split of a chart to its name in history.csv: training curves are the running ones."""
TITLES = {
    "loss": "loss",
    "accuracy": "accuracy (%)",
    "micro_f1": "micro F1 (%)",
    "macro_f1": "macro F1 (%)",
}
SPLIT_TITLES = {"train": "Training", "val": "Validation"}
LOSS_CEILING = 3.0
"""The loss axis ends at this many times the loss that 95 % of all epochs stay below, so that a
run on its way to infinity does not flatten all others."""
DOTS_UP_TO = 12
"""Epochs are marked by dots in charts of no more epochs than this."""


@dataclass(frozen=True)
class Line:
    """A curve of one run, or an arm's mean.

    Attributes:
        arm: whose.
        seed: which run, or None for the mean.
        cut: whether the run ended before its last epoch.
        epochs: the epochs there are.
        values: split and quantity to one value per epoch, None where it is not finite. Shares are
            in percent.
    """

    arm: str
    seed: int | None
    cut: bool
    epochs: tuple[int, ...]
    values: Mapping[tuple[str, str], tuple[float | None, ...]]


def lines(results: Results) -> list[Line]:
    """Every run's curves, and each arm's mean.

    The mean is over the complete runs, as in the table, and goes as far as all of them (patience
    may have ended one before another), so that it does not jump where a run ends; where an arm
    has no complete run, it is over the runs that got as far.
    """
    return results.once("curves", lambda: _lines(results))


def _lines(results: Results) -> list[Line]:
    found = []
    for arm in results.arms:
        runs = [run for run in results.of_arm(arm) if run.history]
        own = [_line(run) for run in runs]
        if own:
            whole = [line for line in own if not line.cut]
            found += [*own, _mean(arm, whole, together=True) if whole else _mean(arm, own)]
    return found


def extents(drawn: Sequence[Line]) -> dict[str, dict[str, Bounds]]:
    """Lowest and highest value of every quantity and arm over both splits: training and
    validation share an axis."""
    ceiling = _loss_ceiling(drawn)
    found: dict[str, dict[str, Bounds]] = {}
    for quantity in QUANTITIES:
        for line in drawn:
            values = [v for s in SPLITS for v in line.values[s, quantity] if v is not None]
            if quantity == "loss":
                values = [min(v, ceiling) for v in values]
            if values:
                of_quantity = found.setdefault(quantity, {})
                low, high = of_quantity.get(line.arm, (math.inf, -math.inf))
                of_quantity[line.arm] = (min(low, *values), max(high, *values))
    return found


def loss_is_cut(drawn: Sequence[Line]) -> float | None:
    """Where the loss axis ends below a value that was reached, else None."""
    ceiling = _loss_ceiling(drawn)
    over = any(
        v is not None and v > ceiling
        for line in drawn
        for s in SPLITS
        for v in line.values[s, "loss"]
    )
    return ceiling if over else None


def rows(drawn: Sequence[Line], split: str, quantity: str) -> list[dict[str, Any]]:
    """The data of one chart: one row per point."""
    found = []
    for line in drawn:
        points = [
            (epoch, value)
            for epoch, value in zip(line.epochs, line.values[split, quantity], strict=True)
            if value is not None
        ]
        for index, (epoch, value) in enumerate(points):
            found.append(
                {
                    "arm": line.arm,
                    "line": f"{line.arm} {'mean' if line.seed is None else line.seed}",
                    "mean": line.seed is None,
                    "end": line.cut and line.seed is not None and index == len(points) - 1,
                    "epoch": epoch,
                    "value": value,
                }
            )
    return found


def curve_spec(results: Results, epochs: int) -> Spec:
    """A chart by epoch without its data: ``data("curves")`` takes :func:`rows`, and the parameters
    ``low`` and ``high`` the axis. The parameter ``focus`` names an arm to bring forward. Values
    outside the axis are drawn at its end."""
    colours = colour(results)
    dash = {
        "field": "arm",
        "type": "nominal",
        "scale": {
            "domain": list(results.arms),
            "range": [list(style.dash) or [1, 0] for style in styles(results).values()],
        },
    }
    position = {
        "x": {
            "field": "epoch",
            "type": "quantitative",
            "title": "epoch",
            "scale": {"domain": [1, epochs] if epochs > 1 else [0.5, 1.5], "nice": False},
            "axis": {"values": ticks(epochs), "format": "d", "grid": False, "labelFlush": False},
        },
        "y": {
            "field": "value",
            "type": "quantitative",
            "title": None,
            "scale": {
                "domain": [{"expr": "low"}, {"expr": "high"}],
                "nice": True,
                "zero": False,
                "clamp": True,
            },
            "axis": {"tickCount": 5},
        },
    }

    def layer(mark: Spec, only: str, strength: Spec, **encoding: Any) -> Spec:
        # The opacity of a stroke or a filling is drawn directly, that of a whole mark through a
        # buffer of its own, which takes the figures seconds; so would clipping.
        channel = "fillOpacity" if mark.get("filled") else "strokeOpacity"
        return {
            "transform": [{"filter": only}],
            "mark": {"opacity": 1, **mark},
            "encoding": {**position, "color": colours, channel: strength, **encoding},
        }

    faint = {"condition": {"test": NEAR, "value": 0.38}, "value": 0.06}
    full = {"condition": {"test": NEAR, "value": 1}, "value": 0.16}
    line = {"field": "line", "type": "nominal"}
    cross = "M-1,-1L1,1M-1,1L1,-1"
    layers = [
        layer({"type": "line", "strokeWidth": 1}, "!datum.mean", faint, detail=line),
        layer({"type": "line", "strokeWidth": 2}, "datum.mean", full, detail=line, strokeDash=dash),
        layer(
            {"type": "point", "shape": cross, "size": 36, "strokeWidth": 1.75, "filled": False},
            "datum.end",
            full,
        ),
        layer(
            {"type": "point", "filled": True, "size": 70},
            "datum.mean && datum.arm === focus && datum.epoch === focus_epoch",
            {"value": 1},
        ),
    ]
    if epochs <= DOTS_UP_TO:
        layers.append(layer({"type": "point", "filled": True, "size": 16}, "datum.mean", full))
    return chart(
        {
            "data": {"name": "curves", "values": []},
            "params": parameters(),
            "layer": layers,
        },
        results,
    )


def figures(results: Results) -> dict[str, Figure]:
    """Name to SVG and PNG of every chart, on white, with a legend."""
    drawn = lines(results)
    bounds = extents(drawn)
    epochs = last_epoch(results)
    made = {}
    # All arms in one chart, then each layer's by themselves.
    groups = {"": list(results.arms), **{f"-{k}": v for k, v in families(results).items()}}
    for quantity in QUANTITIES:
        for suffix, members in groups.items():
            of_group = results.only(members)
            axis = domain({a: b for a, b in bounds.get(quantity, {}).items() if a in members})
            for split in SPLITS:
                spec = curve_spec(of_group, epochs)
                spec["data"]["values"] = rows(
                    [x for x in drawn if x.arm in members], split, quantity
                )
                title = f"{SPLIT_TITLES[split]} {TITLES[quantity]}"
                group = suffix.replace(":", ",").replace(" ", "-")
                name = f"{quantity.replace('_', '-')}-{split}{group}"
                made[name] = render(spec, axis, title)
    return made


def last_epoch(results: Results) -> int:
    """The highest epoch of any run, or 1."""
    return max((int(row["epoch"]) for run in results.runs for row in run.history), default=1)


def _line(run: Run) -> Line:
    by_split = {
        split: {int(row["epoch"]): row for row in run.history if row["split"] == name}
        for split, name in SPLITS.items()
    }
    epochs = sorted({epoch for found in by_split.values() for epoch in found})
    return Line(
        run.arm,
        run.seed,
        not run.complete,
        tuple(epochs),
        {
            (split, quantity): tuple(
                _value(found[epoch], quantity) if epoch in found else None for epoch in epochs
            )
            for split, found in by_split.items()
            for quantity in QUANTITIES
        },
    )


def _value(row: Mapping[str, Any], quantity: str) -> float | None:
    value = row.get(quantity)
    if value is None or not math.isfinite(value):
        return None
    return float(value) if quantity == "loss" else 100 * float(value)


def _mean(arm: str, own: Sequence[Line], *, together: bool = False) -> Line:
    epochs = sorted({epoch for line in own for epoch in line.epochs})
    if together:
        epochs = [epoch for epoch in epochs if all(epoch in line.epochs for line in own)]

    def over(key: tuple[str, str]) -> Iterator[float | None]:
        for epoch in epochs:
            values = [
                line.values[key][line.epochs.index(epoch)] for line in own if epoch in line.epochs
            ]
            finite = [value for value in values if value is not None]
            yield statistics.fmean(finite) if finite else None

    keys = [(split, quantity) for split in SPLITS for quantity in QUANTITIES]
    return Line(arm, None, False, tuple(epochs), {key: tuple(over(key)) for key in keys})


def _loss_ceiling(drawn: Sequence[Line]) -> float:
    """Over complete runs where there are some."""
    seeds = [line for line in drawn if line.seed is not None]
    whole = [line for line in seeds if not line.cut] or seeds
    values = sorted(
        v for line in whole for s in SPLITS for v in line.values[s, "loss"] if v is not None
    )
    if not values:
        return math.inf
    return _round_up(LOSS_CEILING * values[min(len(values) - 1, int(0.95 * len(values)))])


def _round_up(value: float) -> float:
    """To a number at which an axis from 0 ends without being lengthened."""
    if value <= 0:
        return 1.0
    unit: float = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 2, 3, 4, 5, 6, 8, 10, 20) if unit * step >= value)
