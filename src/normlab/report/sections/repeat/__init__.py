"""How to repeat the study: commands, settings, versions, machines, and the layers found."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....pages.tables import Cell, Column, Table, markdown_text
from ....pages.words import NO_VALUE, setting
from ....results import Results, Run
from ...context import Report
from ...section import FolderSection

if TYPE_CHECKING:
    from markupsafe import Markup


CALLS = (
    "The study was built by these calls, in this order. The runs of each were there for all later "
    "ones to see."
)


class RepeatSection(FolderSection):
    """What to type, and what it ran with."""

    heading = "How to repeat it"

    def context(self, report: Report) -> Mapping[str, Any]:
        """What study.toml and the run records say."""
        runs = report.results.runs
        return {
            "commands": _commands(report.question),
            "calls": _calls_table(report.question).html("text dense"),
            "calls_said": CALLS,
            "several": len(report.question.get("calls", ())) > 1,
            "dates": _dates(runs),
            "shared": {k: setting(v) for k, v in report.question.get("run", {}).items()},
            "versions": _different(run.record.get("versions", {}) for run in runs),
            "hardware": _different(run.record.get("hardware", {}) for run in runs),
            "arms": _arms_table(report).html("text dense"),
        }

    def markdown(self, report: Report) -> Sequence[str]:
        """The commands and the versions."""
        commands = _commands(report.question)
        versions = dict.fromkeys(
            ", ".join(f"{name} {version}" for name, version in run.record["versions"].items())
            for run in report.results.runs
            if run.record.get("versions")
        )
        return [
            *(["\n".join(["```", *commands, "```"])] if commands else []),
            *(
                [CALLS, _calls_table(report.question).markdown()]
                if len(report.question.get("calls", ())) > 1
                else []
            ),
            *(f"Versions: {markdown_text(found)}." for found in versions),
        ]


def _commands(question: Mapping[str, Any]) -> list[str]:
    """What reproduces the study, one command per line."""
    stated = question.get("commands") or [question.get("command", "")]
    return [str(command) for command in stated if command]


def _calls_table(question: Mapping[str, Any]) -> Table:
    """What was called, in order; what earlier versions did not write down is left open."""
    return Table(
        (
            Column("date", "left"),
            Column("call", "left"),
            Column("runs before"),
            Column("arms after"),
            Column("seeds after"),
        ),
        tuple(
            (
                Cell(str(call.get("date", NO_VALUE)), "text", attributes={"class": "number"}),
                Cell(str(call["command"]), "text"),
                *(Cell(str(call.get(name, NO_VALUE))) for name in ("runs_before", "arms")),
                Cell(_seeds_after(call)),
            )
            for call in question.get("calls", ())
        ),
        caption="The calls that built this study",
    )


def _seeds_after(call: Mapping[str, Any]) -> str:
    most = str(call.get("seeds", NO_VALUE))
    return f"{call['fewest_seeds']} to {most}" if "fewest_seeds" in call else most


def _arms_table(report: Report) -> Table:
    """Which layers an arm has, read from the network itself, and what its runs took."""
    varied = _varied(report.question)
    fields: Mapping[str, Mapping[str, Any]] = report.question["arms"]
    return Table(
        (
            Column("arm", "left"),
            *(Column(name) for name in varied),
            Column("layers found", "left"),
            Column("parameters"),
            Column("epoch chosen"),
            Column("seconds per run"),
        ),
        tuple(
            (
                Cell(arm, "name"),
                *(Cell(setting(fields[arm][name]) if name in fields[arm] else "")
                  for name in varied),
                *_arm_cells(report.results, arm),
            )
            for arm in report.arms
        ),
        caption="The layers are read from the network itself",
    )  # fmt: skip


def _arm_cells(results: Results, arm: str) -> tuple[Cell, ...]:
    runs = results.of_arm(arm)
    seconds = [run.record["seconds"] for run in runs if run.complete and "seconds" in run.record]
    chosen = [run.record.get("chosen_epoch") for run in runs]
    parameters = [run.record["parameters"] for run in runs if "parameters" in run.record]
    layers = _layers(runs)
    return (
        Cell(", ".join(layer for layer, _, _ in layers), "text", html=_layers_html(layers),
             attributes={"class": "layers"}),
        Cell(f"{parameters[0]:,}" if parameters else NO_VALUE),
        Cell(", ".join(NO_VALUE if epoch is None else str(epoch) for epoch in chosen)),
        Cell(f"{statistics.fmean(seconds):.1f}" if seconds else NO_VALUE),
    )  # fmt: skip


def _layers(runs: Sequence[Run]) -> list[tuple[str, int, str]]:
    """Each layer of an arm and each of its method's other parts, at how many places, and its
    widths."""
    sites: dict[str, Counter[str]] = {}
    record = runs[0].record if runs else {}
    for site in (*record.get("sites", ()), *record.get("parts", ())):
        # Layers that differ in their channels alone are one: BatchNorm2d(16, eps=...) and (32, ...
        found = re.fullmatch(r"(\w+\()(\d+)(\W.*)", str(site["layer"]), re.DOTALL)
        layer, width = (f"{found[1]}C{found[3]}", found[2]) if found else (str(site["layer"]), "")
        sites.setdefault(layer, Counter())[width] += 1
    return [
        (layer, widths.total(), ", ".join(width for width in widths if width))
        for layer, widths in sites.items()
    ]


def _layers_html(layers: Sequence[tuple[str, int, str]]) -> Markup:
    from markupsafe import Markup

    return Markup("<br>").join(
        Markup("{} × <code>{}</code>{}").format(
            times, layer, f" with C = {widths}" if widths else ""
        )
        for layer, times, widths in layers
    )


def _varied(question: Mapping[str, Any]) -> list[str]:
    """The fields to name next to an arm: not its layer, where that is the arm's whole name."""
    names = [str(name) for name in question.get("varied", ())]
    if all(fields.get("norm") == arm for arm, fields in question["arms"].items()):
        return [name for name in names if name != "norm"]
    return names


def _different(found: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The different ones among the runs' records, each once."""
    unique: list[dict[str, str]] = []
    for record in found:
        plain = {str(name): setting(value) for name, value in record.items()}
        if plain and plain not in unique:
            unique.append(plain)
    return unique


def _dates(runs: Sequence[Run]) -> str:
    days = sorted({str(run.record["written"])[:10] for run in runs if "written" in run.record})
    if not days:
        return ""
    return f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"
