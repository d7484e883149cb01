"""What the page of the methods says of what was measured elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from normlab.norms import CATALOG
from normlab.workflow import catalogue

BENCHMARK = Path(__file__).parents[2] / "benchmarks/catalogue.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("benchmarks_catalogue", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_method_that_takes_much_longer_than_bn_says_so(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"bn": [1.0, 2.0, 4.0, 8.0], "in": [2.0, 4.0, 8.0, 16.0], "gn": [1.4, 3.0, 6.0, 12.0]}
    compiled = benchmark.ratios(seconds)
    torch = benchmark.ratios({**seconds, "in": seconds["bn"]})
    found = benchmark.record({"compiled": compiled, "torch": torch}, 4)
    monkeypatch.setattr(catalogue, "_steps", lambda: found)
    assert catalogue.cost_in_words(CATALOG["in"]).endswith(
        "A step of training takes 2.00 times bn's time with compiled kernels (2.00 to 2.00) and "
        "1.00 times bn's time without compiled kernels (1.00 to 1.00)."
    )
    for name in ("bn", "gn", "none"):  # gn: exactly 1.5 times, or less; none: not measured
        assert "A step of training" not in catalogue.cost_in_words(CATALOG[name])
    page = catalogue.as_markdown()
    assert "a network of 14 layers at 32 px with batches of 32, one thread, 4 rounds" in page
    assert f"{found['machine']}; {found['versions']}" in page
    assert "It has not measured `torch_bn`, `bin`, `ln`" in page


def test_methods_join_a_record_that_was_measured_in_the_same_way(benchmark: Any) -> None:
    known = benchmark.record({"torch": benchmark.ratios({"bn": [1.0, 2.0], "gn": [2.0, 4.0]})}, 2)
    new = benchmark.record({"torch": benchmark.ratios({"bn": [1.0, 2.0], "in": [3.0, 6.0]})}, 2)
    made = benchmark.together(known, new)
    assert {name: found["median"] for name, found in made["ratios"]["torch"].items()} == {
        "bn": 1.0, "in": 3.0, "gn": 2.0,
    }  # fmt: skip
    assert list(made["ratios"]["torch"]) == ["bn", "in", "gn"]
    for fact in ("setting", "machine", "versions"):
        with pytest.raises(SystemExit, match=f"{fact}: the record has .*, this is another"):
            benchmark.together(known, {**new, fact: "another"})


def test_without_a_measurement_nothing_is_said_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_steps", lambda: {"ratios": {}})
    page = catalogue.as_markdown()
    assert "times bn's time" not in page
    assert "benchmarks/catalogue.py" not in page


def test_a_check_that_does_not_hold_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = {
        "part": "GroupNorm2d",
        "checks": ["layout_changes_no_value"],
        "unlike": {"nan_stays_in_its_set": "a window has neighbours too."},
        "mistakes": 1,
    }
    found = {
        "checks": {"nan_stays_in_its_set": "", "layout_changes_no_value": "About layouts."},
        "methods": {
            "gn": [window],
            "in": [window, {**window, "part": "Other2d", "unlike": {}, "mistakes": 3}],
        },
    }
    monkeypatch.setattr(catalogue, "_proof", lambda: found)
    assert catalogue.proof_in_words(CATALOG["gn"]) == (
        "1 check of the suite holds it; 1 planted mistake, found; not held: nan stays in its set "
        "(a window has neighbours too)"
    )
    assert catalogue.proof_in_words(CATALOG["in"]).endswith(
        "too). Other2d: 1 check of the suite holds it; 3 planted mistakes, each found"
    )
    assert "PyTorch itself" in catalogue.proof_in_words(CATALOG["torch_bn"])
    assert catalogue.proof_in_words(CATALOG["bn"]) == ""  # of which the record knows nothing yet
    assert "| layout changes no value | About layouts. | 2 |" in catalogue.as_markdown()
