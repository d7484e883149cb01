"""The gallery's page: one file that needs nothing else, neither other files nor a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from .. import __version__, pages
from ..pages.words import counted
from .choice import RULE, Chosen
from .exhibit import NEXT_TO_NONE, QUANTILE, Checks, Exhibit, Looked, Seen, Values
from .faithfulness import RANKINGS, Faithfulness
from .pictures import AGAINST, FOR, STRENGTH, embedded_map
from .placing import place

FEW_IMAGES = 120
"""Up to so many images the page shows them at 256 pixels a side, above at 160."""
LEAST_MAP, LARGEST_MAP = 48, 96
"""Pixels a side of a map on the page."""
CASCADE_IMAGES = 3
"""How many images' maps are shown along the randomization of layers."""

RANKING_WORDS = {
    "map": "the map",
    "random": "random",
    "centre": "nearest to the centre",
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
    """Most pixels a side of a picture on the page, so that many images do not make it heavy."""
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
        checks: measured beside it.
        sources: the images as data URIs, in the order of the choice.
        files: their PNG files, relative to the page.
        notes: plain sentences.
    """
    template = pages.environment(__package__).get_template("gallery.html.j2")
    return template.render(
        version=__version__,
        title=title,
        facts=_facts(exhibit),
        notes=notes,
        names=[subject.name for subject in exhibit.subjects],
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
    if len(exhibit.subjects) == 1:
        facts += exhibit.subjects[0].facts.items()
    else:
        facts += [
            (subject.name, "; ".join(f"{k.lower()} {v}" for k, v in subject.facts.items()))
            for subject in exhibit.subjects
        ]
    facts.append(("Data", f"{data.name}, {data.image_size} × {data.image_size} pixels"))
    facts.append(("Split", f"{exhibit.split}, {len(data.splits[exhibit.split]):,} images"))
    facts.append(("Shown", counted(len(exhibit.choice.images), "image")))
    facts.append(("Method", _METHOD_WORDS.get(exhibit.method, exhibit.method)))
    facts.append(("Site", "; ".join(dict.fromkeys(map(_place_of, exhibit.sites)))))
    if exhibit.cells:
        height, width = exhibit.cells
        facts.append(("A map", f"{height} × {width} cells, {exhibit.unit}"))
    return facts


def _place_of(sites: tuple[str, ...]) -> str:
    return sites[0] if len(sites) == 1 else f"mean over {len(sites)}: {', '.join(sites)}"


def _legend(exhibit: Exhibit) -> dict[str, Any]:
    apart = not exhibit.logits and len(exhibit.subjects) > 1
    rows = (
        [(subject.name, scale) for subject, scale in zip(
            exhibit.subjects, exhibit.scales, strict=True)]
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
    """A stop of the legend's gradient, coloured as a map is at this share of the scale."""
    weak, strong = (np.array(end) for end in (FOR if value > 0 else AGAINST))
    t = abs(value)
    return f"rgb({_css(weak + t * (strong - weak))} / {STRENGTH * t**0.5:.2f}) {50 + 50 * value:g}%"


def _sections(
    exhibit: Exhibit, sources: Sequence[str], files: Sequence[str]
) -> list[dict[str, Any]]:
    """A section a class, in it the right and the wrong ones."""
    sections: dict[int, dict[str, Any]] = {
        label: {
            "name": exhibit.data.classes[label],
            "short": exhibit.choice.short.get(label, ""),
            "groups": {"right": [], "wrong": []},
        }
        for label in exhibit.choice.classes
    }
    for index, (chosen, by_model) in enumerate(
        zip(exhibit.choice.images, exhibit.looked, strict=True)
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
                    _result(exhibit, subject.name, chosen, looked)
                    for subject, looked in zip(exhibit.subjects, by_model, strict=True)
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
        f"taken for {classes[looked.predicted]} with probability {p[looked.predicted]:.2f}, "
        f"{classes[chosen.label]} has {p[chosen.label]:.2f}"
    )


def _where(exhibit: Exhibit, seen: Seen) -> str:
    name = exhibit.data.classes[seen.target]
    if not seen.cells.max() > 0:
        return f"No positive evidence for {name}"
    if seen.faint:
        return f"Next to no evidence for {name}"
    place_ = seen.strongest(exhibit.data.image_size)
    return f"Evidence for {name} is strongest {'at the' if place_ == 'centre' else 'at'} {place_}"


def _result(exhibit: Exhibit, name: str, chosen: Chosen, looked: Looked) -> dict[str, Any]:
    classes, p = exhibit.data.classes, looked.probabilities
    right = looked.predicted == chosen.label
    own = max(seen.largest for seen in looked.maps)
    return {
        "name": name,
        "right": right,
        "verdict": f"right, {p[chosen.label]:.2f}" if right
        else f"taken for {classes[looked.predicted]}, {p[looked.predicted]:.2f}",
        "maps": [
            {
                **_map(exhibit, seen.cells, seen.scale, seen.scale if seen.faint else own),
                "class": classes[seen.target],
                "probability": f"{p[seen.target]:.2f}",
                "true": seen.target == chosen.label,
                "note": seen.note,
                "label": _where(exhibit, seen),
            }
            for seen in looked.maps
        ],
    }  # fmt: skip


def _map(exhibit: Exhibit, cells: Values, scale: float, own: float) -> dict[str, Any]:
    """A map and the two values that full colour may stand for: the page's and the image's."""
    size = exhibit.data.image_size
    side = min(LARGEST_MAP, size * -(-LEAST_MAP // size) if size < LEAST_MAP else size)
    values = place(cells, size, side)
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
    first = exhibit.subjects[0].name
    said = [
        "Orange marks what speaks for the class named under the map, blue what speaks against it. "
        "The more opaque, the stronger; where nothing is coloured there is no evidence either "
        "way. Pictures under a map are grey so that colour means evidence and nothing else.",
    ]
    if exhibit.logits:
        said.append(
            f"The {height} × {width} cells of a map add up to the class's logit less its bias, so "
            "a cell's value is its share of the logit. Maps of different images, classes and "
            "models can be compared."
        )
    elif len(exhibit.sites[0]) > 1:
        said.append(
            "Each map is the mean of the maps at several sites. Its values are no "
            "shares of a logit; compare where the evidence lies rather than how much there is."
        )
    else:
        said.append(
            "With this method at this site the values are no shares of a logit; compare where the "
            "evidence lies rather than how much there is."
        )
    together = "" if exhibit.logits or len(exhibit.subjects) == 1 else " of that model"
    said.append(
        f"Full colour stands for one value on the whole page: {100 * QUANTILE:g} % of all cells"
        f"{together} lie below it. The switch “each image” lets the largest value of an image's "
        f"maps take it instead, except for maps that stay below {100 * NEXT_TO_NONE:g} % of the "
        "page's value."
    )
    chosen_by = f" Images and their order are chosen by {first}." if len(
        exhibit.subjects) > 1 else ""  # fmt: skip
    said.append(
        f"Which images: {RULE[0].lower()}{RULE[1:]}{chosen_by} A picture leads to its PNG file."
    )
    return said


def _limits(exhibit: Exhibit) -> list[str]:
    height, width = exhibit.cells or (0, 0)
    return [
        "A map shows where in the image the score of a class comes from at the chosen site. It "
        "does not show why, nor whether the model would fail without what is there.",
        f"A map has {height} × {width} cells; all that is finer is interpolation. Each cell "
        "looks at a wide neighbourhood, so evidence beside an object may come from the object.",
        "Probabilities compare classes: one may be high because all others have evidence against "
        "them. Evidence for a class that was not chosen is ordinary.",
        "A handful of images, the extreme ones by confidence, is no measurement of the model.",
    ]


def _curves(measured: Mapping[str, Faithfulness]) -> list[dict[str, Any]]:
    """The mean curves as the points of SVG lines, on one axis for all models, and the areas."""
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
    """The table of the randomization, and a few images' maps along it."""
    if not checks.cascade:
        return None
    images = exhibit.choice.images
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
                {**_map(exhibit, cells, own, own), "layer": step.layer or "trained",
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
        "model": exhibit.subjects[0].name,
        "images": len(images),
        "rows": [
            (step.layer or "none (as trained)", _signed(step.mean_spearman),
             _signed(step.mean_pearson))
            for step in checks.cascade
        ],
        "strips": strips,
    }  # fmt: skip


def _signed(value: float) -> str:
    return "no value" if value != value else f"{value:.2f}".replace("-", "−")
