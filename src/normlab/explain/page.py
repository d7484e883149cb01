"""The gallery's page: one file that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from .. import __version__, pages
from ..pages.words import counted
from .exhibit import NEXT_TO_NONE, QUANTILE, Checks, Exhibit, Looked, Seen, Values
from .faithfulness import RANKINGS, Faithfulness
from .pictures import AGAINST, FOR, STRENGTH, embedded_map
from .placing import Grid, place
from .selection import RULE, Chosen

FEW_IMAGES = 120
"""Up to this many images are shown at 256 x 256 pixels, more at 160 x 160."""
LEAST_MAP, LARGEST_MAP = 48, 96
"""Side of a map on the page, in pixels."""
CASCADE_IMAGES = 3
"""For how many images the maps are shown as layers are randomized."""

RANKING_WORDS = {
    "map": "the map",
    "random": "random",
    "centre": "distance to the centre",
    "contrast": "local contrast of the image",
}
_METHOD_WORDS = {
    "grad-cam": "Grad-CAM",
    "hires-cam": "HiResCAM",
    "cam": "CAM",
    "grad-cam++": "Grad-CAM++",
    "layer-cam": "LayerCAM",
    "score-cam": "Score-CAM",
}
_CHART = (320, 200)
_TOPS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def picture_side(images: int) -> int:
    """Largest side of a picture on the page, in pixels. Many images get smaller ones."""
    return 256 if images <= FEW_IMAGES else 160


def render(
    title: str,
    exhibit: Exhibit,
    checks: Checks,
    sources: Sequence[str],
    files: Sequence[str],
    notes: Sequence[str],
) -> str:
    """index.html.

    Args:
        title: of the page.
        exhibit: what is shown.
        checks: how far the maps can be trusted.
        sources: the images as data URIs, in the order of the selection.
        files: their PNG files, relative to the page.
        notes: plain sentences.
    """
    template = pages.environment(__package__).get_template("gallery.html.j2")
    return template.render(
        version=__version__,
        title=title,
        facts=_facts(exhibit),
        notes=notes,
        names=[explained.name for explained in exhibit.models],
        sections=_sections(exhibit, sources, files),
        legend=_legend(exhibit),
        strength=STRENGTH,
        explained=_explained(exhibit),
        limits=_limits(exhibit),
        faithfulness=_curves(checks.faithfulness),
        rankings=RANKING_WORDS,
        cascade=_cascade(exhibit, checks, sources),
        css=pages.style(__package__, "gallery.css"),
        script=pages.inline(__package__, "gallery.js"),
    )


def _facts(exhibit: Exhibit) -> list[tuple[str, str]]:
    data = exhibit.data
    facts: list[tuple[str, str]] = []
    if len(exhibit.models) == 1:
        facts += exhibit.models[0].facts.items()
    else:
        facts += [
            (explained.name, "; ".join(f"{k.lower()} {v}" for k, v in explained.facts.items()))
            for explained in exhibit.models
        ]
    facts.append(("Data", f"{data.name}, {data.image_size} × {data.image_size} pixels"))
    facts.append(("Split", f"{exhibit.split}, {len(data.splits[exhibit.split]):,} images"))
    facts.append(("Shown", counted(len(exhibit.selection.images), "image")))
    facts.append(("Method", _METHOD_WORDS.get(exhibit.method, exhibit.method)))
    facts.append(("Site", "; ".join(dict.fromkeys(map(_place_of, exhibit.sites)))))
    if exhibit.cells:
        height, width = exhibit.cells
        facts.append(("Map", f"{height} × {width} cells, {exhibit.unit}"))
    return facts


def _place_of(sites: tuple[str, ...]) -> str:
    return sites[0] if len(sites) == 1 else f"mean over {len(sites)}: {', '.join(sites)}"


def _legend(exhibit: Exhibit) -> dict[str, Any]:
    apart = not exhibit.logits and len(exhibit.models) > 1
    rows = (
        [(explained.name, scale) for explained, scale in zip(
            exhibit.models, exhibit.scales, strict=True)]
        if apart
        else [("", exhibit.scales[0])]
    )  # fmt: skip
    return {
        "rows": [(name, f"{scale:.2g}") for name, scale in rows],
        "unit": exhibit.unit,
        "colours": {
            "for0": _css(FOR[0]), "for1": _css(FOR[1]),
            "against0": _css(AGAINST[0]), "against1": _css(AGAINST[1]),
        },
        "ramp": ", ".join(_stop(share / 10) for share in range(-10, 11)),
    }  # fmt: skip


def _css(colour: Sequence[float]) -> str:
    return " ".join(f"{part:.0f}" for part in colour)


def _stop(value: float) -> str:
    """A stop of the legend's gradient, colored as a map is at this share of the scale."""
    weak, strong = (np.array(end) for end in (FOR if value > 0 else AGAINST))
    t = abs(value)
    return f"rgb({_css(weak + t * (strong - weak))} / {STRENGTH * t**0.5:.2f}) {50 + 50 * value:g}%"


