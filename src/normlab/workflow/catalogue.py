"""The catalogue of methods as pages: the table, one method, docs/norms.md and its pictures.

What is measured comes from two records next to this module: ``proof.json``, written by
``python -m norms.proof`` in ``tests/``, and ``steps.json``, written by ``benchmarks/catalogue.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import InputError, did_you_mean
from ..files import write_text
from ..foreign import is_ours
from ..norms import CATALOG, FAMILIES, NormSpec
from ..norms.axes import kinds_of
from ..norms.describe import facts, formula, year
from ..norms.pictures import describe_picture, picture
from ..norms.places import kinds_of_place
from ..pages.tables import markdown_text
from ..pages.words import counted, listed
from ..training.costs import Cost, cost

_WAYS = {
    "compiled": " bn's time with compiled kernels",
    "torch": " bn's time without compiled kernels",
}
"""How layers are computed, in the order in which it is said."""
MUCH = 1.5
"""A step that takes so many times bn's is said to."""
INNER = next(place for place in kinds_of_place() if place.position == "inner")
"""Inside the first block of a network."""
PICTURES = "images/norms"
"""Where docs/norms.md finds them."""

_HEAD = f"""\
# Normalizations

x has shape (N, C, H, W): images, channels, height and width; G is the number of groups. Statistics
are float32 (float64 for float64 input), and the output has the input's type and memory format.
Weight starts at 1 and bias at 0, one of each per channel, unless a method says otherwise.

In a picture, filled cells share one set of statistics. In the column *pools*, a letter is an axis
that a set takes whole, a small letter one that it takes in part, and a dot one along which it takes
a single index. In a formula, `mean`, `var` and `ms` are the mean, the variance and the mean of the
squares of a set; where there are several kinds of sets, their axes follow, and `xhat` is
`(x - mean) / √(var + eps)`. In a formula of filters, `w` is the parameter of the convolution, and
`mean`, `var` and `norm` are those of the n weights of a filter.

This page is printed by `normlab norms --markdown`, its pictures by `normlab norms --pictures
docs/{PICTURES}`. `normlab norms NAME` shows one method in the terminal.
"""

_COSTS = """\
Costs are measured on the layers, at a convolution inside a block: parameters besides those of a
plain convolution; operations of PyTorch over a whole activation, forward + backward; activations
that stay in memory for backward, beyond those that plain convolutions and a ReLU keep. An operation
may go over the activation more than once inside, as PyTorch's batch norm does. Where a method's
table says that kernels in C compute it, one call forward and one backward do all of it, with the
sum and the ReLU if these follow it.
"""


@dataclass(frozen=True)
class Row:
    """A method in the table.

    Attributes:
        spec: what it is.
        pools: the axes of each kind of set, compact.
        cost: at a convolution inside a block.
    """

    spec: NormSpec
    pools: tuple[str, ...]
    cost: Cost

    @property
    def operations(self) -> str:
        """Forward and backward."""
        return f"{self.cost.forward} + {self.cost.backward}"

    @property
    def kept(self) -> str:
        """Activations."""
        return f"{self.cost.kept:.1f}"

    @property
    def year(self) -> str:
        """Of the paper, or nothing."""
        return year(self.spec)


def named(name: str) -> NormSpec:
    """The spec with this name.

    Raises:
        InputError: there is none.
    """
    if name not in CATALOG:
        head = name.partition(":")[0]  # an arm may have options
        raise InputError(
            f"There is no normalization {name!r}{did_you_mean(head, CATALOG)}. Known are "
            f"{', '.join(CATALOG)}."
        )
    return CATALOG[name]


def table() -> dict[str, list[Row]]:
    """The methods by family, the families by their titles; empty ones are left out."""
    rows: dict[str, list[Row]] = {title: [] for title in FAMILIES.values()}
    for spec in CATALOG.values():
        rows[FAMILIES[spec.family]].append(Row(spec, pools(spec), cost(spec.name, INNER)))
    return {title: found for title, found in rows.items() if found}


