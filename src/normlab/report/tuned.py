"""The arms at one shared value of a setting and at values chosen for each, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from ..pages.words import NO_VALUE, counted, duration, listed
from ..results import Results, Tuning, read_tunings
from ..results.statistics import Judgement, Verdict
from . import tables, value_charts
from .answer import judged
from .charts import Spec, for_page, render
from .numbers import with_interval
from .value_charts import TITLES

HEADS = ("difference", "verdict")
FAR = 5.0


def title(tuning: Tuning) -> str:
    """The setting as people say it: "learning rate"."""
    name = tuning.search.field
    return TITLES.get(name, name.replace("_", " "))


def sentences(results: Results, tuning: Tuning) -> list[str]:
    """What was tried, what it cost, what was chosen, and whether a verdict differs."""
    search = tuning.search
    trials = tuning.trials.runs
    said = [
        f"Every arm was tried at the same {len(tuning.values)} values of the {title(tuning)} "
        f"({_listed(tuning.values)}) with the same {_seeds(search.seeds)}, which the study itself "
        "does not use. The value with the highest mean validation accuracy was chosen; trials do "
        "not read the test split."
    ]
    added = [value for value in tuning.values if value not in search.values]
    if added:
        said.append(
            f"The grid began as {_listed(search.values)}. Where the best value of an arm lay at an "
            f"edge it grew for all arms, by {_listed(added)}."
        )
    if tuning.record.limit:
        said.append(f"{tuning.record.limit[0].upper()}{tuning.record.limit[1:]}.")
    said += [
        f"{choice.arm} diverged in every trial and is shown at the shared value."
        for choice in tuning.choices
        if choice.failed
    ]
    lost = sum(run.status.startswith("diverged") for run in trials)
    if lost:
        said.append(
            f"{lost} of the {len(trials)} trials diverged; a value at which one did is not chosen "
            "while there is another."
        )
    own = sum(float(run.record.get("seconds", 0)) for run in results.runs)
    beside = f", {tuning.seconds / own:.1f} times that of the study's own runs" if own else ""
    said.append(
        f"The cost of tuning: {counted(len(trials), 'trial')}, {duration(tuning.seconds)} of "
        f"training{beside}."
    )
    said.append(_changes(results, tuning))
    return said


def terminal_lines(results: Results) -> list[str]:
    """For a terminal: what was chosen, and whether a verdict differs."""
    said = []
    for tuning in read_tunings(results):
        chosen = listed([f"{choice.arm} {_value(choice.value)}" for choice in tuning.choices])
        said.append(f"Tuned {title(tuning)}: {chosen}. {_changes(results, tuning)}")
    return said


def context(results: Results) -> list[dict[str, Any]]:
    """What the sections say, one a tuned setting."""
    found = []
    for tuning in read_tunings(results):
        name = figure(tuning)
        found.append(
            {
                "id": tuning.search.field,
                "title": title(tuning),
                "field": tuning.search.field,
                "shared": _value(tuning.search.shared),
                "says": sentences(results, tuning),
                "rows": [(tables.breakable(arm), *cells) for arm, *cells in rows(results, tuning)],
                "chart": name if charted(tuning) else None,
                "label": _label(tuning),
                "cut": cut(tuning) if charted(tuning) else None,
                "file": f"figures/{name}",
                "table": f"{name}.tex",
            }
        )
    return found


def rows(results: Results, tuning: Tuning) -> list[tuple[str, ...]]:
    """A row an arm: test accuracy, difference and verdict at the shared value; the chosen value;
    the same three at that."""
    shared = judged(results)
    found: list[tuple[str, ...]] = []
    for arm in results.arms:
        choice = tuning.choice(arm)
        if choice is None:
            continue
        found.append(
            (
                arm,
                tables.cell(results.spread(arm, "test", "accuracy")),
                *_judged(shared, arm),
                _value(choice.value),
                tables.cell(tuning.tuned.spread(choice.name, "test", "accuracy")),
                *_judged(tuning.judgement, choice.name),
            )
        )
    return found


def charted(tuning: Tuning) -> bool:
    """Whether the values are numbers and a trial ended with one."""
    return bool(points(tuning)) and tuning.search.ordered


def points(tuning: Tuning) -> list[dict[str, Any]]:
    """Validation accuracy of every trial in percent, means with whether they were chosen; ``arm``
    is the study's."""
    home = {
        name: choice.arm
        for choice in tuning.choices
        for name in tuning.trials.arms
        if name.startswith(f"{choice.arm},{tuning.search.field}=")
    }
    chosen = {choice.name for choice in tuning.choices if not choice.failed}
    return [
        {**row, "arm": home[row["arm"]], "chosen": row["mean"] and row["arm"] in chosen}
        for row in value_charts.rows(tuning.trials, tuning.search.field, "val")
    ]