def _sections(
    exhibit: Exhibit, sources: Sequence[str], files: Sequence[str]
) -> list[dict[str, Any]]:
    """One section per class, with the images it gets right and those it gets wrong."""
    sections: dict[int, dict[str, Any]] = {
        label: {
            "name": exhibit.data.classes[label],
            "short": exhibit.selection.short.get(label, ""),
            "groups": {"right": [], "wrong": []},
        }
        for label in exhibit.selection.classes
    }
    for index, (chosen, by_model) in enumerate(
        zip(exhibit.selection.images, exhibit.looked, strict=True)
    ):
        sections[chosen.label]["groups"][chosen.kind].append(
            {
                "head": _head(chosen),
                "name": chosen.name,
                "src": sources[index],
                "file": quote(files[index]),
                "small": exhibit.data.image_size <= 32,
                "alt": _alt(exhibit, chosen, by_model[0]),
                "results": [
                    _result(exhibit, explained.name, chosen, looked)
                    for explained, looked in zip(exhibit.models, by_model, strict=True)
                ],
            }
        )
    return list(sections.values())


def _head(chosen: Chosen) -> str:
    rank = {1: "", 2: "2nd ", 3: "3rd "}.get(chosen.rank, f"{chosen.rank}th ")
    words = f"{rank}{chosen.end} confident"
    return words[0].upper() + words[1:]


def _alt(exhibit: Exhibit, chosen: Chosen, looked: Looked) -> str:
    classes = exhibit.data.classes
    said = [f"{classes[chosen.label]}, {_verdict(exhibit, chosen, looked)}"]
    said += [_where(exhibit, seen) for seen in looked.maps]
    return ". ".join(said) + "."


def _verdict(exhibit: Exhibit, chosen: Chosen, looked: Looked) -> str:
    classes, p = exhibit.data.classes, looked.probabilities
    if looked.predicted == chosen.label:
        return f"recognized with probability {p[chosen.label]:.2f}"
    return (
        f"mistaken for {classes[looked.predicted]} with probability {p[looked.predicted]:.2f}; "
        f"the probability of {classes[chosen.label]} is {p[chosen.label]:.2f}"
    )


def _where(exhibit: Exhibit, seen: Seen) -> str:
    name = exhibit.data.classes[seen.target]
    if not seen.cells.max() > 0:
        return f"No positive evidence for {name}"
    if seen.faint:
        return f"Almost no evidence for {name}"
    return f"Evidence for {name} is strongest at the {seen.strongest(exhibit.data.image_size)}"


def _result(exhibit: Exhibit, name: str, chosen: Chosen, looked: Looked) -> dict[str, Any]:
    classes, p = exhibit.data.classes, looked.probabilities
    right = looked.predicted == chosen.label
    own = max(seen.largest for seen in looked.maps)
    return {
        "name": name,
        "right": right,
        "verdict": f"right, {p[chosen.label]:.2f}" if right
        else f"predicts {classes[looked.predicted]}, {p[looked.predicted]:.2f}",
        "maps": [
            {
                **_map(
                    exhibit, seen.cells, seen.grid, seen.scale, seen.scale if seen.faint else own
                ),
                "class": classes[seen.target],
                "probability": f"{p[seen.target]:.2f}",
                "true": seen.target == chosen.label,
                "note": seen.note,
                "label": _where(exhibit, seen),
            }
            for seen in looked.maps
        ],
    }  # fmt: skip


