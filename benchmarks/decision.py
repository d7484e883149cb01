"""Processor time per decision, with and without more seeds for arms that are decided.

python benchmarks/decision.py STUDY
python benchmarks/decision.py --data digits --epochs 4 --out STUDY [more options of compare]

The first form reads a study that normlab compare --until-decided made, the second makes it first.
What the runs took is read from their records. Without racing every arm would have the seeds of the
longest comparison; the runs that were not made are estimated by the mean of their arm's runs.
"""

from __future__ import annotations

import subprocess
import sys

from normlab.pages.words import duration
from normlab.results import Results, read_results
from normlab.results.spent import kind_of_time, mean_seconds, seconds_of
from normlab.results.statistics import judge


def made(options: list[str]) -> str:
    """Make a study with these options of compare; returns its folder."""
    if "--out" not in options:
        sys.exit("Name the study's folder with --out.")
    call = [sys.executable, "-m", "normlab", "compare", *options, "--until-decided"]
    subprocess.run(call, check=True)
    return options[options.index("--out") + 1]


def table(results: Results) -> str:
    """The two rows, and how the second was found."""
    judgement = judge(results, images=False)
    runs = [run for run in results.runs if run.ended]
    kind = kind_of_time(runs)
    _, most = results.seed_counts
    spent, more = 0.0, 0.0
    for arm in results.arms:
        mean = mean_seconds(results, arm, kind)
        if mean is None:
            sys.exit(f"The runs of {arm} did not record what they took.")
        spent += sum(seconds_of(run, kind) or 0.0 for run in runs if run.arm == arm)
        more += mean * (most - len(results.seeds_of(arm)))
    decided = sum(found.settled for found in judgement.comparisons)
    asked = len(judgement.comparisons)
    lines = [
        f"| | runs | {kind} | comparisons decided | {kind} per decision |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, count, seconds in (
        ("decided arms get no more seeds", len(runs), spent),
        ("every arm goes on (estimated)", most * len(results.arms), spent + more),
    ):
        each = duration(seconds / decided) if decided else "nothing decided"
        lines.append(f"| {name} | {count} | {duration(seconds)} | {decided} of {asked} | {each} |")
    seeds = ", ".join(f"{found.arm} {len(found.seeds)}" for found in judgement.comparisons)
    return "\n".join([*lines, "", f"Seeds of each comparison: {seeds}."])


if __name__ == "__main__":
    given = sys.argv[1:]
    if not given:
        sys.exit(__doc__)
    place = given[0] if len(given) == 1 else made(given)
    print(table(read_results(place)))
