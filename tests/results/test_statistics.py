"""Differences, intervals, verdicts and plans against scipy and statsmodels, and by their rules."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.power import TTestPower

from normlab.errors import InputError
from normlab.results.statistics import (
    Interval,
    Verdict,
    equivalence_power,
    every_pair,
    image_noise,
    judge,
    mcnemar,
    paired_difference,
    seeds_for_equivalence,
    seeds_to_hold,
    seeds_to_see,
    simultaneous_level,
    spread_range,
    t_interval,
    visible_difference,
)
from normlab.results.statistics.verdict import verdict
from normlab.runs.rule import Rule, default_reference, pairs
from simulated import answering, simulated

BN = [0.80, 0.82, 0.79, 0.83]
GN = [0.77, 0.80, 0.78, 0.79]


def test_the_paired_interval_is_that_of_scipy() -> None:
    found = judge(simulated({"bn": BN, "gn": GN, "ln": BN[::-1]}))
    gn = found.of("gn")
    assert gn is not None
    assert gn.difference is not None
    for interval, level in ((gn.unadjusted, 0.95), (gn.interval, 0.975)):
        assert interval is not None
        expected = scipy.stats.ttest_rel(GN, BN).confidence_interval(level)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert gn.difference.mean == pytest.approx(np.mean(GN) - np.mean(BN))
    assert gn.correlation == pytest.approx(scipy.stats.pearsonr(GN, BN).statistic)
    assert found.of("bn") is None


def test_one_seed_gives_no_interval_and_no_verdict() -> None:
    (gn,) = judge(simulated({"bn": [0.8], "gn": [0.2]})).comparisons
    assert gn.difference is not None
    assert gn.difference.mean == pytest.approx(-0.6)
    assert gn.interval is gn.unadjusted is gn.visible is gn.seeds_to_see_margin is None
    assert gn.verdict is Verdict.NONE


def test_two_seeds_give_no_interval_and_no_verdict() -> None:
    # Their t interval would be from -264 to +244 points.
    (gn,) = judge(simulated({"bn": [0.8, 0.6], "gn": [0.5, 0.7]})).comparisons
    assert gn.difference is not None
    assert gn.difference.mean == pytest.approx(-0.1)
    assert gn.interval is gn.unadjusted is gn.both is gn.visible is gn.seeds_to_see_margin is None
    assert (gn.verdict, gn.settled) == (Verdict.NONE, False)


def test_no_number_is_larger_than_accuracies_can_differ() -> None:
    arms = {"bn": [0.1, 0.9, 0.1], "gn": [0.9, 0.1, 0.5]}
    (gn,) = judge(simulated(arms)).comparisons
    assert (gn.interval, gn.unadjusted) == (Interval(-1, 1, 0.95), Interval(-1, 1, 0.95))
    assert gn.visible == math.inf
    assert gn.verdict is Verdict.INCONCLUSIVE
    # Without the bound the interval would go on.
    assert gn.difference is not None
    unbounded = replace(gn.difference, largest=math.inf).interval(0.95)
    assert unbounded is not None
    assert unbounded.half > 1.5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.5, 0.5, Verdict.EQUIVALENT),
        (0.1, 0.4, Verdict.EQUIVALENT),  # it leaves out 0 and does not matter
        (0.1, 0.6, Verdict.BETTER),
        (-0.9, -0.001, Verdict.WORSE),
        (-0.6, 0.1, Verdict.INCONCLUSIVE),
        (0.0, 0.6, Verdict.INCONCLUSIVE),
    ],
)
def test_the_rule_of_the_verdict(low: float, high: float, expected: Verdict) -> None:
    assert verdict(Interval(low, high, 0.95), 0.5) is expected


def test_the_error_is_divided_over_comparisons_and_looks() -> None:
    assert simultaneous_level(0.95, 6) == pytest.approx(1 - 0.05 / 6)
    assert simultaneous_level(0.95, 6, 5) == pytest.approx(1 - 0.05 / 30)
    with pytest.raises(ValueError, match="needs a comparison"):
        simultaneous_level(0.95, 0)
    arms = dict.fromkeys(("bn", "gn", "ln", "in"), BN)
    looked = Rule("bn", looks=(3, 5))
    for results, rule, level in (
        (simulated(arms), None, 1 - 0.05 / 3),
        (simulated(arms), looked, 1 - 0.05 / 6),
        # An arm without a number was asked all the same.
        (simulated({**arms, "none": [None] * 4}), None, 1 - 0.05 / 4),
    ):
        for comparison in judge(results, rule).comparisons:
            assert comparison.level == pytest.approx(level)
            # The interval of one arm alone has its share of the looks all the same.
            alone = 1 - 0.05 / (2 if rule else 1)
            assert comparison.unadjusted_level == pytest.approx(alone)
    every = judge(simulated(arms), compared=every_pair(simulated(arms)))
    assert len(every.comparisons) == 6
    assert every.comparisons[0].level == pytest.approx(1 - 0.05 / 6)


@pytest.mark.parametrize(("seeds", "expected"), [(3, 3.26), (5, 1.68), (10, 1.00), (20, 0.66)])
def test_the_visible_difference_is_that_of_statsmodels(seeds: int, expected: float) -> None:
    for level in (0.95, 1 - 0.05 / 6):
        found = visible_difference(seeds, 2.0, level)
        if not (seeds == 3 and level > 0.99):  # statsmodels' lower tail is no number there
            power = TTestPower().power(found / 2.0, seeds, 1 - level)
            assert power == pytest.approx(0.8, abs=1e-4)
    assert visible_difference(seeds, 1.0, 0.95) == pytest.approx(expected, abs=0.005)
    assert visible_difference(1, 1.0, 0.95) == math.inf


def test_the_least_number_of_seeds_is_the_least() -> None:
    for sd in (0.002, 0.005, 0.02):
        n = seeds_to_see(0.005, sd, 0.99)
        assert n is not None
        solved = TTestPower().solve_power(0.005 / sd, alpha=0.01, power=0.8)
        assert n == math.ceil(solved - 1e-6)
        n = seeds_for_equivalence(0.005, sd, 0.99)
        assert n is not None
        at, before = (equivalence_power(k, 0.005, sd, 0.99) for k in (n, n - 1))
        assert at >= 0.8 > before
    assert seeds_to_see(0.005, 5.0, 0.99) is None
    assert seeds_for_equivalence(0.005, 5.0, 0.99) is None


def test_equivalence_is_found_as_often_as_told() -> None:
    generator = np.random.default_rng(1)
    for seeds, told in ((3, 0.06), (10, 0.62)):
        drawn = generator.normal(0, 0.5, (20_000, seeds))
        half = scipy.stats.t.ppf(0.975, seeds - 1) * drawn.std(1, ddof=1) / math.sqrt(seeds)
        share = np.mean(np.abs(drawn.mean(1)) + half <= 0.5)
        assert equivalence_power(seeds, 0.5, 0.5, 0.95) == pytest.approx(share, abs=0.01)
        assert share == pytest.approx(told, abs=0.01)


def test_a_spread_of_three_seeds_is_rough() -> None:
    low, high = spread_range(1.0, 3)
    assert (low, high) == pytest.approx((0.52, 6.28), abs=0.01)
    generator = np.random.default_rng(2)
    spreads = generator.normal(0, 3.0, (20_000, 5)).std(1, ddof=1)
    inside = [low * s <= 3.0 <= high * s for s in spreads for low, high in [spread_range(1.0, 5)]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)
    with pytest.raises(ValueError, match="two seeds"):
        spread_range(1.0, 1)


def test_seeds_that_agree_to_the_image_are_not_certain() -> None:
    # Three times one image more of 100: without the grain an interval of no width.
    results = simulated({"bn": [0.80, 0.81, 0.82], "gn": [0.81, 0.82, 0.83]}, images=100)
    (gn,) = judge(results).comparisons
    assert gn.difference is not None
    assert gn.difference.sd == pytest.approx(0.01 / math.sqrt(6))
    assert gn.interval is not None
    assert gn.interval.half == pytest.approx(4.3027 * 0.01 / math.sqrt(18), rel=1e-3)
    assert gn.verdict is Verdict.INCONCLUSIVE
    assert t_interval([0.01] * 3, 0.95) == pytest.approx(Interval(0.01, 0.01, 0.95))


def test_runs_without_a_model_are_counted_and_withhold_a_flattering_verdict() -> None:
    bn = [0.80, 0.801, 0.80, 0.80]
    better = [0.90, 0.902, 0.90, None]
    worse = [0.70, 0.701, 0.70, None]
    found = judge(simulated({"bn": bn, "gn": better, "in": worse, "none": [None] * 4}))
    gn, in_, none = found.comparisons
    assert gn.lost == ((3,), ())
    assert gn.difference is not None
    assert gn.difference.seeds == (0, 1, 2)
    assert (gn.verdict, gn.withheld, gn.settled) == (Verdict.WITHHELD, Verdict.BETTER, True)
    assert (in_.verdict, in_.withheld) == (Verdict.WORSE, None)
    assert (none.difference, none.lost[0], none.settled) == (None, (0, 1, 2, 3), True)
    assert none.verdict is Verdict.NONE
    # The reference's failures flatter the reference.
    found = judge(simulated({"bn": better, "gn": bn}))
    assert found.comparisons[0].verdict is Verdict.WITHHELD
    assert found.comparisons[0].withheld is Verdict.WORSE


GRID = {
    f"{norm},batch_size={b}": {"norm": norm, "batch_size": b}
    for norm in ("bn", "gn", "ln")
    for b in (8, 32)
}


def test_more_seeds_or_more_images_decide_for_other_images(tmp_path: Path) -> None:
    """gn is 3 points worse in every seed. Few images leave that open; many do not."""
    found = {}
    for name, size in (("few", 300), ("many", 30_000)):
        labels = np.arange(size) % 3
        right = {"bn": np.ones((3, size), bool), "gn": np.ones((3, size), bool)}
        for seed in range(3):
            wrong = np.random.default_rng(seed).permutation(size)
            right["gn"][seed, wrong[: size * 3 // 100]] = False
            right["bn"][seed, wrong[size - max(seed, size * seed // 1000) :]] = False
        (found[name],) = judge(answering(right, labels, tmp_path / name)).comparisons
    few, many = found["few"], found["many"]
    assert few.verdict is many.verdict is Verdict.WORSE
    assert (few.local, few.elsewhere) == (True, Verdict.INCONCLUSIVE)
    assert (many.local, many.elsewhere) == (False, Verdict.WORSE)
    assert few.seeds_to_hold is not None  # here more seeds are enough, with the same images
    assert few.images is not None
    assert few.difference is not None
    for seeds, enough in ((few.seeds_to_hold, True), (few.seeds_to_hold - 1, False)):
        error = math.sqrt(few.difference.sd**2 / seeds + few.images.variance)
        half = scipy.stats.t.ppf(0.975, seeds - 1) * error
        assert (half < abs(few.difference.mean)) == enough
    # With a variance of the images this large no number of seeds is.
    assert seeds_to_hold(0.03, 0.001, 0.02**2, 0.005, 0.95) is None


def test_what_is_compared_with_what() -> None:
    plain = {arm: {"norm": arm} for arm in ("in", "bn", "gn")}
    assert default_reference(plain) == "bn"
    assert pairs(plain, "bn") == [("bn", "in"), ("bn", "gn")]
    assert default_reference({"in": {"norm": "in"}, "torch_bn": {"norm": "torch_bn"}}) == "torch_bn"
    assert default_reference({"in": {"norm": "in"}, "ln": {"norm": "ln"}}) == "in"
    assert default_reference(GRID) == "bn"
    assert pairs(GRID, "bn") == [
        (f"bn,batch_size={b}", f"{norm},batch_size={b}") for norm in ("gn", "ln") for b in (8, 32)
    ]
    only = {f"bn,n={n}": {"norm": "bn", "n": n} for n in (1, 2, 3)}
    assert default_reference(only) == "bn,n=1"
    assert pairs(only, "bn,n=1") == [("bn,n=1", "bn,n=2"), ("bn,n=1", "bn,n=3")]
    with pytest.raises(InputError, match=r"reference 'gm' is not an arm.*did you mean gn"):
        pairs(plain, "gm")


def test_noise_of_the_images(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    size, seeds = 400, 3
    labels = generator.integers(0, 3, size)
    right = {
        arm: generator.random((seeds, size)) < np.where(labels == 0, share, 0.7)
        for arm, share in (("bn", 0.95), ("gn", 0.7))
    }
    results = answering(right, labels, tmp_path)
    difference = paired_difference(results, "gn", "bn")
    assert difference is not None
    found = image_noise(results, difference)
    assert found is not None
    each = right["gn"].mean(0) - right["bn"].mean(0)
    # The variance of a stratified mean, and scipy's bootstrap of every class.
    expected = sum(
        (np.mean(labels == k) ** 2) * each[labels == k].var() / np.sum(labels == k)
        for k in range(3)
    )
    assert found.variance == pytest.approx(expected, rel=0.06)
    assert found.interval.low < each.mean() < found.interval.high
    assert found.interval.half == pytest.approx(1.96 * math.sqrt(expected), rel=0.05)
    oracle = scipy.stats.bootstrap(
        (each[labels == 0],), np.mean, method="percentile", rng=generator, n_resamples=4000
    ).confidence_interval
    rows = {run.arm + str(run.seed): run for run in results.runs}
    zero = labels == 0
    one_class = answering({a: r[:, zero] for a, r in right.items()}, labels[zero], tmp_path / "one")
    difference = paired_difference(one_class, "gn", "bn")
    assert difference is not None
    found = image_noise(one_class, difference)
    assert found is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (oracle.low, oracle.high), abs=0.006
    )
    assert image_noise(one_class, difference) == found  # keyed draws

    (gn,) = judge(results).comparisons
    assert gn.images is not None
    assert gn.both is not None
    assert gn.interval is not None
    assert gn.difference is not None
    assert gn.difference.sd is not None
    assert gn.both.half > gn.images.interval.half
    total = gn.difference.sd**2 / seeds + gn.images.variance
    assert gn.both.half == pytest.approx(scipy.stats.t.ppf(0.975, seeds - 1) * math.sqrt(total))
    assert gn.both.half > gn.interval.half

    # McNemar's test of two of the checkpoints.
    one, two = rows["bn0"], rows["gn0"]
    tested = mcnemar(one, two)
    a, b = right["bn"][0], right["gn"][0]
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    assert tested.p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert (tested.only_first, tested.only_second) == (table[0][1], table[1][0])
    assert tested.difference == pytest.approx(a.mean() - b.mean())
    assert mcnemar(one, one).p_value == 1.0
    with pytest.raises(InputError, match="predicted other images"):
        mcnemar(one, one_class.runs[0])


def test_mcnemar_pairs_images_by_name(tmp_path: Path) -> None:
    """A run of another version may list the same images in another order."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 3, 60)
    right = {arm: generator.random((1, 60)) < share for arm, share in (("bn", 0.9), ("gn", 0.6))}
    one, two = answering(right, labels, tmp_path).runs
    with np.load(two.folder / "predictions.npz") as held:
        turned = {name: array[::-1] for name, array in held.items()}
    np.savez(two.folder / "predictions.npz", **turned)
    found = mcnemar(one, two)
    (a,), (b,) = right[one.arm], right[two.arm]
    assert (found.only_first, found.only_second) == (np.sum(a & ~b), np.sum(b & ~a))


def test_mcnemar_says_of_a_run_without_a_model_how_it_ended() -> None:
    one, lost = simulated({"bn": [0.8, None]}).runs
    with pytest.raises(InputError, match=r"seed-1 cannot be tested: the run diverged at step 7\."):
        mcnemar(lost, one)
