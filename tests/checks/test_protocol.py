"""Checks behind their protocol: a new one is an entry in the registry, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from normlab.checks import (
    CHECKS,
    EXACT,
    NEAR,
    Check,
    PagePart,
    Results,
    Section,
    Table,
    full_check,
    pace,
    quick_check,
    read_image_set,
    render,
)
from normlab.checks import check as running
from normlab.checks.pace import SECONDS, Pace
from normlab.data import DataConfig
from normlab.pages.findings import Finding, Level


@dataclass(frozen=True)
class Darkness:
    shared: int

    def findings(self) -> list[Finding]:
        return [Finding("darkness", Level.LOOK, f"It is dark, {self.shared} times.")]

    def describe(self) -> dict[str, Any]:
        return {"shared": self.shared}


class _Dark(Check[Darkness]):
    name = "darkness"
    key = "dark"
    version = "1"
    needs = (EXACT,)

    def run(self, image_set: Any, earlier: Results, progress: Any) -> Darkness:
        return Darkness(sum(shared.files for shared in earlier.of(EXACT).shared))

    def glance(self, image_set: Any) -> Darkness:
        return Darkness(7)

    def page_part(self, image_set: Any, results: Results) -> PagePart:
        section = Section("dark", "Darkness", "dark.html.j2", {}, explains=("darkness",))
        return PagePart(
            "normlab.checks.page",
            sections=(section,),
            method=(("Darkness", "is measured with closed eyes."),),
            limits=("Light.",),
            facts=(("Lamps", "none"),),
            tables=(Table("dark.csv", "dark places", "place\n"),),
        )


class _Greedy(_Dark):
    needs = ()


@pytest.fixture
def few(cache: Path, write: Any) -> DataConfig:
    return DataConfig(str(write({f"{split}/{name}": 5 for split in ("train", "val", "test")
                                 for name in ("ant", "bee")})))  # fmt: skip


def _add(monkeypatch: pytest.MonkeyPatch, check: Check[Any]) -> None:
    """Register a check, whose section is a template that says one thing."""
    from normlab import pages

    read = pages._read
    monkeypatch.setattr(running, "CHECKS", (*CHECKS, check))
    monkeypatch.setattr(
        pages,
        "_read",
        lambda package, name: "<p>pitch black</p>" if "dark" in name else read(package, name),
    )


def test_a_new_check_needs_its_entry_alone(
    few: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(monkeypatch, _Dark())
    image_set = read_image_set(few)
    found = full_check(image_set)
    said = "It is dark, 0 times."
    assert found.findings()[-1].sentence == said
    assert found.describe()["dark"] == {"shared": 0}
    assert "darkness" in found.describe()["seconds"]
    page = render(found, command="normlab check-data")
    section = page.split('aria-labelledby="dark"')[1].split("</section>")[0]
    assert "pitch black" in section
    assert f'{said} <a class="to" href="#dark">Darkness</a>' in page
    for words in ("closed eyes", "<li>Light.</li>", "Lamps", "all dark places in"):
        assert words in page
    assert quick_check(image_set)[-1].sentence == "It is dark, 7 times."


def test_a_check_cannot_use_what_it_does_not_declare(
    few: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(monkeypatch, _Greedy())
    with pytest.raises(KeyError, match="exact-duplicates"):
        full_check(read_image_set(few))


def test_checks_come_after_what_they_need_and_have_names_of_their_own() -> None:
    assert NEAR.needs == (EXACT,)
    before: list[Check[Any]] = []
    for check in CHECKS:
        assert set(check.needs) <= set(before)
        before.append(check)
    for names in ([check.name for check in CHECKS], [check.key for check in CHECKS]):
        assert len(set(names)) == len(names)


def test_what_a_quick_check_says_is_kept_under_a_name_of_its_own(
    few: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_set = read_image_set(few)
    quick = running.quick_name(image_set)
    assert not any(finding.check == "near-duplicates" for finding in quick_check(image_set))
    full_check(image_set)
    # The groups of the full check are known now, and the quick one says more.
    assert running.quick_name(image_set) != quick
    assert any(finding.check == "near-duplicates" for finding in quick_check(image_set))
    _add(monkeypatch, _Dark())
    assert running.quick_name(image_set).startswith(image_set.data.fingerprint)
    assert len({quick, running.quick_name(image_set)}) == 2


def test_every_stage_has_its_place_in_the_estimate(few: DataConfig) -> None:
    """A stage that the estimate does not know would make the time that is left wrong."""
    said: dict[str, None] = {}
    full_check(
        read_image_set(few), progress=lambda stage, done, total: said.setdefault(stage, None)
    )
    assert set(said) <= set(SECONDS)
    assert list(said) == [stage for stage in SECONDS if stage in said]


def test_the_time_that_is_left_is_said_first_and_corrected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(pace, "_probe", lambda: pace._PROBE)
    monkeypatch.setattr(pace.time, "perf_counter", lambda: clock[0])
    said: list[str] = []
    keep = Pace(100_000, lambda stage, done, total: said.append(stage), {"One": 1.0, "Two": 3.0})
    keep.begin()
    assert "100,000 images takes about 6 min 30 s" in said[0]
    # It turns out to be three times as slow.
    clock[0] = 300.0
    keep("One", 100, 100)
    assert 3 * 300 * 0.85 < keep.left("One", 1.0) <= 3 * 300
    clock[0] = 750.0
    keep("Two", 50, 100)
    assert said[-1] == "Two, about 7 min 30 s left in all"
    keep("Two", 100, 100)
    assert said[-1] == "Two"
    # A stage that was skipped, since it is in the cache, is not waited for.
    fresh = Pace(100_000, lambda *_: None, {"One": 1.0, "Two": 3.0})
    fresh.begin()
    assert fresh.left("Two", 0.5) < 160


def test_every_finding_leads_to_a_section(few: DataConfig) -> None:
    found = full_check(read_image_set(few))
    explained = {
        name for part in found.parts for section in part.sections for name in section.explains
    }
    assert {finding.check for finding in found.findings()} <= explained
    anchors = [section.anchor for part in found.parts for section in part.sections]
    assert len(set(anchors)) == len(anchors)
    assert json.loads(json.dumps(found.describe()))


def test_the_package_is_light_to_import() -> None:
    code = (
        "import sys, normlab.checks; "
        "sys.exit(str({'torch', 'sklearn', 'PIL', 'numpy', 'jinja2'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
