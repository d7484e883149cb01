"""The page: one file that needs nothing else, neither other files nor a network."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from .. import __version__, pages
from ..pages.words import NO_VALUE, counted, setting
from ..results import Results, Run, read_curves
from ..results.curves import GAP, IMPROVING, OSCILLATION
from . import (
    answer,
    charts,
    classes,
    cost,
    differences,
    feature_charts,
    sanity,
    tables,
    tuned,
    value_charts,
)
from .data_findings import LIMITED, data_findings
from .limits import limits
from .styles import families, styles

if TYPE_CHECKING:
    from markupsafe import Markup

MANY_CLASSES = 12
"""Above this the table of counts is folded."""
SCRIPTS = ("differences.js", "tuned.js", "classes.js", "cost.js", "report.js")
"""Sections say what they draw; the last one has the tools and starts."""
DIGITS = 5
"""Significant digits of the values in the page's charts."""


def render(results: Results, *, all_pairs: bool = False) -> str:
    """report.html."""
    from markupsafe import Markup

    environment = pages.environment(__package__)
    drawn = charts.lines(results)
    return environment.get_template("report.html.j2").render(
        **_story(results, drawn),
        answer=answer.answer(results),
        differences=differences.context(results, all_pairs=all_pairs),
        pairs_note=differences.pairs_note(results),
        table=tables.html_table(results),
        blocks=tables.html_blocks(results),
        notes=tables.meaning(results),
        endings=tables.endings(results),
        checked=data_findings(results),
        check_limits=LIMITED,
        css=pages.style(__package__, "report.css") + pages.inline(__package__, "classes.css"),
        script=Markup("").join(pages.inline(__package__, name) for name in SCRIPTS),
        vega=Markup(_bundle()),
        payload=_embedded(_payload(results, drawn)),
    )