def pools(spec: NormSpec) -> tuple[str, ...]:
    """The axes of each kind of set, compact.

    >>> pools(CATALOG["bin"])
    ('N · HW', '· · HW')
    """
    return tuple("filters " * kind.filters + kind.axes.letters for kind in kinds_of(spec))


def entry(spec: NormSpec) -> dict[str, str]:
    """All that there is to say about a method, label to text."""
    said = {**facts(spec), "cost": cost_in_words(spec), "proof": proof_in_words(spec)}
    said |= {"fails": spec.fails, "source": spec.citation}
    return {label: text for label, text in said.items() if text}


def parameters(found: Cost) -> str:
    """Their number for C channels.

    >>> parameters(Cost(16.0, 3.0, 0, 0, 0.0)), parameters(Cost(1.0, 0.0, 0, 0, 0.0))
    ('16C + 3', 'C')
    """
    each = "" if found.per_channel == 1 else f"{found.per_channel:g}"
    per_channel = f"{each}C" if found.per_channel else ""
    other = f"{found.other:g}" if found.other else ""
    return " + ".join(filter(None, [per_channel, other])) or "0"


def cost_in_words(spec: NormSpec) -> str:
    """What a method costs inside a block, at its end where that differs, and in time where it is
    much."""
    ends = [place for place in kinds_of_place() if place.position == "last"]
    with_more = [place for place in ends if spec.parts.after_sum(place) is not None]
    where = "With what stands after a block's sum" if with_more else "At its end"
    inner, last = cost(spec.name, INNER), cost(spec.name, (with_more or ends)[0])
    said = [f"{_figures(inner)}."]
    if _figures(inner) != _figures(last):
        said = [f"Inside a block: {_figures(inner)}.", f"{where}: {_figures(last)}."]
    return " ".join([*said, *_slow(spec.name)])


def _slow(name: str) -> list[str]:
    """A sentence on a method's step where it takes much more time than bn's."""
    ratios = _steps()["ratios"]
    found = {way: ratios[way][name] for way in ratios if name in ratios[way]}
    if all(ratio["median"] <= MUCH for ratio in found.values()):
        return []
    said = [
        f"{ratio['median']:.2f} times{_WAYS[way]} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        for way, ratio in found.items()
    ]
    return [f"A step of training takes {listed(said)}."]


def _figures(found: Cost) -> str:
    kept = f"{found.kept:.1f}"
    return (
        f"{parameters(found)} parameters, {found.forward} + {found.backward} operations over an "
        f"activation, {kept} activations kept"
    )


def proof_in_words(spec: NormSpec) -> str:
    """Which checks hold the layers of a method, and how many planted mistakes they find."""
    if not is_ours(spec.layer.__module__):
        return "the layer of PyTorch itself, which others are compared with"
    parts = _proof()["methods"].get(spec.name, [])
    named_parts = [part["part"] for part in parts] != [spec.layer.__name__]
    return ". ".join(f"{part['part']}: " * named_parts + _held(part) for part in parts)


def _held(part: Mapping[str, Any]) -> str:
    checks, mistakes = len(part["checks"]), part["mistakes"]
    said = (
        f"{counted(checks, 'check')} of the suite hold{'s' * (checks == 1)} it; "
        f"{counted(mistakes, 'planted mistake')}, {'each ' * (mistakes > 1)}found"
    )
    for check, reason in part["unlike"].items():
        said += f"; not held: {_check(check)} ({reason.rstrip('.')})"
    return said


def as_markdown() -> str:
    """docs/norms.md."""
    rows = table()
    parts = [_HEAD]
    parts += [_contents(rows), _COSTS, *_about_steps()]
    for title, found in rows.items():
        parts.append(f"## {title}\n")
        parts += [section(row.spec) for row in found]
    parts.append(_about_proof())
    return "\n".join(parts)


