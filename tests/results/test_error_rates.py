"""What the intervals and verdicts promise, tried on studies whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from normlab.results import Results
from normlab.results.statistics import (
    Verdict,
    equivalence_power,
    judge,
    simultaneous_level,
    t_interval,
)
from normlab.runs.rule import LOOKS, Rule
from simulated import simulated

FALSE = (Verdict.BETTER, Verdict.WORSE)
ARMS = ("bn", "torch_bn", "in", "bin", "ln", "gn", "none")


def _study(
    generator: np.random.Generator, shift: dict[str, float], seeds: int, rule: Rule | None = None
) -> Results:
    """Accuracies whose seeds have something in common, as paired runs have."""
    common = generator.normal(0, 0.003, seeds)
    accuracy = {
        arm: (0.85 + less + common + generator.normal(0, 0.003, seeds)).tolist()
        for arm, less in shift.items()
    }
    return simulated(accuracy, verdict=rule.describe() if rule else None)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_covers_as_often_as_it_says(seeds: int) -> None:
    drawn = np.random.default_rng(seeds).normal(0.3, 2.0, (10_000, seeds))
    found = [t_interval(row, 0.95) for row in drawn]
    assert np.mean([0.3 in interval for interval in found if interval]) == pytest.approx(
        0.95, abs=0.01
    )


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_family_of_equal_arms_errs_in_at_most_one_study_of_twenty(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    erring = unadjusted = 0
    for _ in range(1000):
        results = _study(generator, dict.fromkeys(ARMS, 0.0), seeds)
        comparisons = judge(results, images=False).comparisons
        erring += any(found.verdict in FALSE for found in comparisons)
        unadjusted += any(found.unadjusted and 0 not in found.unadjusted for found in comparisons)
    assert erring <= 50
    assert erring >= 5  # not by never deciding anything
    assert unadjusted > 130  # what the adjustment is for


@pytest.mark.parametrize(("margin", "worse"), [(0.004, 0.0105), (0.012, 0.02)])
def test_planted_truth_is_found_at_the_nominal_rates(margin: float, worse: float) -> None:
    """Two equal arms and one worse by more than the margin, in 1,000 studies."""
    generator = np.random.default_rng(7)
    seeds, sd = 5, 0.003 * math.sqrt(2)
    level = simultaneous_level(0.95, 2)
    rule = Rule("bn", margin=margin)
    found: dict[str, list[Verdict]] = {"torch_bn": [], "gn": []}
    for _ in range(1000):
        study = _study(generator, {"bn": 0.0, "torch_bn": 0.0, "gn": -worse}, seeds, rule)
        for comparison in judge(study, images=False).comparisons:
            found[comparison.arm].append(comparison.verdict)

    def share(arm: str, *verdicts: Verdict) -> float:
        return float(np.mean([verdict in verdicts for verdict in found[arm]]))

    equal = equivalence_power(seeds, margin, sd, level)
    assert share("torch_bn", Verdict.EQUIVALENT) == pytest.approx(equal, abs=0.04)
    assert (equal > 0.9) == (margin > 0.01)
    # How often the interval lies below 0, and not within the margin.
    edge = scipy.stats.t.ppf(0.5 + level / 2, seeds - 1)
    seen = scipy.stats.nct.sf(edge, seeds - 1, worse / sd * math.sqrt(seeds))
    assert share("gn", Verdict.WORSE) == pytest.approx(seen, abs=0.04)
    assert seen > 0.8
    assert share("gn", Verdict.EQUIVALENT) <= 0.025
    wrong = sum(
        a in FALSE or b in (Verdict.BETTER, Verdict.EQUIVALENT)
        for a, b in zip(found["torch_bn"], found["gn"], strict=True)
    )
    assert wrong <= 50


def test_adding_seeds_until_decided_errs_in_at_most_one_study_of_twenty() -> None:
    generator = np.random.default_rng(11)
    rule = Rule("bn", margin=0.0005, looks=LOOKS)
    erring = reached = 0
    for _ in range(2000):
        whole = _study(generator, dict.fromkeys(ARMS[:4], 0.0), LOOKS[-1], rule)
        for look in LOOKS:
            results = _first(whole, look)
            judgement = judge(results, images=False)
            assert len(judgement.seeds) == look
            erring_now = any(found.verdict in FALSE for found in judgement.comparisons)
            if erring_now or judgement.settled:
                break
        erring += erring_now
        reached += look == LOOKS[-1]
    assert erring <= 100
    assert reached > 1600


def test_looking_after_every_seed_without_dividing_errs_far_more_often() -> None:
    generator = np.random.default_rng(13)
    drawn = generator.normal(0, 1, (2000, 10))
    wrong = [
        any(0 not in interval for n in range(3, 11) if (interval := t_interval(row[:n], 0.95)))
        for row in drawn
    ]
    assert np.mean(wrong) == pytest.approx(0.17, abs=0.02)


def test_an_interval_alone_holds_over_all_looks() -> None:
    """An arm about which one asked alone, in a study that adds seeds until decided."""
    generator = np.random.default_rng(13)
    rule = Rule("bn", margin=0.0005, looks=LOOKS)
    missed = 0
    for _ in range(2000):
        whole = _study(generator, {"bn": 0.0, "gn": 0.0}, LOOKS[-1], rule)
        for look in LOOKS:
            (gn,) = judge(_first(whole, look), images=False).comparisons
            assert gn.unadjusted is not None
            if gn.settled or 0 not in gn.unadjusted:
                break
        missed += 0 not in gn.unadjusted
    assert 20 <= missed <= 100


def test_looks_stated_after_results_err_as_often_as_the_page_says() -> None:
    """Judged with three seeds without looks, then looked at until decided."""
    generator = np.random.default_rng(19)
    before, after = Rule("bn", margin=0.0005), Rule("bn", margin=0.0005, looks=LOOKS, looked=(3,))
    assert judge(_study(generator, {"bn": 0, "gn": 0}, 3, after)).error_bound == pytest.approx(0.1)
    erring = 0
    for _ in range(1000):
        whole = _study(generator, dict.fromkeys(ARMS[:4], 0.0), LOOKS[-1], after)
        tries = [(before, 3), *((after, look) for look in LOOKS)]
        for rule, look in tries:
            found = judge(_first(whole, look), rule, images=False)
            if erring_now := any(one.verdict in FALSE for one in found.comparisons):
                break
        erring += erring_now
    assert 55 < erring <= 100


def test_between_looks_the_last_one_counts() -> None:
    generator = np.random.default_rng(17)
    rule = Rule("bn", looks=(3, 5))
    whole = _study(generator, {"bn": 0.0, "gn": -0.02}, 5, rule)
    at = {n: judge(_first(whole, n), images=False) for n in (2, 3, 4, 5)}
    assert [len(found.seeds) for found in at.values()] == [0, 3, 3, 5]
    assert [len(found.comparisons[0].later) for found in at.values()] == [2, 0, 1, 0]
    assert at[2].comparisons[0].verdict is Verdict.NONE
    assert at[4].comparisons[0].interval == at[3].comparisons[0].interval
    assert all(found.comparisons[0].level == pytest.approx(0.975) for found in at.values())


def _first(results: Results, seeds: int) -> Results:
    return replace(
        results,
        question={**results.question, "seeds": list(range(seeds))},
        runs=tuple(run for run in results.runs if run.seed < seeds),
    )
