"""Arms that are decided get no more seeds: what is judged, what goes on, and how often it errs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from normlab.report import Report
from normlab.report.header import endings, facts
from normlab.report.sections.answer import sentences
from normlab.report.sections.limits import limits
from normlab.report.sections.scores import meaning, scores_table
from normlab.results import Results
from normlab.results.spent import PASSED, PROCESSOR, spared
from normlab.results.statistics import Verdict, judge
from normlab.runs import METRICS
from normlab.runs.rule import LOOKS, Rule
from normlab.splits import SPLITS
from simulated import simulated

LOOKED = {"reference": "bn", "margin": 0.5, "looks": [3, 5]}
ARMS = ("bn", "torch_bn", "gn", "ln", "none")


def first(whole: Results, seeds: Mapping[str, int]) -> Results:
    """A study in which each arm has been run with its first seeds."""
    most = max(seeds.values())
    fewer = {arm: count for arm, count in seeds.items() if count < most}
    question = {**whole.question, "seeds": list(range(most)), "fewer_seeds": fewer}
    runs = tuple(run for run in whole.runs if run.seed < seeds[run.arm])
    return replace(whole, question=question, runs=runs)


def raced(whole: Results) -> Results:
    """A study as it ends: arms stop where no open comparison needs them."""
    seeds = dict.fromkeys(whole.arms, min(judge(whole, images=False).rule.looks))
    while wanted := judge(first(whole, seeds), images=False).wanted:
        assert all(wanted[arm] > seeds[arm] for arm in wanted if arm != "bn")
        seeds |= wanted
    return first(whole, seeds)


WORSE_THEN_EQUAL = simulated(
    {
        "bn": [0.90, 0.91, 0.92, 0.90, 0.91],
        "gn": [0.85, 0.86, 0.87, 0.90, 0.91],  # 5 points below thrice, then level
        "none": [0.86, 0.93, 0.90, 0.94, 0.88],
    },
    verdict=LOOKED,
    images=10_000,
)


def test_a_decided_comparison_keeps_its_look_whatever_seeds_follow() -> None:
    at_three = judge(first(WORSE_THEN_EQUAL, dict.fromkeys(WORSE_THEN_EQUAL.arms, 3)))
    gn, none = at_three.comparisons
    assert (gn.verdict, none.verdict) == (Verdict.WORSE, Verdict.INCONCLUSIVE)
    assert at_three.wanted == {"bn": 5, "none": 5}
    # Whether gn stopped there or was given more seeds in another way.
    for counts in ({"bn": 5, "gn": 3, "none": 5}, {"bn": 5, "gn": 5, "none": 5}):
        later, other = judge(first(WORSE_THEN_EQUAL, counts)).comparisons
        assert (later.verdict, later.interval, later.seeds) == (gn.verdict, gn.interval, (0, 1, 2))
        assert later.later == tuple(range(3, counts["gn"]))
        assert other.seeds == (0, 1, 2, 3, 4)
    assert not judge(WORSE_THEN_EQUAL).wanted  # the look at five was the last


def test_each_reference_goes_on_with_its_open_arms_alone() -> None:
    fields = {
        f"{norm},batch_size={size}": {"norm": norm, "batch_size": size}
        for norm in ("bn", "gn") for size in (8, 32)
    }  # fmt: skip
    grid = simulated(
        {
            "bn,batch_size=8": [0.90, 0.91, 0.92],
            "bn,batch_size=32": [0.90, 0.91, 0.92],
            "gn,batch_size=8": [0.85, 0.86, 0.87],
            "gn,batch_size=32": [0.86, 0.93, 0.90],
        },
        verdict=LOOKED,
        fields=fields,
        images=10_000,
    )
    assert judge(grid).wanted == {"bn,batch_size=32": 5, "gn,batch_size=32": 5}


def test_an_arm_without_a_model_gets_no_more_seeds() -> None:
    lost = simulated(
        {"bn": [0.9, 0.91, 0.92], "gn": [None] * 3, "none": [0.86, 0.93, 0.9]}, verdict=LOOKED
    )
    assert judge(lost).wanted == {"bn": 5, "none": 5}


def test_what_was_not_run_is_counted_and_timed_by_the_arms_own_runs() -> None:
    study = first(WORSE_THEN_EQUAL, {"bn": 5, "gn": 3, "none": 5})
    judgement = judge(study)
    assert spared(study, judgement) is not None

    def timed(known: Mapping[str, float], device: str = "cpu") -> Results:
        runs = tuple(
            replace(
                run,
                record={
                    **run.record,
                    "seconds": 100.0,
                    "config": {"device": device},
                    **({"processor_seconds": known[run.arm] + run.seed} if known else {}),
                },
            )
            for run in study.runs
        )
        return replace(study, runs=runs)

    found = spared(timed({"bn": 5, "gn": 7, "none": 11}), judgement)
    assert found is not None
    # Seeds 0, 1 and 2 of gn took 7, 8 and 9 seconds; two were not run.
    assert (found.arms, found.runs, found.seconds, found.kind) == (("gn",), 2, 16.0, PROCESSOR)
    for other in (timed({}), timed({"bn": 5, "gn": 7, "none": 11}, "cuda")):
        found = spared(other, judgement)
        assert found is not None
        assert (found.seconds, found.kind) == (200.0, PASSED)
    same = first(WORSE_THEN_EQUAL, dict.fromkeys(study.arms, 5))
    assert spared(same, judge(same)) is None


def test_the_page_says_with_how_many_seeds_each_was_decided() -> None:
    results = first(WORSE_THEN_EQUAL, {"bn": 5, "gn": 3, "none": 5})
    runs = []
    for run in results.runs:
        reached = {"loss": 0.3, **dict.fromkeys(METRICS, run.metric("test", "accuracy"))}
        metrics = dict.fromkeys(SPLITS, reached)
        runs.append(replace(run, record={**run.record, "metrics": metrics}))
    report = Report(replace(results, runs=tuple(runs)))
    answer = sentences.answer(report)
    gn, none = answer.comparisons
    assert gn.sentence.endswith("It was decided with 3 seeds.")
    assert "inconclusive with 5 seeds" in none.sentence
    assert "decided" not in none.sentence
    sure = " ".join(answer.sure)
    assert "A comparison that is decided keeps the verdict of that look" in sure
    assert "No open comparison needed more seeds of gn, so 2 runs were not made" in sure
    assert not answer.warnings
    # Nothing is called missing, and nothing says that all arms have the same seeds.
    assert endings(report.results) == []
    assert ("Runs", "3 arms, each with 3 to 5 seeds") in facts(report)
    table = scores_table(report.results)
    assert [row[-1].text for row in table.rows] == ["5", "3", "5"]
    assert any("Arms have 3 to 5 seeds" in note for note in meaning(report.results))
    assert limits(report.results)[0].startswith("3 to 5 seeds per arm.")


def test_seeds_that_were_added_to_a_decided_arm_are_no_caution() -> None:
    """The verdict of gn stands; the seed of none waits for the look at five."""
    report = Report(first(WORSE_THEN_EQUAL, {"bn": 4, "gn": 4, "none": 4}))
    (said,) = sentences.warnings(report)
    assert said == (
        "1 seed run since the last look is left out of the verdicts, until the look at 5."
    )
    decided = Report(first(WORSE_THEN_EQUAL.only(["bn", "gn"]), {"bn": 4, "gn": 4}))
    assert sentences.warnings(decided) == []
    assert "Seeds that gn was given after that change no verdict." in sentences.answer(decided).sure


@pytest.mark.parametrize("shift", [0.0, -0.0075])
def test_racing_errs_in_at_most_one_study_of_twenty(shift: float) -> None:
    """Equal arms, and a mixture of equal and worse ones. A verdict is false where it says better or
    worse of equal arms, better of a worse one, or equivalent of one that is worse by more."""
    generator = np.random.default_rng(29)
    shifts = {"bn": 0.0, "torch_bn": 0.0, "gn": shift, "ln": 2 * shift, "none": 4 * shift}
    rule = Rule("bn", margin=0.0005 if not shift else 0.005, looks=LOOKS)
    erring = saved = 0
    for number in range(400):
        common = generator.normal(0, 0.003, LOOKS[-1])
        whole = simulated(
            {
                arm: (0.85 + less + common + generator.normal(0, 0.003, LOOKS[-1])).tolist()
                for arm, less in shifts.items()
            },
            verdict=rule.describe(),
        )
        found = judge(whole, images=False)
        if number < 20:  # what is decided, and when, is the same for a study that gave no more
            ended = raced(whole)
            again = judge(ended, images=False).comparisons
            assert again == tuple(replace(one, later=()) for one in found.comparisons)
            saved += len(whole.runs) - len(ended.runs)
        false = {0.0: (Verdict.BETTER, Verdict.WORSE)}
        erring += any(
            one.verdict in false.get(shifts[one.arm], (Verdict.BETTER, Verdict.EQUIVALENT))
            for one in found.comparisons
        )
    assert erring <= 20
    if shift:
        assert saved > 20 * 20
