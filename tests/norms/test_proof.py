"""The record of what holds each method is the suite's own."""

from __future__ import annotations

from pathlib import Path

from normlab import workflow
from normlab.norms import CATALOG

from . import proof
from .checks import CHECKS
from .test_mutations import CASES


def test_the_record_is_what_the_suite_says() -> None:
    kept = Path(workflow.__file__).parent / "measured/proof.json"
    assert kept.read_text(encoding="utf-8") == proof.as_text(), "run make docs"


def test_mistakes_are_those_that_the_suite_plants() -> None:
    """Counted from what pytest runs, not from what is entered."""
    planted = {case.id.split("-")[1] for case in CASES if case.id.startswith(("gn-", "gn_two"))}
    (layer,) = proof.proof_of(CATALOG["gn"])
    assert layer["mistakes"] == len(planted)


def test_checks_that_do_not_hold_are_not_counted() -> None:
    (found,) = proof.proof_of(CATALOG["none"])
    assert found["part"] == "NoNorm2d"
    assert "forward_matches_reference" in found["checks"]
    assert "output_moments_are_exact" not in found["checks"]
    assert set(found["checks"]) <= set(CHECKS)
    assert not set(found["checks"]) & set(found["unlike"])