@cache
def _bundle() -> str:
    """Vega-Embed with Vega in it. It ends no script element."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", r"<\/script")


def _embedded(content: Any) -> Markup:
    """JSON that is harmless inside a script element, whatever the names in it."""
    from markupsafe import Markup

    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _payload(results: Results, drawn: list[charts.Line]) -> dict[str, Any]:
    """What the script draws. Every value is there once; the script makes the rows."""
    style = styles(results)
    bounds = charts.extents(drawn)
    return {
        "arms": [
            {"name": arm, "light": style[arm].light, "dark": style[arm].dark}
            for arm in results.arms
        ],
        "lines": [
            {
                "arm": line.arm,
                "seed": line.seed,
                "cut": line.cut,
                "epochs": line.epochs,
                "values": {
                    f"{quantity}-{split}": [_short(value) for value in values]
                    for (split, quantity), values in line.values.items()
                },
            }
            for line in drawn
        ],
        "tests": charts.test_rows(results),
        "bounds": {**bounds, "test": charts.test_extents(results)},
        "curve": charts.for_page(charts.curve_spec(results, charts.last_epoch(results))),
        "test": charts.for_page(charts.test_spec(results)),
        "settings": [_setting_chart(results, name) for name in _charted_settings(results)],
        "features": _feature_charts(results),
        "classes": classes.payload(results),
        "cost": cost.payload(results),
        "tunings": tuned.payload(results),
        "differences": differences.payload(results),
    }


def _charted_settings(results: Results) -> list[str]:
    return [name for name in value_charts.settings(results) if value_charts.rows(results, name)]


def _setting_chart(results: Results, setting: str) -> dict[str, Any]:
    found = value_charts.rows(results, setting)
    low, high = value_charts.bounds(found)
    return {
        "name": setting,
        "rows": found,
        "low": low,
        "high": high,
        "lines": [
            {"light": style.light, "dark": style.dark}
            for style in value_charts.lines(results, setting).values()
        ],
        "spec": charts.for_page(value_charts.spec(results, setting)),
    }


def _feature_charts(results: Results) -> dict[str, Any] | None:
    arms = feature_charts.recorded(results)
    if not arms:
        return None
    return {
        "rows": {
            arm: [
                {k: _short(v) if isinstance(v, float) else v for k, v in row.items()}
                for row in feature_charts.rows(results, arm)
            ]
            for arm in arms
        },
        "high": feature_charts.highest(results),
        "spec": charts.for_page(
            {**feature_charts.spec(results, charts.last_epoch(results)), "height": 130}
        ),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _story(results: Results, drawn: list[charts.Line]) -> dict[str, Any]:
    question, data = results.question, results.data
    seeds = question["seeds"]
    style = styles(results)
    return {
        "version": __version__,
        "title": str(question.get("title") or results.folder.name),
        "arms": [
            {"name": arm, "style": style[arm], "dash": " ".join(f"{x:g}" for x in style[arm].dash)}
            for arm in results.arms
        ],
        "seeds": seeds,
        "facts": _facts(results),
        "groups": [
            {
                "title": tables.METRIC_WORDS.get(quantity, quantity).capitalize(),
                "charts": [
                    {
                        "quantity": quantity,
                        "split": split,
                        "title": f"{charts.SPLIT_TITLES[split]} {charts.TITLES[quantity]}",
                        "label": _chart_label(drawn, split, quantity),
                        "file": f"figures/{quantity.replace('_', '-')}-{split}",
                    }
                    for split in charts.SPLITS
                ],
            }
            for quantity in charts.QUANTITIES
        ],
        "families": families(results),
        "settings": [
            {
                "name": name,
                "title": value_charts.TITLES.get(name, name.replace("_", " ")),
                "file": f"figures/accuracy-test-by-{name.replace('_', '-')}",
                "label": _setting_label(results, name),
            }
            for name in _charted_settings(results)
        ],
        "features": [
            {"arm": arm, "label": _feature_label(results, arm)}
            for arm in feature_charts.recorded(results)
        ],
        "verdicts": sanity.verdicts(results),
        "verdict_heads": sanity.HEADS,
        "loss_cut": charts.loss_is_cut(drawn),
        "test_label": _test_label(results),
        "any_cut": any(line.cut for line in drawn),
        "readings": [
            {"arm": arm, "says": _sentences(results, arm)} for arm in results.arms
        ],
        "rules": {
            "improving": 100 * IMPROVING, "gap": 100 * GAP, "oscillation": 100 * OSCILLATION,
        },
        "data_notes": [str(note) for note in data.get("notes", ())],
        "data_facts": _data_facts(data),
        "counts": _counts(data),
        "many_classes": len(data.get("classes", ())) > MANY_CLASSES,
        "skipped": _skipped(data),
        "command": str(question.get("command", "")),
        "shared": {name: setting(value) for name, value in question.get("run", {}).items()},
        "varied": _varied(question),
        "points": {
            arm: {name: setting(value) for name, value in fields.items()}
            for arm, fields in question["arms"].items()
        },
        "layers": [_layers(results, arm) for arm in results.arms],
        "versions": _different([run.record.get("versions", {}) for run in results.runs]),
        "hardware": _different([run.record.get("hardware", {}) for run in results.runs]),
        "dates": _dates(results.runs),
        "limits": limits(results),
        "classes": classes.context(results),
        "cost": cost.context(results, _timed_against(results)),
        "tunings": tuned.context(results),
    }  # fmt: skip


def _timed_against(results: Results) -> str | None:
    """The reference, where it is one arm."""
    reference = answer.judged(results).rule.reference
    return reference if reference in results.arms else None


def _facts(results: Results) -> list[tuple[str, str]]:
    """What was compared, at a glance."""
    question, data, shared = results.question, results.data, results.question.get("run", {})
    seeds, arms = len(question["seeds"]), len(results.arms)
    images = data.get("images") or {s: sum(c.values()) for s, c in data.get("counts", {}).items()}
    facts = [("Arms", ", ".join(results.arms))] if arms <= 12 else []
    facts.append(("Runs", f"{counted(arms, 'arm')} × {counted(seeds, 'seed')}"))
    facts.append(("Data", str(data.get("name") or data.get("source") or "")))
    if data.get("classes"):
        facts.append(("Classes", f"{len(data['classes']):,}"))
    if images:
        per_split = " / ".join(f"{images.get(s, 0):,}" for s in ("train", "val", "test"))
        facts.append(("Images: train / val / test", per_split))
    if "image_size" in data:
        size, channels = data["image_size"], data.get("channels", 3)
        colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        facts.append(("Image size", f"{size} × {size}, {colour}"))
    if "n" in shared:
        depth = f"{6 * shared['n'] + 2} weight layers (n = {shared['n']})"
        facts.append(("Network", f"residual, {depth}{_parameters(results)}"))
    if "epochs" in shared:
        facts.append(("Epochs", str(shared["epochs"])))
    for name, title in (("batch_size", "Batch"), ("lr", "Learning rate")):
        if name in shared:
            facts.append((title, f"{shared[name]:g}"))
    if shared.get("accumulate", 1) > 1:
        facts.append(("Batches an update", str(shared["accumulate"])))
    if shared.get("budget") == "updates":
        per_epoch = f"an epoch is one pass in batches of {shared.get('reference_batch', 32)}"
        facts.append(("Budget", f"equal updates: {per_epoch}"))
    if shared.get("lr_scaling", "none") != "none":
        facts.append(("Rate scaled with the batch", str(shared["lr_scaling"])))
    if shared.get("patience"):
        facts.append(("Patience", f"{shared['patience']} epochs"))
    return [fact for fact in facts if fact[1]]


def _parameters(results: Results) -> str:
    counts = sorted(
        {run.record["parameters"] for run in results.runs if "parameters" in run.record}
    )
    if not counts:
        return ""
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f", {span} parameters"


def _chart_label(drawn: list[charts.Line], split: str, quantity: str) -> str:
    """The chart in words, for those who do not see it."""
    ends = []
    for line in drawn:
        values = [v for v in line.values[split, quantity] if v is not None]
        if line.seed is None and values:
            ends.append(f"{line.arm} {values[-1]:.{3 if quantity == 'loss' else 1}f}")
    what = f"{charts.SPLIT_TITLES[split]} {charts.TITLES[quantity]} by epoch, a line an arm."
    return f"{what} Means at the last epoch: {', '.join(ends)}." if ends else what


def _test_label(results: Results) -> str:
    said = []
    for arm in results.arms:
        values = [run.metric("test", "accuracy") for run in results.of_arm(arm)]
        points = ", ".join(f"{100 * value:.1f}" for value in values if value is not None)
        said.append(f"{arm}: {points or 'no run ended with a model'}")
    return f"Test accuracy in percent, a point a run. {'; '.join(said)}."


def _setting_label(results: Results, setting: str) -> str:
    said = [
        f"{row['line']} at {row['x']:g}: {row['value']:.1f}"
        for row in value_charts.rows(results, setting)
        if row["mean"]
    ]
    named = value_charts.TITLES.get(setting, setting.replace("_", " "))
    return f"Test accuracy in percent against {named}. Means: {'; '.join(said)}."


def _feature_label(results: Results, arm: str) -> str:
    last = feature_charts.rows(results, arm)[-1]
    ends = ", ".join(f"{name[1:]} %: {last[name]:.3g}" for name in feature_charts.PERCENTILES)
    return f"Percentiles of the penultimate features of {arm} by epoch. At the last: {ends}."


def _sentences(results: Results, arm: str) -> list[str]:
    reading = read_curves(results, arm)
    parts = (reading.trend, reading.gap, reading.oscillation)
    return [part[0].upper() + part[1:] + "." for part in parts if part]


def _data_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("Source", str(data.get("source", ""))), ("Kind", str(data.get("kind", "")))]
    facts.append(("Resizing", str(data.get("resize_rule", ""))))
    policy = data.get("split_policy", {})
    facts.append(("Splits", "; ".join(f"{split}: {said}" for split, said in policy.items())))
    if "split_seed" in data:
        facts.append(("Seed of the split", str(data["split_seed"])))
    for name, title in (("mean", "Mean of the training pixels"), ("std", "Their deviation")):
        facts.append((title, ", ".join(f"{value:.4f}" for value in data.get(name, ()))))
    facts.append(("Fingerprint", str(data.get("fingerprint", ""))))
    return [fact for fact in facts if fact[1]]


def _counts(data: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """Class to images a split."""
    counts = data.get("counts", {})
    return [
        (str(name), [int(counts.get(s, {}).get(name, 0)) for s in ("train", "val", "test")])
        for name in data.get("classes", ())
        if counts
    ]


def _skipped(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    skipped = data.get("skipped", {})
    if isinstance(skipped, Mapping):
        return [(str(name), str(why)) for name, why in skipped.items()]
    return [(str(name), "") for name in skipped]


def _layers(results: Results, arm: str) -> dict[str, Any]:
    """Which layer stood at how many sites, and what an arm's runs took."""
    runs = results.of_arm(arm)
    sites: dict[str, Counter[str]] = {}
    for site in runs[0].record.get("sites", ()) if runs else ():
        # Layers that differ in their channels alone are one: BatchNorm2d(16, eps=...) and (32, ...
        found = re.fullmatch(r"(\w+\()(\d+)(\W.*)", str(site["layer"]), re.DOTALL)
        layer, width = (f"{found[1]}C{found[3]}", found[2]) if found else (str(site["layer"]), "")
        sites.setdefault(layer, Counter())[width] += 1
    seconds = [run.record["seconds"] for run in runs if run.complete and "seconds" in run.record]
    chosen = [run.record.get("chosen_epoch") for run in runs]
    return {
        "arm": arm,
        "sites": [
            (layer, widths.total(), ", ".join(width for width in widths if width))
            for layer, widths in sites.items()
        ],
        "parameters": next((f"{run.record['parameters']:,}" for run in runs
                            if "parameters" in run.record), NO_VALUE),
        "chosen": ", ".join(NO_VALUE if c is None else str(c) for c in chosen),
        "seconds": f"{statistics.fmean(seconds):.1f}" if seconds else NO_VALUE,
    }  # fmt: skip


def _varied(question: Mapping[str, Any]) -> list[str]:
    """The fields to name beside an arm: not its layer, where that is the arm's whole name."""
    names = [str(name) for name in question.get("varied", ())]
    if all(fields.get("norm") == arm for arm, fields in question["arms"].items()):
        return [name for name in names if name != "norm"]
    return names


def _different(found: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The different ones among the runs' records, each once."""
    unique: list[dict[str, str]] = []
    for record in found:
        plain = {str(name): setting(value) for name, value in record.items()}
        if plain and plain not in unique:
            unique.append(plain)
    return unique


def _dates(runs: tuple[Run, ...]) -> str:
    days = sorted({str(run.record["written"])[:10] for run in runs if "written" in run.record})
    return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""


__all__ = ["render"]
