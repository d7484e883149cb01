"""How an arm is drawn: one colour and dash pattern, the same in every chart and study.

The colours of the experiment's arms were chosen for least confusion under normal sight,
protanopia, deuteranopia and tritanopia at 3:1 or more against the ground, light and dark; dash
patterns stand in where a colour fails. The catalogue's other methods have hues of their families.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..results import Results

Dash = tuple[float, ...]


@dataclass(frozen=True)
class Style:
    """Colour on a light and on a dark ground, and dash pattern (empty: solid).

    ``turn`` is how far the hue of its shades lies from its own, in degrees: two arms of one hue
    differ in lightness, which their shades cannot.
    """

    light: str
    dark: str
    dash: Dash
    turn: float = 0.0

    @property
    def dasharray(self) -> str:
        """The dash pattern for SVG."""
        return " ".join(f"{length:g}" for length in self.dash)


EXPERIMENT = {
    "torch_bn": Style("#0c41a8", "#4580fe", (7, 3), turn=30),
    "bn": Style("#b4500a", "#f4511e", ()),
    "in": Style("#12806c", "#22bc93", (2, 2)),
    "bin": Style("#cf66bc", "#b566b0", (9, 2, 2, 2)),
    "ln": Style("#9c944f", "#e8c533", (12, 3)),
    "gn": Style("#2f7bff", "#a4b4fc", (4, 2), turn=-35),
    "none": Style("#464646", "#e4e4e4", (1, 2)),
}
"""The arms that most studies have."""

MANY = 12
"""A study of more arms shows them by family, and folds what it says of each."""
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "batch": (
        "torch_bn", "bn", "sync_bn", "ghost_bn", "batch_renorm", "extended_bn", "frozen_bn",
    ),
    "sample": (
        "in", "ln", "gn", "rms", "pixel_ln", "position", "frn", "frn_tlu", "evonorm_s0", "grn",
        "lrn", "divisive", "proxy_gn",
    ),
    "both": ("bin", "evonorm_b0", "switchable", "ibn_a", "ibn_b", "iebn"),
    "weights": ("weight_norm", "ws", "gn+ws", "scaled_ws"),
    "without": ("none", "fixup", "skipinit", "dyt", "derf"),
}  # fmt: skip
"""The catalogue's methods by their families, as far as they have colours of their own. A report is
made without PyTorch, and so without the catalogue."""
_GROUPS = {
    "batch": "batch statistics",
    "sample": "sample statistics",
    "both": "batch and sample",
    "weights": "normalized weights",
    "without": "no normalization",
}
_HUES = {
    "batch": (8.0, 88.0, 0.14),
    "sample": (115.0, 235.0, 0.11),
    "both": (312.0, 352.0, 0.18),
    "weights": (280.0, 310.0, 0.17),
    "without": (190.0, 290.0, 0.045),
}
"""Of each family: hues in degrees, from and to, and chroma (Oklch)."""

OTHERS = (
    Style("#8a1c4a", "#ff8fb3", ()),
    Style("#4f7f1f", "#9ccc5a", (7, 3)),
    Style("#6b4fb3", "#b79cff", (2, 2)),
    Style("#8c5a2b", "#d8a873", (9, 2, 2, 2)),
    Style("#00758f", "#5cc8e0", (12, 3)),
)
"""For layers that are not listed above, in the order of the study, over and over."""

_DASHES: tuple[Dash, ...] = ((), (7, 3), (2, 2), (9, 2, 2, 2), (12, 3), (4, 2))
_TONES = ((0.42, 0.72), (0.56, 0.86), (0.49, 0.64), (0.60, 0.79))
"""Lightness on a light and on a dark ground, in turn."""


def styles(results: Results) -> dict[str, Style]:
    """A style for every arm of a study, see :func:`styles_of`."""
    found = styles_of(results.question["arms"])
    return {arm: found[arm] for arm in results.arms}


def styles_of(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Style]:
    """A style for each name, by the layer in its field ``norm``.

    Those of one layer (``bn,batch_size=8``, ``gn:groups=4``) are a family: shades of the layer's
    colour from dark to light, each with another dash pattern.
    """
    groups: dict[str, list[str]] = {}
    for arm, fields in arms.items():
        groups.setdefault(_layer(str(fields.get("norm", arm))), []).append(arm)
    unlisted = iter(range(len(groups)))
    found: dict[str, Style] = {}
    for layer, members in groups.items():
        own = CATALOGUE.get(layer) or OTHERS[next(unlisted) % len(OTHERS)]
        variants = [arm for arm in members if arm != layer]
        if layer in members:
            found[layer] = own
        elif len(variants) == 1:
            found[variants.pop()] = own
        for index, arm in enumerate(variants):
            found[arm] = Style(
                _shade(own.light, own.turn, index, len(variants), 0.34, 0.68),
                _shade(own.dark, own.turn, index, len(variants), 0.58, 0.88),
                _DASHES[index % len(_DASHES)],
            )
    return found


def families(results: Results) -> dict[str, list[str]]:
    """Groups of arms that one looks at alone; nothing where there are none.

    Where several layers vary in something else too, these are the layers: the batch sizes of bn,
    those of gn. Where there are many arms, they are the families of the catalogue.
    """
    layers: dict[str, list[str]] = {}
    for arm in results.arms:
        layers.setdefault(_norm(results, arm), []).append(arm)
    if len(layers) <= MANY:
        grouped = len(layers) > 1 and any(len(members) > 1 for members in layers.values())
        return layers if grouped else {}
    of_method = {method: _GROUPS[name] for name, methods in FAMILIES.items() for method in methods}
    found: dict[str, list[str]] = {}
    for arm in results.arms:
        found.setdefault(of_method.get(_layer(_norm(results, arm)), "others"), []).append(arm)
    return found if len(found) > 1 else {}


def _norm(results: Results, arm: str) -> str:
    return str(results.question["arms"][arm].get("norm", arm))


def _layer(norm: str) -> str:
    """The layer without its options."""
    return ":".join(part for part in norm.split(":") if "=" not in part)


def _shade(
    colour: str, turn: float, index: int, count: int, darkest: float, lightest: float
) -> str:
    """The colour at another lightness, its hue turned a little with it."""
    share = index / max(1, count - 1)
    _, chroma, hue = _to_oklch(colour)
    hue += math.radians(turn + 40 * (share - 0.5))
    return _from_oklch(darkest + (lightest - darkest) * share, chroma, hue)


def _to_oklch(colour: str) -> tuple[float, float, float]:
    """Lightness, chroma and hue in Oklab (Ottosson 2020)."""
    r, g, b = (_linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    middle = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    lightness = 0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short
    return lightness, math.hypot(a, b), math.atan2(b, a)


def _from_oklch(lightness: float, chroma: float, hue: float) -> str:
    """As #rrggbb; the chroma is lowered where the screen has no such colour."""
    while True:
        a, b = chroma * math.cos(hue), chroma * math.sin(hue)
        long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
        middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
        short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
        channels = (
            4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
        )
        if chroma < 1e-3 or all(-1e-4 <= value <= 1.0001 for value in channels):
            return "#" + "".join(f"{round(255 * _gamma(value)):02x}" for value in channels)
        chroma *= 0.95


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _gamma(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _methods() -> dict[str, Style]:
    """The styles of all methods: hues from one end of the family's to the other, in several
    lightnesses, so that neighbours differ in both; and with another dash pattern."""
    found = dict(EXPERIMENT)
    for family, methods in FAMILIES.items():
        start, end, chroma = _HUES[family]
        others = [method for method in methods if method not in found]
        for index, method in enumerate(others):
            hue = math.radians(start + (end - start) * index / max(1, len(others) - 1))
            light, dark = _TONES[index % len(_TONES)]
            found[method] = Style(
                _from_oklch(light, chroma, hue),
                _from_oklch(dark, chroma, hue),
                _DASHES[index % len(_DASHES)],
            )
    return found


CATALOGUE: Mapping[str, Style] = _methods()
"""The style of every method of the catalogue that has one of its own."""
