"""How often intervals and verdicts are right, on studies whose truth is known.

python benchmarks/error_rates.py

Accuracies are normal over seeds: a part that all arms share, and a part of each arm's own, 0.3
points each, so that the difference of two equal arms has a standard deviation of 0.42 points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from normlab.results import Results, Run
from normlab.results.statistics import Verdict, judge, t_interval
from normlab.runs.rule import LOOKS, Rule

STUDIES = 1000
ARMS = ("bn", "torch_bn", "in", "bin", "ln", "gn", "none")
SHARED = OWN = 0.003
FALSE = {Verdict.BETTER, Verdict.WORSE}


def _study(
    generator: np.random.Generator, shift: Mapping[str, float], seeds: int, rule: Rule
) -> Results:
    common = generator.normal(0, SHARED, seeds)
    runs = []
    for arm, less in shift.items():
        reached = 0.85 + less + common + generator.normal(0, OWN, seeds)
        for seed, value in enumerate(reached.tolist()):
            record = {"status": "complete", "metrics": {"test": {"accuracy": value}}}
            runs.append(Run(arm, seed, Path(), record, []))
    question = {
        "arms": {arm: {"norm": arm} for arm in shift},
        "seeds": list(range(seeds)),
        "verdict": rule.describe(),
    }
    return Results(Path(), question, {}, tuple(shift), tuple(runs))


def coverage() -> None:
    print("| seeds | share of 95 % intervals that hold the truth |\n| ---: | ---: |")
    for seeds in (3, 5, 10):
        drawn = np.random.default_rng(seeds).normal(0.3, 2.0, (20 * STUDIES, seeds))
        found = [t_interval(row, 0.95) for row in drawn]
        print(f"| {seeds} | {100 * np.mean([0.3 in i for i in found if i]):.1f} % |")


def family() -> None:
    print(
        "\n| seeds | false better or worse somewhere | unadjusted intervals without 0 somewhere |"
    )
    print("| ---: | ---: | ---: |")
    for seeds in (3, 5, 10):
        generator = np.random.default_rng(seeds)
        wrong = unadjusted = 0
        for _ in range(STUDIES):
            study = _study(generator, dict.fromkeys(ARMS, 0.0), seeds, Rule("bn"))
            comparisons = judge(study, images=False).comparisons
            wrong += any(c.verdict in FALSE for c in comparisons)
            unadjusted += any(c.unadjusted and 0 not in c.unadjusted for c in comparisons)
        shares = f"{100 * wrong / STUDIES:.1f} % | {100 * unadjusted / STUDIES:.1f} %"
        print(f"| {seeds} | {shares} |")


def planted() -> None:
    print("\n| seeds | arm | better | worse | equivalent | inconclusive |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    shift = {"bn": 0.0, "equal": 0.0, "worse": -0.02}
    for seeds in (3, 5, 10):
        generator = np.random.default_rng(seeds)
        found: dict[str, Counter[Verdict]] = {"equal": Counter(), "worse": Counter()}
        for _ in range(STUDIES):
            study = _study(generator, shift, seeds, Rule("bn", margin=0.01))
            for comparison in judge(study, images=False).comparisons:
                found[comparison.arm][comparison.verdict] += 1
        for arm, verdicts in found.items():
            shares = " | ".join(
                f"{100 * verdicts[v] / STUDIES:.1f} %"
                for v in (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
            )
            print(f"| {seeds} | {arm} | {shares} |")


def _raced(whole: Results) -> tuple[Results, int]:
    """A study in which arms stop when no open comparison needs them, and how many runs it made."""
    seeds = dict.fromkeys(whole.arms, LOOKS[0])
    while True:
        most = max(seeds.values())
        question = {
            **whole.question,
            "seeds": list(range(most)),
            "fewer_seeds": {arm: count for arm, count in seeds.items() if count < most},
        }
        runs = tuple(run for run in whole.runs if run.seed < seeds[run.arm])
        results = Results(Path(), question, {}, whole.arms, runs)
        wanted = judge(results, images=False).wanted
        if not wanted:
            return results, len(runs)
        seeds |= wanted


def racing() -> None:
    """Studies that give no more seeds to arms that are decided."""
    print("\n| arms | margin | a false verdict somewhere | runs made | without racing |")
    print("| --- | ---: | ---: | ---: | ---: |")
    equal = dict.fromkeys(ARMS, 0.0)
    mixed = {**equal, "in": -0.02, "bin": -0.01, "ln": -0.0075, "none": -0.05}
    for name, shift, margin in (
        ("seven equal", equal, 0.0005),
        ("seven equal", equal, 0.005),
        ("three equal, four worse by 0.75 to 5 points", mixed, 0.005),
    ):
        generator = np.random.default_rng(23)
        rule = Rule("bn", margin=margin, looks=LOOKS)
        wrong = made = together = 0
        for _ in range(STUDIES):
            whole = _study(generator, shift, LOOKS[-1], rule)
            results, runs = _raced(whole)
            found = judge(results, images=False)
            wrong += any(
                _is_false(one.verdict, shift[one.arm], margin) for one in found.comparisons
            )
            made += runs
            together += len(ARMS) * len(found.seeds)
        print(
            f"| {name} | {100 * margin:g} | {100 * wrong / STUDIES:.1f} % | "
            f"{made / STUDIES:.1f} | {together / STUDIES:.1f} |"
        )


def _is_false(verdict: Verdict, shift: float, margin: float) -> bool:
    """Whether a verdict says something untrue of an arm that differs by ``shift``."""
    return (
        (verdict is Verdict.BETTER and shift <= 0)
        or (verdict is Verdict.WORSE and shift >= 0)
        or (verdict is Verdict.EQUIVALENT and abs(shift) > margin)
    )


def looking() -> None:
    generator = np.random.default_rng(11)
    rule = Rule("bn", margin=0.0005, looks=LOOKS)
    wrong = 0
    for _ in range(STUDIES):
        whole = _study(generator, dict.fromkeys(ARMS, 0.0), LOOKS[-1], rule)
        for look in LOOKS:
            runs = tuple(run for run in whole.runs if run.seed < look)
            question = {**whole.question, "seeds": list(range(look))}
            judgement = judge(Results(Path(), question, {}, ARMS, runs), images=False)
            if any(c.verdict in FALSE for c in judgement.comparisons):
                wrong += 1
                break
    drawn = generator.normal(0, 1, (2 * STUDIES, 10))
    naive = np.mean(
        [any(0 not in i for n in range(3, 11) if (i := t_interval(row[:n], 0.95))) for row in drawn]
    )
    print(
        f"\nAdding seeds until decided, seven equal arms: {100 * wrong / STUDIES:.1f} % of studies"
    )
    print(f"One comparison looked at after every seed from 3 to 10: {100 * naive:.1f} %")
    print(f"\nStandard error of a share of 5 %: {100 * math.sqrt(0.05 * 0.95 / STUDIES):.1f} %")


if __name__ == "__main__":
    coverage()
    family()
    planted()
    looking()
    racing()
