"""A small picture of each method, made from its spec: which values share one set of statistics.

The cube of Wu & He 2018, figure 2, drawn anew: channels to the right, positions downwards, images
to the back. Methods that normalize weights have a bank of filters, methods without statistics the
curve of their layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

import torch
from torch import nn

from .axes import Axes, Extent, kinds_of
from .spec import NormSpec

_STYLE = """\
.cell { fill: #8a93a3; fill-opacity: .14 }
.cell { stroke: #7d8694; stroke-width: .8; stroke-linejoin: round }
.set { fill: #e8731a; fill-opacity: .92; stroke: #8f3f00 }
.top { fill-opacity: .07 } .top.set { fill-opacity: .68 }
.side { fill-opacity: .22 } .side.set { fill-opacity: .8 }
.line { fill: none; stroke: #e8731a; stroke-width: 2.4; stroke-linejoin: round }
.axis { stroke: #7d8694; stroke-width: .8 }
text { fill: #5c6470; font: 11px system-ui, sans-serif; text-anchor: middle }
@media (prefers-color-scheme: dark) {
  .cell { fill: #aab4c4; stroke: #8d97a6 }
  .set { fill: #ff8f3f; stroke: #ffc79e }
  .line { stroke: #ff8f3f }
  text { fill: #b4bcc8 }
}"""
_CELL, _DEEP = 15.0, (9.0, -6.0)
_WIDE, _HIGH, _LONG = 6, 4, 4
"""Cells of the cube: channels, positions, images."""
_FILTERS, _KERNEL, _READ = 4, 3, 4
Point = tuple[float, float]


def picture(spec: NormSpec) -> str:
    """The picture of a method as SVG, for light and dark grounds, with its description.

    >>> from normlab.norms import CATALOG
    >>> picture(CATALOG["bn"]).startswith("<svg xmlns")
    True
    """
    drawn, width, height = _drawn(spec)
    about = describe_picture(spec)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-labelledby="t d">\n'
        f'<title id="t">{escape(spec.title)}</title>\n<desc id="d">{escape(about)}</desc>\n'
        f"<style>\n{_STYLE}\n</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


def describe_picture(spec: NormSpec) -> str:
    """What the picture shows, for those who do not see it."""
    kinds = kinds_of(spec)
    if kinds:
        sets = "; ".join(kind.words for kind in kinds)
        each = "One set of statistics takes" if len(kinds) == 1 else "The sets of statistics take"
        return f"{each} {sets}."
    if _curve(spec) is not None:
        return "No statistics of the input: the output as a function of the input, value by value."
    return "No statistics of the input: no value depends on another."


def _drawn(spec: NormSpec) -> tuple[list[str], float, float]:
    """Elements, width and height."""
    kinds = kinds_of(spec)
    if kinds:
        return _side_by_side([(_bank if kind.filters else _cube)(kind.axes) for kind in kinds])
    curve = _curve(spec)
    return _side_by_side([_plot(curve)]) if curve is not None else _side_by_side([_cube(None)])


def _side_by_side(
    parts: list[tuple[list[str], float, float]],
) -> tuple[list[str], float, float]:
    shift, height, drawn = 0.0, max(part[2] for part in parts), []
    for elements, width, _ in parts:
        drawn += [f'<g transform="translate({shift:g} 0)">', *elements, "</g>"]
        shift += width
    return drawn, shift, height


def _cube(axes: Axes | None) -> tuple[list[str], float, float]:
    """One cube; no cell is filled where there are no statistics."""
    left, top = 36.0, 34.0
    box = _Box((left, top), (_WIDE, _HIGH, _LONG), _CELL, _DEEP)
    # A set at the corner that is seen from all three sides.
    channels, positions, images = set[int](), set[int](), set[int]()
    if axes is not None:
        channels = _taken(axes.c, _WIDE, from_end=True)
        positions, images = _taken(axes.hw, _HIGH), _taken(axes.n, _LONG)

    def in_set(channel: int, position: int, image: int) -> bool:
        return channel in channels and position in positions and image in images

    front, depth = _WIDE * _CELL, (_LONG * _DEEP[0], _LONG * _DEEP[1])
    labels = [
        _text("C", left + front / 2, top + _HIGH * _CELL + 14),
        _text("H, W", left - 18, top + _HIGH * _CELL / 2 + 4),
        _text("N", left + front + depth[0] / 2 + 10, top + _HIGH * _CELL + depth[1] / 2 + 10),
    ]
    return (
        [*box.faces(in_set), *labels],
        left + front + depth[0] + 16,
        top + _HIGH * _CELL + 22,
    )


def _bank(axes: Axes) -> tuple[list[str], float, float]:
    """A row of filters, each with a kernel in front and its channels behind it."""
    cell, deep, gap = 12.0, (6.0, -4.0), 16.0
    top, filters, read = 26.0, _taken(axes.n, _FILTERS), _taken(axes.c, _READ)
    kernel = set(range(_KERNEL)) if axes.hw == "all" else {0}
    drawn, left = [], 8.0
    for index in range(_FILTERS):

        def in_set(w: int, h: int, c: int, here: bool = index in filters) -> bool:
            return here and c in read and w in kernel and h in kernel

        drawn += _Box((left, top), (_KERNEL, _KERNEL, _READ), cell, deep).faces(in_set)
        left += _KERNEL * cell + _READ * deep[0] + gap
    drawn.append(_text("filters", left / 2, top + _KERNEL * cell + 16))
    return drawn, left - gap + 8, top + _KERNEL * cell + 24


class _Box:
    """A box of cells: across, down and to the back."""

    def __init__(
        self, corner: Point, cells: tuple[int, int, int], cell: float, deep: Point
    ) -> None:
        self.corner, self.cells, self.cell, self.deep = corner, cells, cell, deep

    def at(self, across: float, down: float, back: float) -> Point:
        x, y = self.corner
        return (
            x + across * self.cell + back * self.deep[0],
            y + down * self.cell + back * self.deep[1],
        )

    def faces(self, in_set: Callable[[int, int, int], bool]) -> list[str]:
        """The cells of the three faces that are seen, those of the set last: over the others."""
        a, d, b = self.cells
        found = []
        for i in range(a):
            for k in range(b):
                corners = [(i, 0, k), (i + 1, 0, k), (i + 1, 0, k + 1), (i, 0, k + 1)]
                found.append(self._cell("top", in_set(i, 0, k), corners))
        for j in range(d):
            for k in range(b):
                corners = [(a, j, k), (a, j, k + 1), (a, j + 1, k + 1), (a, j + 1, k)]
                found.append(self._cell("side", in_set(a - 1, j, k), corners))
        for i in range(a):
            for j in range(d):
                corners = [(i, j, 0), (i + 1, j, 0), (i + 1, j + 1, 0), (i, j + 1, 0)]
                found.append(self._cell("front", in_set(i, j, 0), corners))
        return [element for _, element in sorted(found, key=lambda one: one[0])]

    def _cell(
        self, face: str, filled: bool, corners: Iterable[tuple[int, int, int]]
    ) -> tuple[bool, str]:
        points = " ".join(f"{x:g},{y:g}" for x, y in (self.at(*corner) for corner in corners))
        return filled, f'<polygon class="cell {face}{" set" * filled}" points="{points}"/>'


def _taken(extent: Extent, whole: int, *, from_end: bool = False) -> set[int]:
    count = {"all": whole, "part": whole // 2, "one": 1}[extent]
    return set(range(whole - count, whole)) if from_end else set(range(count))


def _text(text: str, x: float, y: float) -> str:
    return f'<text x="{x:g}" y="{y:g}">{text}</text>'


def _curve(spec: NormSpec) -> list[Point] | None:
    """The output of a fresh layer for inputs from -4 to 4, if it is no straight line."""
    if spec.family != "without":
        return None
    inputs = torch.linspace(-4.0, 4.0, 65, dtype=torch.float64)
    layer: nn.Module = spec.layer(8).double()
    with torch.no_grad():
        outputs = layer(inputs.view(1, 1, 1, -1).expand(1, 8, 1, -1))[0, 0, 0]
    bends = outputs.diff().diff().abs().max().item()
    if not math.isfinite(bends) or bends < 1e-6:
        return None
    return list(zip(inputs.tolist(), outputs.tolist(), strict=True))


def _plot(curve: list[Point]) -> tuple[list[str], float, float]:
    """Input to the right, output upwards."""
    wide, high, edge = 150.0, 100.0, 14.0
    most = max(abs(y) for _, y in curve)
    points = " ".join(
        f"{edge + (x + 4) / 8 * wide:.2f},{edge + (1 - y / most) / 2 * high:.2f}" for x, y in curve
    )
    middle, centre = edge + high / 2, edge + wide / 2
    drawn = [
        f'<line class="axis" x1="{edge:g}" y1="{middle:g}" x2="{edge + wide:g}" y2="{middle:g}"/>',
        f'<line class="axis" x1="{centre:g}" y1="{edge:g}" x2="{centre:g}" y2="{edge + high:g}"/>',
        f'<polyline class="line" points="{points}"/>',
        _text("x", edge + wide - 4, middle + 14),
        _text("y", centre - 10, edge + 8),
    ]
    return drawn, wide + 2 * edge, high + 2 * edge