def _map(
    exhibit: Exhibit, cells: Values, grid: Grid | None, scale: float, own: float
) -> dict[str, Any]:
    """A map and the two values that full colour can stand for: the page's and the image's."""
    size = exhibit.data.image_size
    side = min(LARGEST_MAP, size * -(-LEAST_MAP // size) if size < LEAST_MAP else size)
    values = place(cells, size, side, grid)
    largest = float(np.abs(values).max())
    return {
        "map": embedded_map(values, largest),
        "largest": f"{largest:.6g}",
        "scale": f"{scale:.6g}",
        "own": f"{own or scale:.6g}",
        "own_words": f"{own or scale:.2g}",
    }


def _explained(exhibit: Exhibit) -> list[str]:
    """How to read the page."""
    height, width = exhibit.cells or (0, 0)
    first = exhibit.models[0].name
    said = [
        "Orange marks evidence for the class named under the map, blue evidence against it. The "
        "more opaque, the stronger. Where there is no colour there is no evidence either way. "
        "Pictures under a map are grey, so that colour always means evidence.",
    ]
    if exhibit.logits:
        said.append(
            f"The {height} × {width} cells of a map add up to the class's logit minus its bias, so "
            "a cell's value is its share of the logit. Maps of different images, classes and "
            "models can be compared."
        )
    elif len(exhibit.sites[0]) > 1:
        said.append(
            "Each map is the mean of the maps at several sites. Its values are not shares of a "
            "logit. Compare where the evidence is, not how much there is."
        )
    else:
        said.append(
            "With this method at this site, values are not shares of a logit. Compare where the "
            "evidence is, not how much there is."
        )
    together = "" if exhibit.logits or len(exhibit.models) == 1 else " of that model"
    said.append(
        f"Full colour stands for the same value on the whole page: {100 * QUANTILE:g} % of all "
        f"cells{together} are below it. With “each image”, it stands for the largest value in the "
        f"maps of that image instead, except in maps that stay below {100 * NEXT_TO_NONE:g} % of "
        "the page's value."
    )
    chosen_by = f" The model that selects is {first}." if len(exhibit.models) > 1 else ""
    said.append(f"How the images are selected: {RULE}{chosen_by} Each picture links to a PNG file.")
    return said


def _limits(exhibit: Exhibit) -> list[str]:
    height, width = exhibit.cells or (0, 0)
    return [
        "A map shows where in the image the score of a class comes from at the chosen site. It "
        "does not show why, or whether the model would fail without what is there.",
        f"A map has {height} × {width} cells; all finer detail is interpolation. Each cell sees a "
        "wide neighbourhood, so evidence next to an object may come from the object.",
        "Probabilities compare classes: one can be high because there is evidence against all "
        "others. Some evidence for classes that are not predicted is normal.",
        "A few images, selected for extreme confidence, do not measure how good the model is.",
    ]


def _curves(measured: Mapping[str, Faithfulness]) -> list[dict[str, Any]]:
    """The mean curves as points of SVG lines, on one axis for all models, and the areas."""
    highest = max(
        (
            float(curves.mean.max())
            for found in measured.values()
            for curves in (*found.deletion.values(), *found.insertion.values())
        ),
        default=1.0,
    )
    top = next(round_ for round_ in _TOPS if round_ >= min(highest, 1.0))
    return [
        {
            "name": name,
            "images": len(found.deletion["map"].areas),
            "ticks": [(f"{top * part / 4:g}", _CHART[1] * (1 - part / 4)) for part in range(5)],
            "charts": [
                {
                    "kind": kind,
                    "lines": {
                        ranking: " ".join(
                            f"{_CHART[0] * share:.1f},{_CHART[1] * (1 - value / top):.1f}"
                            for share, value in zip(found.shares, curves[ranking].mean, strict=True)
                        )
                        for ranking in RANKINGS
                    },
                    "label": f"{kind.capitalize()} curves. Mean areas: "
                    + ", ".join(f"{RANKING_WORDS[r]} {curves[r].area:.3f}" for r in RANKINGS),
                }
                for kind, curves in (("deletion", found.deletion), ("insertion", found.insertion))
            ],
            "rows": [
                (
                    ranking,
                    f"{found.deletion[ranking].area:.3f}",
                    f"{found.insertion[ranking].area:.3f}",
                )
                for ranking in RANKINGS
            ],
        }
        for name, found in measured.items()
    ]


def _cascade(exhibit: Exhibit, checks: Checks, sources: Sequence[str]) -> Mapping[str, Any] | None:
    """The table of the randomization, and the maps of a few images at each step."""
    if not checks.cascade:
        return None
    images = exhibit.selection.images
    first = {chosen.label: index for index, chosen in reversed(list(enumerate(images)))}
    shown = sorted(first.values())[:CASCADE_IMAGES]
    strips = []
    for index in shown:
        predicted = exhibit.data.classes[exhibit.looked[index][0].predicted]
        panels = []
        for step in checks.cascade:
            cells = step.maps[index]
            own = float(np.abs(cells).max()) or 1.0
            panels.append(
                {**_map(exhibit, cells, exhibit.grids[0], own, own),
                 "layer": step.layer or "trained",
                 "label": f"Map for {predicted}, "
                 + (f"randomized down to {step.layer}" if step.layer else "as trained")}
            )  # fmt: skip
        strips.append(
            {
                "src": sources[index],
                "small": exhibit.data.image_size <= 32,
                "name": images[index].name,
                "class": predicted,
                "panels": panels,
            }
        )
    return {
        "model": exhibit.models[0].name,
        "images": len(images),
        "rows": [
            (step.layer or "none (as trained)", _signed(step.mean_spearman),
             _signed(step.mean_pearson))
            for step in checks.cascade
        ],
        "strips": strips,
    }  # fmt: skip


def _signed(value: float) -> str:
    # Adding 0 turns a rounded -0 into 0.
    return "no value" if value != value else f"{round(value, 2) + 0:.2f}".replace("-", "−")
