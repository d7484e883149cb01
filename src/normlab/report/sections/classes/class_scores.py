"""F1 of every class: table, chart, and which class is the hardest."""

from __future__ import annotations

from dataclasses import dataclass

from ....pages.tables import Cell, Column, Table
from ....pages.words import shortened
from ....results import Answers, Results, Spread, answers, class_f1
from ...styles import styles
from ...vega import LIGHT, Spec, chart, shape
from ..scores import spread_text
from .matrix import told


@dataclass(frozen=True)
class Hardness:
    """How hard the classes are.

    Attributes:
        least: for every class, in how many arms its F1 is the lowest. Where all F1 of an arm
            are equal, none is.
        hard: the classes for which that is so most often; none where all F1 are equal.
        says: that in a sentence.
    """

    least: tuple[int, ...]
    hard: frozenset[int]
    says: str


def spreads(results: Results) -> dict[str, list[Spread | None]]:
    """Of every arm with predictions F1 by class over its seeds."""
    return results.once(
        "f1-by-class", lambda: {arm: class_f1(results, arm) for arm in told(answers(results))}
    )


def hardness(results: Results) -> Hardness:
    """Which class most arms find the hardest."""
    names = answers(results).classes
    means = _means(results)
    low, high = _ends(means)
    least = tuple(
        sum(of_arm[index] == min(of_arm) < max(of_arm) for of_arm in means.values())
        for index in range(len(names))
    )
    most = max(least)
    hard = [index for index, count in enumerate(least) if count == most]
    arms = len(means)
    every = "both arms" if arms == 2 else f"all {arms} arms"
    all_arms = every if most == arms else f"{most} of the {arms} arms"
    where = "in the one arm" if arms == 1 else f"in {all_arms}"
    named = [names[index] for index in hard]
    if high == low:
        return Hardness(least, frozenset(), "Every class has the same F1 in every arm.")
    if not most:
        return Hardness(least, frozenset(), "In each arm, every class has the same F1.")
    if len(hard) == 1:
        says = f"{named[0]} is the hardest class: its F1 is the lowest {where}."
    else:
        says = f"The hardest classes are {shortened(named)}: the F1 of each is the lowest {where}."
    return Hardness(least, frozenset(hard), says)


def page_table(results: Results) -> Table:
    """Classes by arms for the page: low values are shaded, the lowest of an arm is framed."""
    found, means, columns = hardness(results), _means(results), spreads(results)
    low, high = _ends(means)
    arms = list(columns)

    def cell(arm: str, index: int) -> Cell:
        value, spread = means[arm][index], columns[arm][index]
        shade = round((high - value) / (high - low), 3) if high > low else 0
        sd = None if spread is None else spread.sd
        return Cell(
            f"{100 * value:.1f}",
            small="" if sd is None else f"± {100 * sd:.1f}",
            attributes={
                "class": "least" if value == min(means[arm]) < max(means[arm]) else "",
                "style": f"--shade:{shade}",
            },
        )

    def lowest(index: int) -> Cell:
        count = found.least[index]
        said = f"{count} arm{'' if count == 1 else 's'}" if count else ""
        return Cell(said, "text", attributes={"class": "hard" if index in found.hard else ""})

    def name(index: int, text: str) -> Cell:
        return Cell(text, "text", attributes={"class": "hard" if index in found.hard else ""})

    several = len(arms) > 1
    return Table(
        (
            Column("class", "left"),
            *(Column(arm, kind="name") for arm in arms),
            *([Column("lowest in", "left")] if several else []),
        ),
        tuple(
            (
                name(index, text),
                *(cell(arm, index) for arm in arms),
                *([lowest(index)] if several else []),
            )
            for index, text in enumerate(answers(results).classes)
        ),
        caption=f"Percent, on the test images: {_over_seeds(answers(results))}",
    )


def f1_table(results: Results) -> Table:
    """Classes by arms, mean and standard deviation."""
    found, columns = answers(results), spreads(results)
    return Table(
        (Column("class", "left"), *(Column(arm, kind="name") for arm in columns)),
        tuple(
            (Cell(name, "text"), *(Cell(spread_text(columns[arm][k])) for arm in columns))
            for k, name in enumerate(found.classes)
        ),
        title="F1 by class",
        notes=(
            f"Percent, on the test images: {_over_seeds(found)}",
            *(f"Left out: {said}" for said in found.left_out),
        ),
    )


def f1_spec(results: Results) -> Spec:
    """F1 of every class, one point per arm, with its standard deviation over the seeds."""
    columns = spreads(results)
    arms, classes = list(columns), list(answers(results).classes)
    values = []
    for arm in arms:
        for name, spread in zip(classes, columns[arm], strict=True):
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
    apart = len(arms) <= 8
    legend = {"title": None, "labelLimit": 260, "symbolOpacity": 1}
    position: Spec = {
        "y": {
            "field": "class", "type": "nominal", "title": None, "sort": None,
            "scale": {"domain": classes, "padding": 0.25},
            "axis": {"grid": False, "ticks": False, "labelLimit": 220},
        },
        "color": {
            "field": "arm", "type": "nominal",
            "scale": {"domain": arms, "range": [styles(results)[arm].light for arm in arms]},
            "legend": legend,
        },
    }  # fmt: skip
    if apart:
        position["yOffset"] = {
            "field": "arm", "type": "nominal", "scale": {"domain": arms, "padding": 0.5},
        }  # fmt: skip
    x: Spec = {
        "type": "quantitative", "title": "F1 on the test images (%)", "scale": {"zero": False},
        "axis": {"labelFlush": False},
    }  # fmt: skip
    return chart(
        {
            "data": {"values": values},
            "params": [],
            "width": 420,
            "height": len(classes) * (max(20, 7 * len(arms) + 8) if apart else 18),
            "background": LIGHT["ground"],
            "layer": [
                {
                    "mark": {"type": "rule", "strokeOpacity": 0.55},
                    "encoding": {**position, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 44, "opacity": 1},
                    "encoding": {
                        **position,
                        "x": {**x, "field": "value"},
                        "shape": shape(arms, legend),
                    },
                },
            ],
        },
        results,
    )


def _means(results: Results) -> dict[str, list[float]]:
    return {
        arm: [spread.mean if spread else 0.0 for spread in of_arm]
        for arm, of_arm in spreads(results).items()
    }


def _ends(means: dict[str, list[float]]) -> tuple[float, float]:
    every = [value for of_arm in means.values() for value in of_arm]
    return min(every), max(every)


def _over_seeds(found: Answers) -> str:
    several = any(len(seeds) > 1 for seeds in found.of_arm.values())
    if found.folds > 1:
        each = f"the {found.folds} runs of a repetition together predict all images"
        over = "mean ± sample standard deviation over the repetitions of an arm" if several else (
            "one repetition of each arm"
        )  # fmt: skip
        return f"{each}; {over}."
    if several:
        return "mean ± sample standard deviation over the seeds of an arm."
    return "the one run of each arm."
