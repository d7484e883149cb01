"""A study of the whole catalogue: each arm can be told from others, and the page stays readable."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ElementTree

import pytest

from normlab.norms import CATALOG
from normlab.pages.tables import breakable
from normlab.report import Report
from normlab.report.page import render
from normlab.report.sections.curves import curve_chart as charts
from normlab.report.sections.target.times import time_to_target
from normlab.report.styles import CATALOGUE, FAMILIES, MANY, _to_oklch, families, styles
from normlab.report.vega import render as drawn
from normlab.results import Results, read_results

from .folders import make_study
from .test_charts import _contrast

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = ("gn:groups=2", "gn:groups=4")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every method with a style of its own, and two with options."""
    folder = tmp_path_factory.mktemp("report") / "all"
    late = {(arm, 0): "diverged at step 9" for arm in ("in", "ln", "grn", "lrn", "derf")}
    make_study(folder, arms=[*CATALOGUE, *GROUPS], epochs=3, ends=late, memory=False)
    return read_results(folder)


def test_methods_have_the_colours_of_their_families() -> None:
    """The report knows the families without PyTorch; they are those of the specs."""
    listed = {method: family for family, methods in FAMILIES.items() for method in methods}
    assert set(listed) == set(CATALOGUE)
    for spec in CATALOG.values():
        assert listed.get(spec.name, spec.family) == spec.family


def test_all_methods_can_be_told_apart(everything: Results) -> None:
    found = styles(everything)
    for tone, ground in (("light", "#ffffff"), ("dark", "#15181d")):
        for style in found.values():
            assert _contrast(getattr(style, tone), ground) >= 2.5
        for (one, a), (other, b) in itertools.combinations(CATALOGUE.items(), 2):
            apart = _distance(getattr(a, tone), getattr(b, tone))
            assert apart >= (0.06 if a.dash == b.dash else 0.02), (one, other)


def _distance(one: str, other: str) -> float:
    """In Oklab, where 0.02 can just be seen side by side."""
    points = []
    for colour in (one, other):
        lightness, chroma, hue = _to_oklch(colour)
        points.append((lightness, chroma * math.cos(hue), chroma * math.sin(hue)))
    return math.dist(*points)


def test_many_arms_are_grouped_by_family(everything: Results) -> None:
    found = families(everything)
    assert list(itertools.chain(*found.values())) != list(everything.arms)
    assert sorted(itertools.chain(*found.values())) == sorted(everything.arms)
    assert found["sample statistics"][-2:] == list(GROUPS)
    assert found["no normalization"] == ["none", "fixup", "skipinit", "dyt", "derf"]
    assert families(everything.only(list(everything.arms)[:MANY])) == {}


def test_a_legend_names_every_arm(everything: Results) -> None:
    spec = charts.curve_spec(everything, 3)
    spec["data"]["values"] = charts.rows(charts.lines(everything), "val", "accuracy")
    svg, _ = drawn(spec, (0, 100), "Validation accuracy")
    texts = {"".join(e.itertext()) for e in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert set(everything.arms) <= texts


def test_what_is_not_decided_is_folded(everything: Results) -> None:
    text = render(Report(everything))
    undecided = [c for c in Report(everything).judgement.comparisons if not c.verdict.decided]
    assert undecided
    assert f"Each of the {len(undecided)} that are not decided" in text
    assert f"Each of the {len(everything.arms)} arms</summary>" in text
    buttons = text.index("only batch statistics")
    assert buttons < text.index('data-arm="torch_bn"')


def test_few_arms_are_shown_as_they_were(main_study: Results) -> None:
    text = render(Report(main_study))
    assert "that are not decided</summary>" not in text
    assert "arms</summary>" not in text
    assert text.index('data-arm="torch_bn"') < text.index("show all")


def test_arms_that_are_late_share_a_sentence(everything: Results) -> None:
    found = time_to_target(Report(everything, target=0.9))
    assert found is not None
    (shared,) = (note for note in found.notes() if "relative to bn" in note)
    assert "in, ln, " in shared
    assert "have no value relative to bn: some of their runs never reached the target" in shared


@pytest.mark.parametrize("name", ["torch_bn", "batch_renorm", "gn:groups=16", "bn,lr=0.1"])
def test_a_long_name_breaks_between_its_parts(name: str) -> None:
    said = str(breakable(name))
    assert said.replace("<wbr>", "") == name
    assert ("<wbr>" in said) == (name != "torch_bn")
    assert max(map(len, said.split("<wbr>"))) < 10
