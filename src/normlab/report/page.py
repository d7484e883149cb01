"""report.html: one file that asks no other address for anything."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..files import write_text
from ..studies import Results, read_curves
from ..studies import curves as rules
from . import tables
from .charts import CURVE_SPLITS, CURVES, TITLES, curve_spec, points_spec, style


def write_page(results: Results) -> Path:
    """Write report.html."""
    path = results.folder / "report.html"
    write_text(path, render_page(results))
    return path


def render_page(results: Results) -> str:
    """The page as text."""
    import jinja2
    import vl_convert

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("normlab.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    charts = [
        {
            "id": f"{metric}-{name}",
            "title": f"{TITLES[metric]}, {TITLES[name]}",
            "spec": curve_spec(results, metric, split),
        }
        for metric in CURVES
        for split, name in CURVE_SPLITS.items()
    ]
    looks = style(results.arms)
    specs = {str(chart["id"]): chart["spec"] for chart in charts}
    specs["points"] = points_spec(results)
    return environment.get_template("report.html.j2").render(
        title=results.question["title"],
        summary=_summary(results),
        warnings=[
            f"{arm}: {'; '.join(results.ended_otherwise(arm))}"
            for arm in results.arms
            if results.ended_otherwise(arm)
        ],
        table=tables.html_table(results),
        notes=[note for note in tables.notes(results) if not _about_an_arm(note, results)],
        arms=[{"name": arm, **looks[arm]} for arm in results.arms],
        charts=charts,
        specs=_script_json(specs),
        readings=[(arm, read_curves(results, arm)) for arm in results.arms],
        rules=rules,
        limits=_limits(results),
        data=_data(results),
        command=results.question["command"],
        settings=_settings(results),
        machines=_machines(results),
        sites=_sites(results),
        files=("results.csv", "results.md", "results.tex", "figures/", "study.toml", "data.json"),
        vega=vl_convert.javascript_bundle().replace("</script", "<\\/script"),
    )


def _summary(results: Results) -> str:
    data, seeds = results.data, results.question["seeds"]
    images = data.get("images", {})
    counted = ", ".join(f"{images[s]:,} {tables.SPLIT_TITLES[s]}" for s in images)
    arms = len(results.arms)
    return (
        f"{arms} arm{'s' * (arms != 1)}, {len(seeds)} seed{'s' * (len(seeds) != 1)} each, on "
        f"{data.get('name', 'the data')}: {len(data.get('classes', []))} classes, {counted} images "
        f"of {data.get('image_size')}×{data.get('image_size')} pixels."
    )


def _limits(results: Results) -> list[str]:
    seeds = len(results.question["seeds"])
    said = [
        f"{seeds} run{'s' * (seeds != 1)} an arm: do not rank arms by differences smaller than "
        "the spread of their runs."
        if seeds > 1
        else "One run an arm: another seed may turn any of these differences round."
    ]
    if "lr" not in results.question["varied"]:
        rate = results.question["run"].get("lr")
        said.append(
            f"All arms share one learning rate ({rate:g}). A rate that suits one normalization "
            "may not suit another."
        )
    test = results.data.get("images", {}).get("test")
    if test:
        worst = 100 * (0.25 / test) ** 0.5
        said.append(
            f"The test split has {test:,} images: chance alone moves an accuracy near 50 % by "
            f"±{worst:.1f} points (one standard error), less near 100 %."
        )
    epochs = results.question["run"].get("epochs")
    if epochs:
        said.append(
            f"Each run had {epochs} epochs; curves that still rise would end elsewhere with more."
        )
    return said


def _data(results: Results) -> dict[str, Any]:
    data = results.data
    counts = data.get("counts", {})
    return {
        "source": data.get("source", ""),
        "fingerprint": str(data.get("fingerprint", ""))[:16],
        "rule": data.get("resize_rule", ""),
        "notes": data.get("notes", []),
        "splits": list(counts),
        "rows": [
            (name, [counts[split].get(name, 0) for split in counts])
            for name in data.get("classes", [])
        ],
    }


def _settings(results: Results) -> list[tuple[str, str]]:
    shown = {**results.question["run"], "seeds": results.question["seeds"]}
    return [(name, json.dumps(value).strip('"')) for name, value in shown.items()]


def _machines(results: Results) -> list[str]:
    """Versions and hardware, each once: usually one line for all runs."""
    found = Counter(
        "; ".join(
            [
                ", ".join(f"{k} {v}" for k, v in run.record["versions"].items()),
                ", ".join(f"{k} {v}" for k, v in run.record["hardware"].items()),
                f"threads {run.record['config']['threads']}",
            ]
        )
        for run in results.runs
    )
    return [f"{text} ({count} runs)" for text, count in found.most_common()]


def _sites(results: Results) -> list[tuple[str, str, str]]:
    """Arm, parameters, and which layers stand at how many sites."""
    rows = []
    for arm in results.arms:
        runs = results.of_arm(arm)
        if runs:
            record = runs[0].record
            layers = Counter(site["layer"].partition("(")[0] for site in record["sites"])
            stands = ", ".join(f"{name} at {count} sites" for name, count in layers.items())
            rows.append((arm, f"{record['parameters']:,}", stands))
    return rows


def _about_an_arm(note: str, results: Results) -> bool:
    return any(note.startswith(f"{arm}: ") for arm in results.arms)


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
