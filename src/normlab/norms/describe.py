"""The catalogue in words, for the terminal and the docs."""

from __future__ import annotations

from .catalog import CATALOG
from .spec import NormSpec

_HEAD = """\
# Normalizations

x has shape (N, C, H, W); G is the number of groups. Statistics are float32 (float64 for float64
input); output has the input's type and memory format. Weight starts at 1 and bias at 0, one of
each per channel. This page is printed by `normlab norms --markdown`.
"""


def facts(spec: NormSpec) -> dict[str, str]:
    """What there is to say about a method, label to text; what does not apply is omitted."""
    needs = [
        f"{name}: learning rate x{need.lr_scale:g}"
        + ("" if need.weight_decay else ", no weight decay")
        + ("" if need.clamp is None else f", clamped to {list(need.clamp)} after each step")
        + ("" if need.unit_clip is None else f", gradient clipped by unit at {need.unit_clip:g}")
        for name, need in spec.optimizer_needs.items()
    ]
    said = {
        "formula": f"y = {spec.formula}",
        "filters": spec.filters and f"weight = {spec.filters}",
        "statistics": ", and ".join(f"over {axes}" for axes in spec.axes),
        "variance": f"divided by {spec.variance}" if spec.variance else "",
        "running": f"variance divided by {spec.running_variance}; momentum weighs {spec.momentum}"
        if spec.running_variance
        else "",
        "eps": spec.eps_place,
        "evaluation": spec.evaluation,
        "buffers": ", ".join(spec.buffers),
        "options": ", ".join(f"{name}={value}" for name, value in spec.options.items()),
        "optimizer": "; ".join(needs),
        "convolution": "the one before it has " + ("a bias" if spec.conv_bias else "no bias"),
        "layer": f"{spec.layer.__module__.split('._')[0]}.{spec.layer.__name__}",
        "source": spec.citation,
    }
    return {label: text for label, text in said.items() if text}


def as_markdown() -> str:
    """docs/norms.md."""
    parts = [_HEAD]
    for spec in CATALOG.values():
        rows = "\n".join(f"| {label} | {text} |" for label, text in facts(spec).items())
        parts.append(f"## `{spec.name}`: {spec.title}\n\n| | |\n| --- | --- |\n{rows}\n")
    return "\n".join(parts)