def write_pictures(folder: Path) -> list[Path]:
    """A picture of every method: NAME.svg.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for spec in CATALOG.values():
            write_text(folder / f"{spec.name}.svg", picture(spec))
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    return [folder / f"{name}.svg" for name in CATALOG]


def _contents(families: Mapping[str, list[Row]]) -> str:
    lines = [
        "| method | | pools | parameters | operations | kept | year |",
        "| --- | --- | --- | --- | ---: | ---: | --- |",
    ]
    for title, rows in families.items():
        lines.append(f"| | **{title}** | | | | | |")
        for row in rows:
            cells = [
                f"[`{row.spec.name}`](#{_anchor(row.spec)})",
                markdown_text(row.spec.title),
                "<br>".join(f"`{letters}`" for letters in row.pools),
                parameters(row.cost),
                row.operations,
                row.kept,
                row.year,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def section(spec: NormSpec) -> str:
    """A method's section of docs/norms.md."""
    said = entry(spec)
    last = {label: said.pop(label, "") for label in ("proof", "cost", "fails", "source")}
    rows = "\n".join(f"| {label} | {markdown_text(text)} |" for label, text in said.items())
    heads = {"proof": "Proof", "cost": "Cost", "fails": "When it fails", "source": "Source"}
    ends = [
        f"**{heads[label]}:** {markdown_text(_sentence(text, capital=label != 'source'))}\n"
        for label, text in last.items()
        if text
    ]
    return (
        f"### `{spec.name}`: {markdown_text(spec.title)}\n\n"
        f"![{describe_picture(spec)}]({PICTURES}/{spec.name}.svg)\n\n"
        f"```text\n{formula(spec)}\n```\n\n"
        f"| | |\n| --- | --- |\n{rows}\n\n" + "\n".join(ends)
    )


def _anchor(spec: NormSpec) -> str:
    """Of a method's section, as GitHub and the site make it from the head."""
    kept = [c for c in f"{spec.name}: {spec.title}".lower() if c.isalnum() or c in " -_"]
    return "".join(kept).replace(" ", "-")


def _sentence(text: str, *, capital: bool) -> str:
    said = text[:1].upper() + text[1:] if capital else text
    return said if said.endswith(".") else f"{said}."


def _about_steps() -> list[str]:
    steps = _steps()
    if not steps["ratios"]:
        return []
    measured = set.intersection(*(set(found) for found in steps["ratios"].values()))
    missing = [f"`{name}`" for name in CATALOG if name not in measured]
    said = (
        f"A method whose step of training takes more than {MUCH:g} times as long as bn's says so. "
        f"`python benchmarks/catalogue.py` measured {steps['setting']} ({steps['machine']}; "
        f"{steps['versions']}): the median of the ratios, and their quartiles in brackets."
    )
    if missing:
        said += f" It has not measured {listed(missing)}."
    return [f"{said}\n"]


def _about_proof() -> str:
    proof = _proof()
    held = {
        check: len(
            {
                part["part"]
                for parts in proof["methods"].values()
                for part in parts
                if check in part["checks"]
            }
        )
        for check in proof["checks"]
    }
    rows = "\n".join(
        f"| {_check(check)} | {markdown_text(about)} | {held[check]} |"
        for check, about in proof["checks"].items()
    )
    return (
        "## What holds them\n\n"
        "The conformance suite in `tests/norms` makes its checks from the specs. To see that a "
        "check finds something, mistakes are planted in the layers, and each must be found by the "
        "check that is there for it. `make docs` counts both in the suite itself.\n\n"
        f"| check | | layers |\n| --- | --- | ---: |\n{rows}\n"
    )


def _check(name: str) -> str:
    return name.replace("_", " ")


@cache
def _proof() -> Mapping[str, Any]:
    return _record("proof.json")


@cache
def _steps() -> Mapping[str, Any]:
    return _record("steps.json")


def _record(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(
        resources.files(__package__).joinpath("measured", name).read_text(encoding="utf-8")
    )
    return found