def spec(tuning: Tuning) -> Spec:
    """The chart without its data: ``data("values")`` takes :func:`points`. A ring marks the value
    that was chosen."""
    made = value_charts.spec(tuning.trials, tuning.search.field, "val")
    position = made["layer"][1]["encoding"]
    for layer in made["layer"]:
        scale = {**layer["encoding"]["y"]["scale"], "clamp": True}
        layer["encoding"]["y"] = {**layer["encoding"]["y"], "scale": scale}
    made["layer"].append(
        {
            "transform": [{"filter": "datum.chosen"}],
            "mark": {
                "type": "point", "filled": False, "size": 190, "strokeWidth": 2, "opacity": 1,
            },
            "encoding": position,
        }
    )  # fmt: skip
    return made


def payload(results: Results) -> list[dict[str, Any]]:
    """What the sections' script draws."""
    found = []
    for tuning in read_tunings(results):
        if not charted(tuning):
            continue
        drawn = points(tuning)
        low, high = bounds(drawn)
        lines = value_charts.lines(tuning.trials, tuning.search.field)
        found.append(
            {
                "name": figure(tuning),
                "field": tuning.search.field,
                "rows": drawn,
                "low": low,
                "high": high,
                "lines": [{"light": style.light, "dark": style.dark} for style in lines.values()],
                "spec": for_page(spec(tuning)),
            }
        )
    return found


