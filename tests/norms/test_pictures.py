"""What the pages draw and say of a method is what its spec and its layer are."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from torch import Tensor, nn

import normlab.norms
from normlab.norms import CATALOG, NormSpec, Parts, Place, PlainNorm2d
from normlab.norms.axes import kinds_of, read_axes
from normlab.norms.describe import facts, formula, in_network, year
from normlab.norms.formulas import readable
from normlab.norms.pictures import describe_picture, picture
from normlab.norms.places import kinds_of_place

from . import reference

SVG = "{http://www.w3.org/2000/svg}"


class Squashed2d(PlainNorm2d):
    """A layer without statistics."""

    def _formula(self, x: Tensor) -> Tensor:
        return x.tanh()


def cells(spec: NormSpec) -> dict[str, list[int]]:
    """Filled and all cells of each face."""
    found: dict[str, list[int]] = {}
    for polygon in ElementTree.fromstring(picture(spec)).iter(f"{SVG}polygon"):
        _, face, *filled = polygon.attrib["class"].split()
        counts = found.setdefault(face, [0, 0])
        counts[0] += bool(filled)
        counts[1] += 1
    return found


def of(axes: str, **others: object) -> NormSpec:
    return replace(CATALOG["in"], axes=(axes,), **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("axes", "front", "top", "side"),
    [
        ("NHW", 4, 4, 16),
        ("HW", 4, 1, 4),
        ("CHW", 24, 6, 4),
        ("(C/G)HW", 12, 3, 4),
        ("C", 6, 6, 1),
        ("NCHW", 24, 24, 16),
        ("(N/G)HW", 4, 2, 8),
        ("C window", 3, 3, 1),
        ("HW windows", 2, 1, 2),
        ("CHW windows", 12, 6, 2),
    ],
)
def test_the_cells_of_one_set_are_filled(axes: str, front: int, top: int, side: int) -> None:
    """Of six channels, four images and four positions."""
    assert cells(of(axes)) == {"front": [front, 24], "top": [top, 24], "side": [side, 16]}


@pytest.mark.parametrize("axes", ["NHW", "HW", "CHW", "(C/G)HW", "C", "NCHW"])
def test_words_and_letters_are_the_sets_of_the_reference(axes: str) -> None:
    """The drawing's axes and those by which the tests compute are read from one notation."""
    shape, groups = (4, 8, 2, 2), 2
    sets = reference.statistic_sets(axes, shape, groups).values()
    first = next(indices for indices in sets if (0, 0, 0, 0) in indices)
    read = read_axes(axes)
    for extent, axis in ((read.n, 0), (read.c, 1), (read.hw, 2)):
        size = len({index[axis] for index in first})
        assert size == {"all": shape[axis], "part": shape[axis] // 2, "one": 1}[extent]


def test_two_kinds_of_sets_have_two_cubes() -> None:
    assert cells(CATALOG["bin"])["front"] == [8, 48]


def test_weights_have_a_bank_of_filters() -> None:
    spec = replace(of(""), axes=(), filters="w / norm")
    assert cells(spec) == {"front": [9, 36], "top": [12, 48], "side": [12, 48]}
    assert describe_picture(spec) == (
        "One set of statistics takes one filter, all its channels, all its positions."
    )
    both = of("(C/G)HW", filters="w / norm")
    assert cells(both)["front"] == [9 + 12, 36 + 24]
    assert formula(both).startswith("w' = w / norm\ny = ")


def test_without_statistics_there_is_a_curve_if_it_bends() -> None:
    spec = replace(of(""), axes=(), family="without", layer=Squashed2d)
    drawn = ElementTree.fromstring(picture(spec))
    (line,) = drawn.iter(f"{SVG}polyline")
    points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
    # Upwards is less in SVG: it rises, and least at the ends.
    rises = [before[1] - after[1] for before, after in itertools.pairwise(points)]
    assert min(rises) >= 0
    assert rises[0] < rises[len(rises) // 2]
    assert all(filled == 0 for filled, _ in cells(CATALOG["none"]).values())


@pytest.mark.parametrize("spec", CATALOG.values(), ids=list(CATALOG))
def test_every_method_can_be_shown(spec: NormSpec) -> None:
    drawn = ElementTree.fromstring(picture(spec))
    assert drawn.findtext(f"{SVG}title") == spec.title
    assert drawn.findtext(f"{SVG}desc") == describe_picture(spec)
    assert len(kinds_of(spec)) == len(spec.axes) + bool(spec.filters)
    said = facts(spec)
    package = nn if said["layer"].startswith("torch.nn.") else normlab.norms
    assert getattr(package, said["layer"].rpartition(".")[2]) is spec.layer
    assert spec.name == "none" or re.fullmatch(r"(19|20)\d\d", year(spec))


@pytest.mark.parametrize("axes", ["", "X", "WH", "H", "N(C/G", "HWC", "windows", "N windows"])
def test_other_axes_are_refused(axes: str) -> None:
    with pytest.raises(ValueError, match="are not of N, C, H and W"):
        read_axes(axes)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("x - (a - b)", "x − (a − b)"),
        ("x / (a * b) * c", "x / (a · b) · c"),
        ("weight * tanh(alpha * x) ** 2 + bias", "weight · tanh(alpha · x)² + bias"),
        ("(a + b) ** n", "(a + b)^n"),
        ("(a ** b) ** c", "(a^b)^c"),
        ("-(a + b)", "−(a + b)"),
        ("x where it is positive", "x where it is positive"),
    ],
)
def test_a_readable_formula_means_the_same(formula: str, expected: str) -> None:
    assert readable(formula) == expected


def test_parts_are_read_off_the_places() -> None:
    assert in_network(CATALOG["bn"]) == {}
    at_end = Parts(
        layer=lambda place: nn.Identity if place.position == "last" else None,
        activation=lambda place: nn.Tanh if place.position == "stem" else nn.ReLU,
        after_sum=lambda place: nn.BatchNorm2d if place.stage < 2 and place.block == 2 else None,
        weights=lambda place: 0.0 if place == Place("last", 2, 3, 0, 3) else 1.0,
        classifier=0.0,
    )
    assert in_network(of("HW", parts=at_end)) == {
        "after a convolution": "InstanceNorm2d; Identity at the last convolution of a block",
        "activation": "ReLU; Tanh at the network's first convolution",
        "after a block's sum": "BatchNorm2d in the last block of stages 1 and 2",
        "initial weights": "x1; x0 at the last convolution of a block in the first block of "
        "stage 3 (factors at three blocks per stage)",
        "initial classifier": "x0",
    }
    assert len(set(kinds_of_place())) == 1 + 3 * 9
