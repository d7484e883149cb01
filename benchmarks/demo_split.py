"""How the split of the embedded digits was chosen: which one lets a demo decide something.

Runs every arm of the preset ``norms`` with seeds that no demo uses, for several splits, and says
for a number of seeds how many of the six comparisons with bn get a verdict on average, over
subsets of these seeds.

    python benchmarks/demo_split.py --seeds 10 --demo-seeds 6
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from pathlib import Path

import numpy as np

from normlab.data import DataConfig, load
from normlab.results.statistics import simultaneous_level, t_interval, verdict
from normlab.results.statistics.verdict import Verdict
from normlab.runs import RunConfig
from normlab.studies import keep_memory
from normlab.training import train

ARMS = ("torch_bn", "bn", "in", "bin", "ln", "gn", "none")
SPLITS = ((0.15, 0.6), (0.15, 0.55), (0.15, 0.5), (0.1, 0.5), (0.15, 0.15))
"""Shares of validation and test."""
FIRST_SEED = 100
MARGIN, LEVEL, SUBSETS = 0.005, 0.95, 400


def accuracies(val: float, test: float, seeds: int, folder: Path) -> dict[str, list[float]]:
    """Test accuracy of every arm with every seed."""
    data = load(DataConfig(val_fraction=val, test_fraction=test))
    found: dict[str, list[float]] = {}
    for arm, seed in itertools.product(ARMS, range(FIRST_SEED, FIRST_SEED + seeds)):
        record = train(RunConfig(norm=arm, seed=seed), data, folder / f"{arm}-{seed}-{test}-{val}")
        found.setdefault(arm, []).append(record["metrics"]["test"]["accuracy"])
    return found


def decided(found: dict[str, list[float]], seeds: int) -> dict[str, float]:
    """In which share of subsets of this many seeds each arm gets a verdict."""
    every = range(len(found["bn"]))
    subsets = list(itertools.combinations(every, seeds))
    random.Random(0).shuffle(subsets)
    subsets = subsets[:SUBSETS]
    level = simultaneous_level(LEVEL, len(ARMS) - 1)
    shares = {}
    for arm in ARMS:
        if arm == "bn":
            continue
        differences = np.subtract(found[arm], found["bn"])
        verdicts = [
            verdict(t_interval(differences[list(subset)], level), MARGIN) for subset in subsets
        ]
        shares[arm] = sum(one is not Verdict.INCONCLUSIVE for one in verdicts) / len(verdicts)
    return shares


def _mean(found: dict[str, list[float]], arm: str) -> str:
    values = 100 * np.array(found[arm])
    return f"{arm} {values.mean():.1f} ± {values.std(ddof=1):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--demo-seeds", type=int, default=6)
    asked = parser.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        for val, test in SPLITS:
            found = accuracies(val, test, asked.seeds, Path(folder))
            shares = decided(found, asked.demo_seeds)
            lowest = min(value for values in found.values() for value in values)
            print(
                f"val {val:.0%}, test {test:.0%}: {sum(shares.values()):.2f} of "
                f"{len(shares)} comparisons decided; {_mean(found, 'bn')}, "
                f"{_mean(found, 'none')}; lowest {100 * lowest:.1f} %; "
                + ", ".join(f"{arm} {share:.2f}" for arm, share in shares.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
