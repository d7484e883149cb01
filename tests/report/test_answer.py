"""The answer in sentences: every number in them is computed here by other means."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from normlab.pages.findings import Finding, Level
from normlab.report import Report, terminal, write_report
from normlab.report.numbers import bracket, seeds_range, signed, with_interval
from normlab.report.sections.answer import sentences
from normlab.report.sections.answer.sentences import Answer
from normlab.results import Results, read_results
from normlab.results.statistics import Interval
from normlab.runs.rule import LOOKS
from simulated import answering, simulated

from .folders import make_study

BN = [0.800, 0.810, 0.805, 0.795]
HERE = "on these test images"


def _interval(arm: list[float], reference: list[float], comparisons: int) -> tuple[float, float]:
    level = 1 - 0.05 / comparisons
    found = scipy.stats.ttest_rel(arm, reference).confidence_interval(level)
    return 100 * found.low, 100 * found.high


def _answer(results: Results) -> Answer:
    return sentences.answer(Report(results))


def _sentences(results: Results) -> dict[str, str]:
    return {said.arm: said.sentence for said in _answer(results).comparisons}


def test_every_verdict_has_its_sentence() -> None:
    arms = {
        "bn": BN,
        "worse": [v - 0.04 + d for v, d in zip(BN, (0.001, -0.001, 0, 0), strict=True)],
        "better": [v + 0.03 + d for v, d in zip(BN, (0.001, -0.001, 0, 0), strict=True)],
        "equal": [v + d for v, d in zip(BN, (0.0004, -0.0004, 0, 0), strict=True)],
        "unknown": [0.81, 0.78, 0.82, 0.80],
    }
    results = simulated(arms)
    found = _answer(results)
    said = _sentences(results)
    low, high = _interval(arms["worse"], BN, 4)
    # The interval is narrow, so it is given with two decimals.
    assert said["worse"] == f"worse is 4.00 points worse than bn [{-high:.2f}, {-low:.2f}] {HERE}."
    low, high = _interval(arms["better"], BN, 4)
    assert said["better"] == f"better is 3.00 points better than bn [{low:.2f}, {high:.2f}] {HERE}."
    low, high = _interval(arms["equal"], BN, 4)
    assert said["equal"] == (
        f"equal is equivalent to bn within 0.5 points {HERE}: the interval of the difference is "
        f"[−{-low:.2f}, +{high:.2f}]."
    )
    low, high = _interval(arms["unknown"], BN, 4)
    assert said["unknown"].startswith(
        "unknown compared with bn is inconclusive with 4 seeds: the interval of the difference is "
        f"[−{-low:.1f}, +{high:.1f}]. Between "
    )
    assert said["unknown"].endswith("to call them equivalent within 0.5 points, if they are.")
    assert found.headline == (
        "Of 4 arms compared with bn on these test images, 1 is better, 1 is worse, 1 is "
        "equivalent within 0.5 points and 1 is inconclusive with 4 seeds."
    )
    assert [c.verdict for c in found.comparisons] == [
        "worse",
        "better",
        "equivalent",
        "inconclusive",
    ]
    assert found.sure[0] == "All 4 intervals hold simultaneously (95 %)."
    assert found.warnings == ()


def test_how_many_seeds_would_decide() -> None:
    unknown = [v + d for v, d in zip(BN, (0.03, -0.01, 0.02, 0.0), strict=True)]
    (sentence,) = _sentences(simulated({"bn": BN, "gn": unknown})).values()
    numbers = re.search(r"Between ([\d,]+) and ([\d,]+) seeds .* \(\+1\.0\)\.$", sentence)
    assert numbers is not None
    # By simulation: with the least spread these seeds allow, so many find the difference seen.
    sd = np.std(np.subtract(unknown, BN), ddof=1)
    for text, tail in zip(numbers.groups(), (0.975, 0.025), strict=True):
        n = int(text.replace(",", ""))
        spread = sd * math.sqrt(3 / scipy.stats.chi2.ppf(tail, 3))
        drawn = np.random.default_rng(n).normal(0.01, spread, (4000, n))
        half = scipy.stats.t.ppf(0.975, n - 1) * drawn.std(1, ddof=1) / math.sqrt(n)
        share = np.mean(np.abs(drawn.mean(1)) > half)
        assert 0.77 < share < 0.95 if n < 6 else share == pytest.approx(0.8, abs=0.04)


def test_with_one_seed_or_one_arm_there_is_no_answer() -> None:
    one = _answer(simulated({"bn": [0.8], "gn": [0.7], "ln": [0.9]}))
    assert one.headline.startswith("A single run per arm cannot answer this")
    assert [c.verdict for c in one.comparisons] == ["no verdict"] * 2
    assert one.comparisons[0].sentence == (
        "gn is 10.0 points below bn in the one seed that both completed, which could be chance. "
        "Two more are needed for a verdict."
    )
    assert one.sure == ()
    alone = _answer(simulated({"bn": BN}))
    assert alone.headline == "bn was run alone, so there is nothing to compare it with."
    assert alone.comparisons == ()


def test_runs_that_diverged_are_told() -> None:
    lost: list[float | None] = [0.90, 0.905, 0.90, None]
    results = simulated({"bn": BN, "gn": lost, "none": [None] * 4})
    said = _sentences(results)
    assert said["gn"].startswith("gn is not called better than bn, although")
    assert "selected by not failing" in said["gn"]
    assert "(1 of 4 runs of gn diverged; the difference is over the 3 seeds" in said["gn"]
    assert said["none"] == "none diverged in all 4 runs, so there is no accuracy to compare."
    assert _answer(results).headline == (
        "Of 2 arms compared with bn, 1 has no verdict because runs without a model could reverse "
        "it and 1 has no verdict because every run diverged."
    )
    fewer = simulated({"bn": BN, "gn": [None, 0.78, 0.82, 0.80], "ln": [0.81, 0.78, 0.82, 0.80]})
    assert _answer(fewer).headline.endswith("is conclusive with 3 to 4 seeds.")
    undecided = simulated({"bn": BN, "gn": [0.81, 0.78, 0.82, 0.80], "none": [None] * 4})
    assert _answer(undecided).headline == (
        "Of 2 arms compared with bn, 1 is inconclusive with 4 seeds and 1 has no verdict because "
        "every run diverged."
    )


def test_two_seeds_show_a_difference_and_say_what_is_missing() -> None:
    found = _answer(simulated({"bn": [0.8, 0.6], "gn": [0.5, 0.7], "ln": [0.8, 0.6]}))
    assert found.headline.startswith("2 runs per arm cannot answer this")
    assert [said.verdict for said in found.comparisons] == ["no verdict"] * 2
    assert [said.sentence for said in found.comparisons] == [
        "gn is 10.0 points below bn in the 2 seeds that both completed, which could be chance. "
        "One more is needed for a verdict.",
        "ln is level with bn in the 2 seeds that both completed, which could be chance. "
        "One more is needed for a verdict.",
    ]
    assert found.sure == ()


def test_nothing_impossible_is_said() -> None:
    results = simulated({"bn": [0.1, 0.9, 0.1], "gn": [0.9, 0.1, 0.5]})
    found = _answer(results)
    said = " ".join([found.headline, *found.sure])
    assert "[−100.0, +100.0]" in said
    assert "no difference that accuracies can have would be found" in said
    numbers = [float(n.replace(",", "")) for n in re.findall(r"([\d,.]*\d) points", said)]
    assert all(number <= 100 for number in numbers)
    some = simulated({"bn": BN, "gn": [0.1, 0.9, 0.1, 0.8], "ln": BN})
    assert "and for some arms more than accuracies can differ" in " ".join(_answer(some).sure)


def test_a_verdict_says_for_which_images_it_speaks(tmp_path: Path) -> None:
    labels = np.arange(400) % 3
    right = {arm: np.ones((3, 400), bool) for arm in ("bn", "gn", "ln")}
    # gn misses the same 8 images in every seed, ln the same 200, and bn one or two by chance.
    right["gn"][:, :8] = False
    right["ln"][:, :200] = False
    for seed in range(3):
        right["bn"][seed, -1 - seed :] = False
    results = answering(right, labels, tmp_path)
    found = _answer(results)
    gn, ln = (said.sentence for said in found.comparisons)
    assert "on these test images (but not clearly on others of their kind: [" in gn
    assert ln.endswith("on images of this kind.")
    assert found.headline == (
        "Both arms compared with bn on these test images are worse (1 of them not clearly on "
        "others of their kind)."
    )
    only = {arm: right[arm] for arm in ("bn", "ln")}
    assert _answer(answering(only, labels, tmp_path / "b")).headline.endswith("of this kind.")
    both = {**only, "in": right["ln"]}
    assert _answer(answering(both, labels, tmp_path / "c")).headline == (
        "Both arms compared with bn on images of this kind are worse."
    )


def test_what_was_seen_before_looks_were_stated_is_told() -> None:
    rule = {"reference": "bn", "looks": [3, 5], "looked": [4], "grown": [2]}
    found = _answer(
        simulated({"bn": [*BN, 0.8], "gn": [*BN, 0.8], "ln": [*BN, 0.81]}, verdict=rule)
    )
    sure = " ".join(found.sure)
    assert "beforehand" not in sure
    assert "Looks were fixed after results of 4 seeds could be seen, at 3 and 5 seeds" in sure
    assert found.warnings == (
        "The study could already be judged with 4 seeds before looks were stated and with 2 arms "
        "before others were added. A false better or worse can appear in up to 15 % of such "
        "studies instead of 5 %.",
    )


def test_a_reference_that_diverged_leaves_no_answer() -> None:
    found = _answer(simulated({"bn": [None] * 3, "gn": [0.8] * 3, "in": [0.7] * 3}))
    assert found.headline == (
        "There is no answer: no arm shares 3 completed seeds with bn: 3 of its 3 runs diverged."
    )
    assert found.comparisons[0].sentence == (
        "gn has nothing to be compared with: bn diverged in all 3 runs."
    )
    once = _answer(simulated({"bn": [None, 0.8], "gn": [0.8, 0.8], "in": [0.7] * 2}))
    assert once.headline.startswith("2 runs per arm cannot answer this")
    assert once.comparisons[0].sentence.startswith("gn is level with bn in the one seed")


def test_looks_are_told() -> None:
    rule = {"reference": "bn", "looks": [3, 5, 8]}
    generator = np.random.default_rng(0)

    def results(seeds: int) -> Results:
        drawn = {a: generator.normal(0.8, 0.01, seeds).tolist() for a in ("bn", "gn", "in")}
        return simulated(drawn, verdict=rule)

    at_five = " ".join(_answer(results(5)).sure)
    assert "fixed beforehand, at 3, 5 and 8 seeds" in at_five
    assert "This is look 2 of 3. The next look is at 8 seeds" in at_five
    assert "The look at 8 seeds was the last" in " ".join(_answer(results(8)).sure)
    between = _answer(results(6))
    assert between.warnings == (
        "1 seed run since the last look is left out of the verdicts, until the look at 8.",
    )
    beyond = _answer(results(9))
    assert beyond.warnings == (
        "1 seed run since the last look is left out of the verdicts, because the look at 8 was "
        "the last.",
    )
    assert "with 8 seeds" in beyond.headline
    assert "with 5 seeds" in between.headline
    early = _answer(results(2))
    assert early.headline.startswith("No verdict yet: the first look is at 3 seeds")
    assert LOOKS[0] == 3


def test_what_was_changed_or_looked_at_afterwards_is_told() -> None:
    rule: dict[str, Any] = {
        "reference": "gn", "margin": 2.0,
        "before": [{"reference": "bn", "margin": 0.5, "runs": 21}], "looked": [2, 3],
    }  # fmt: skip
    results = simulated({"bn": BN, "gn": BN}, verdict=rule)
    changed, looked = _answer(results).warnings
    assert "changed after 21 runs had ended: the reference was bn and the margin 0.5 points" in (
        changed
    )
    assert "already be judged with 2 and 3 seeds before more were added" in looked
    assert "up to 15 % of such studies instead of 5 %" in looked


def test_a_grid_is_compared_at_the_same_other_settings() -> None:
    fields = {
        f"{norm},batch_size={b}": {"norm": norm, "batch_size": b}
        for norm in ("bn", "gn") for b in (8, 32)
    }  # fmt: skip
    results = simulated(
        {arm: [v + 0.1 * (i > 1) for v in BN] for i, arm in enumerate(fields)}, fields=fields
    )
    results = replace(results, question={**results.question, "varied": ["norm", "batch_size"]})
    found = _answer(results)
    assert found.headline == (
        "Both arms compared with bn at the same batch size on these test images are better."
    )
    assert "than bn,batch_size=8 [" in found.comparisons[0].sentence


def test_invalid_data_is_said_at_the_answer() -> None:
    results = simulated({"bn": BN, "gn": BN})
    described = Finding("copies", Level.INVALID, "Leak.").describe()
    spoiled = replace(results, data={"findings": [described]})
    assert any("invalidates these numbers" in w for w in _answer(spoiled).warnings)
    assert _answer(results).warnings == ()


def test_the_answer_stands_first_everywhere(tmp_path: Any) -> None:
    results = read_results(make_study(tmp_path / "s", arms=("bn", "gn", "none")))
    report = write_report(results)
    headline = _answer(results).headline
    page, text = report.html.read_text(), report.markdown.read_text()
    assert page.index(headline) < page.index('id="h-scores"')
    assert text.index("## The answer") < text.index("## Results")
    assert headline.replace("[", r"\[").replace("]", r"\]") in text
    assert terminal.verdict_lines(results)[0] == headline


def test_numbers_are_worded_with_care() -> None:
    assert [signed(v) for v in (0.012, -0.012, 0.0004, -0.0004)] == ["+1.2", "−1.2", "0.0", "0.0"]
    assert bracket(Interval(-0.001, 0.002, 0.95)) == "[−0.10, +0.20]"
    assert with_interval(0.01, Interval(-0.01, 0.03, 0.95)) == "+1.0 [−1.0, +3.0]"
    assert with_interval(0.01, None) == "+1.0"
    assert seeds_range((6, 40)) == "6 to 40"
    assert seeds_range((6, 6)) == "about 6"
    assert seeds_range((6, None)) == "6 to more than 10,000"
    assert seeds_range((None, None)) == "more than 10,000"