def bounds(found: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The axis of these rows. Values that lie far below the others (a rate at which nothing is
    learned) do not stretch it: more than ``FAR`` times the quartiles' distance below the median."""
    low, high = value_charts.bounds(list(found))
    values = sorted(row["value"] for row in found)
    if len(values) > 3:
        lower, median, upper = statistics.quantiles(values, n=4)
        near = [value for value in values if value >= median - FAR * (upper - lower)]
        low = min(near)
    return (low, high) if high > low else (low - 1, high)


def cut(tuning: Tuning) -> float | None:
    """Where the axis ends above a value that was reached, else None."""
    found = points(tuning)
    low = bounds(found)[0]
    return low if any(row["value"] < low for row in found) else None


def figures(results: Results) -> dict[str, tuple[str, bytes]]:
    """Name to SVG and PNG of the chart of every tuned setting."""
    made = {}
    for tuning in read_tunings(results):
        if charted(tuning):
            drawn, found = spec(tuning), points(tuning)
            drawn["data"]["values"] = found
            made[figure(tuning)] = render(drawn, *bounds(found))
    return made


def figure(tuning: Tuning) -> str:
    """The name of its figure and table."""
    return f"tuning-{tuning.search.field.replace('_', '-')}"


def markdown(results: Results) -> str:
    """A section of results.md for every tuned setting, or nothing."""
    parts = []
    for tuning in read_tunings(results):
        heads = _heads(tuning)
        lines = [
            "",
            f"## Shared and tuned: {title(tuning)}",
            "",
            *(f"{tables.markdown_text(said)}\n" for said in sentences(results, tuning)),
            tables.markdown_row(heads),
            tables.markdown_row(["---", *("---:" for _ in heads[1:])]),
            *(
                tables.markdown_row([tables.markdown_code(arm), *cells])
                for arm, *cells in rows(results, tuning)
            ),
        ]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def latex(results: Results) -> dict[str, str]:
    """File name to a booktabs ``tabular`` for every tuned setting."""
    made = {}
    for tuning in read_tunings(results):
        name = tuning.search.field
        lines = [
            f"% Shared and tuned: {title(tuning)}",
            r"% Needs \usepackage{booktabs} in the preamble.",
            *(f"% {said}" for said in sentences(results, tuning)),
            r"\begin{tabular}{lrrlrrrl}",
            r"\toprule",
            rf" & \multicolumn{{3}}{{c}}{{shared, {tables.latex_text(name)} = "
            rf"{_value(tuning.search.shared)}}} & \multicolumn{{4}}{{c}}{{tuned}} \\",
            r"\cmidrule(lr){2-4} \cmidrule(lr){5-8}",
            rf"arm & test accuracy & difference & verdict & {tables.latex_text(name)} & "
            r"test accuracy & difference & verdict \\",
            r"\midrule",
            *(
                " & ".join(
                    [tables.latex_text(arm), *map(tables.latex_cell, map(tables.latex_text, cells))]
                )
                + r" \\"
                for arm, *cells in rows(results, tuning)
            ),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        made[f"{figure(tuning)}.tex"] = "\n".join(lines) + "\n"
    return made


def _heads(tuning: Tuning) -> list[str]:
    shared = _value(tuning.search.shared)
    return [
        "arm",
        f"test accuracy at {shared}",
        *(f"{head} at {shared}" for head in HEADS),
        f"chosen {tuning.search.field}",
        "test accuracy, tuned",
        *(f"{head}, tuned" for head in HEADS),
    ]


def _judged(judgement: Judgement, arm: str) -> tuple[str, str]:
    found = judgement.of(arm)
    if found is None:
        return "reference", NO_VALUE
    if found.difference is None:
        return NO_VALUE, "no verdict"
    return with_interval(found.difference.mean, found.interval), str(found.verdict)


def _changes(results: Results, tuning: Tuning) -> str:
    """Whether a verdict differs between the two tables."""
    shared = judged(results)
    changed = []
    for before in shared.comparisons:
        choice = tuning.choice(before.arm)
        after = tuning.judgement.of(choice.name) if choice else None
        if after is not None and after.verdict is not before.verdict:
            changed.append(f"{before.arm} from {before.verdict} to {after.verdict}")
    if not shared.comparisons:
        return "With one arm there is no verdict to differ."
    own = f"its own {title(tuning)}"
    if not changed:
        every = {comparison.verdict for comparison in shared.comparisons}
        more = " No comparison is decided in either." if every == {Verdict.INCONCLUSIVE} else ""
        return f"No verdict differs between the two tables, with every arm at {own}.{more}"
    return f"With every arm at {own} the verdict changes for {listed(changed)}; no other does."


def _label(tuning: Tuning) -> str:
    """The chart in words, for those who do not see it."""
    said = []
    for choice in tuning.choices:
        means = ", ".join(
            f"{100 * spread.mean:.1f} at {_value(value)}"
            for value, spread, _ in tuning.reached(choice.arm)
            if spread is not None
        )
        said.append(f"{choice.arm}: {means or 'no trial ended'}; chosen {_value(choice.value)}")
    return (
        f"Validation accuracy in percent against {title(tuning)}, mean over the trials. "
        f"{'. '.join(said)}."
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _seeds(seeds: Sequence[int]) -> str:
    """ "2 seeds (1000 and 1001)"."""
    return (
        f"{counted(len(seeds), 'seed')} ({_listed(seeds)})"
        if len(seeds) > 1
        else (f"seed ({seeds[0]})")
    )


def _listed(values: Sequence[Any]) -> str:
    return listed([_value(value) for value in values])
