"""What a terminal says: one short line per verdict, per finding, per tuned setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from normlab.pages.findings import Finding, Level
from normlab.report import terminal
from normlab.report.numbers import bracket, places, signed
from normlab.results import Results, read_results
from normlab.results.statistics import judge
from simulated import simulated

from .test_tuned import make_tuned

BN = [0.800, 0.810, 0.805, 0.795]


def test_one_line_per_comparison_with_aligned_columns() -> None:
    arms = {
        "bn": BN,
        "worse": [v - 0.04 + d for v, d in zip(BN, (0.001, -0.001, 0, 0), strict=True)],
        "equal": [v + d for v, d in zip(BN, (0.0004, -0.0004, 0, 0), strict=True)],
        "unknown": [0.81, 0.78, 0.82, 0.80],
    }
    results = simulated(arms)
    headline, *lines = terminal.verdict_lines(results)
    assert headline.startswith("Of 3 arms compared with bn on these test images, 1 is worse")
    assert [line.split()[:2] for line in lines] == [
        ["worse", "worse"], ["equal", "equivalent"], ["unknown", "inconclusive"],
    ]  # fmt: skip
    for line, found in zip(lines, judge(results).comparisons, strict=True):
        assert found.difference is not None
        assert found.interval is not None
        assert bracket(found.interval) in line
        assert signed(found.difference.mean, places(found.interval)) in line
    assert len({line.index("[") for line in lines[:1]}) == 1
    assert len({line.index(line.split()[1], len(line.split()[0])) for line in lines}) == 1
    assert lines[2].endswith(" seeds")
    assert " needs " in lines[2]
    assert " needs " not in lines[0]
    assert max(map(len, lines)) < 100


def test_a_single_comparison_names_both_arms() -> None:
    (line,) = terminal.verdict_lines(simulated({"bn": BN, "gn": [v - 0.04 for v in BN]}))
    assert line.startswith("gn against bn  worse  −4.00 [")


def test_what_is_missing_is_said() -> None:
    lost: list[float | None] = [0.90, 0.905, 0.90, None]
    gn, none = terminal.verdict_lines(simulated({"bn": BN, "gn": lost, "none": [None] * 4}))[1:]
    assert gn.endswith("1 of 4 runs of gn diverged")
    assert "withheld" in gn
    assert none.split("  ")[0] == "none"
    assert none.endswith("all 4 runs of none diverged")
    headline, one, _ = terminal.verdict_lines(simulated({"bn": [0.8], "gn": [0.7], "ln": [0.9]}))
    assert headline.startswith("A single run per arm cannot answer this")
    assert one.split("  ") == ["gn", "no verdict", "−10.0", "needs 2 more seeds"]
    assert terminal.verdict_lines(simulated({"bn": BN})) == [
        "bn was run alone, so there is nothing to compare it with."
    ]


def test_tuned_settings_are_a_line_each(tmp_path: Path) -> None:
    results = read_results(make_tuned(tmp_path / "s"))
    last = terminal.verdict_lines(results)[-1]
    assert last.startswith("Tuned learning rate: bn 0.02, gn 0.2 and none 2. With every arm")


def test_findings_and_warnings_are_a_line_each() -> None:
    results = simulated({"bn": BN, "gn": BN}, verdict={"reference": "bn", "looked": [2, 3]})
    found = [
        Finding("size", Level.LOOK, "Few images.", "Use more."),
        Finding("fine", Level.FINE, "Nothing here."),
        Finding("copies", Level.INVALID, "Copies in the test split."),
    ]
    spoiled = replace(results, data={"findings": [one.describe() for one in found]})
    lines = terminal.finding_lines(spoiled)
    assert [line.split(":")[0] for line in lines] == [
        Level.INVALID.capitalize(), Level.LOOK.capitalize(), "Warning",
    ]  # fmt: skip
    assert lines[1] == "Look at this: Few images."
    assert "judged with 2 and 3 seeds" in lines[2]
    assert terminal.finding_lines(simulated({"bn": BN, "gn": BN})) == []


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_has_no_notes(main_study: Results, width: int) -> None:
    from rich.console import Console

    console = Console(width=width)
    with console.capture() as caught:
        console.print(terminal.table(main_study, width))
    assert "Values are percent" not in caught.get()
    assert "bn" in caught.get()


def test_different_facts_of_a_line_have_a_semicolon_between() -> None:
    arms = {"bn": [0.8, 0.81, 0.79], "gn": [0.9, None, None]}
    (line,) = terminal.verdict_lines(simulated(arms))
    assert line.endswith("needs 2 more seeds; 2 of 3 runs of gn diverged")
