"""Time of a step of training of every method beside bn's: ResNet of n = 2, 32 px, batch 32.

python benchmarks/catalogue.py [--rounds 30] [--only NAME ...] [--write]

All arms alternate in one process on one thread, and each step is compared with bn's of its round.
Processor time; the median of the ratios, with quartiles. With --write the ratios go into the
record from which docs/norms.md has them; run ``make docs`` after it. With --only they are added to
a record that was measured in the same way on such a machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import normlab
from normlab.files import write_text
from normlab.models import ResNet
from normlab.norms import CATALOG
from normlab.norms.kernels import Kernels, KernelsUnavailableError, computed_by, load
from normlab.runs import RunConfig
from normlab.studies import keep_memory
from normlab.training import train_step
from normlab.training.environment import hardware
from normlab.training.optimizer import LayerAwareOptimizer

RECORD = Path(normlab.__file__).parent / "workflow/measured/steps.json"
WARM_UP, CLASSES, BATCH, SIDE = 3, 10, 32, 32
BESIDE = "bn"
Ratios = dict[str, dict[str, float]]


def steps(
    kernels: Kernels | None, rounds: int, names: Iterable[str] = CATALOG
) -> dict[str, list[float]]:
    """Seconds of each method's step, round by round."""
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    batch = images, torch.randint(0, CLASSES, (BATCH,))
    arms: dict[str, tuple[nn.Module, LayerAwareOptimizer, RunConfig]] = {}
    for name in names:
        # A rate at which no arm diverges: what is not finite may take another time.
        config = RunConfig(norm=name, n=2, lr=1e-4)
        model = ResNet(config.n, CLASSES, name, seed=0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        arms[name] = model, LayerAwareOptimizer(model, config), config
    taken: dict[str, list[float]] = {name: [] for name in arms}
    with computed_by(kernels):
        for round_ in range(rounds + WARM_UP):
            for name, (model, optimizer, config) in arms.items():
                began = time.process_time()
                train_step(model, optimizer, [batch], config)
                if round_ >= WARM_UP:
                    taken[name].append(time.process_time() - began)
    return taken


def ratios(taken: dict[str, list[float]]) -> Ratios:
    """Of each method to bn, in the same round."""
    found: Ratios = {}
    for name, seconds in taken.items():
        beside = [a / b for a, b in zip(seconds, taken[BESIDE], strict=True)]
        low, median, high = statistics.quantiles(beside, n=4)
        found[name] = {"median": round(median, 3), "low": round(low, 3), "high": round(high, 3)}
    return found


def record(found: dict[str, Ratios], rounds: int) -> dict[str, Any]:
    """What docs/norms.md needs: the ratios, and how and where they were measured."""
    machine = hardware("cpu")
    return {
        "setting": f"a network of 14 layers at {SIDE} px with batches of {BATCH}, one thread, "
        f"{rounds} rounds",
        "machine": f"{machine['cpu']}, {machine['capability']}",
        "versions": f"normlab {normlab.__version__}, torch {torch.__version__}",
        "ratios": found,
    }


def together(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A record with further methods in it, in the order of the catalogue.

    Raises:
        SystemExit: they were not measured in the same way.
    """
    for fact in ("setting", "machine", "versions"):
        if known[fact] != new[fact]:
            raise SystemExit(f"{fact}: the record has {known[fact]}, this is {new[fact]}.")
    ratios = {way: {**found, **new["ratios"][way]} for way, found in known["ratios"].items()}
    in_order = {
        way: {name: found[name] for name in CATALOG if name in found}
        for way, found in ratios.items()
    }
    return {**known, "ratios": in_order}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", action="store_true", help=f"keep the ratios in {RECORD.name}")
    parser.add_argument("--only", nargs="+", choices=CATALOG, help=f"these, beside {BESIDE}")
    asked = parser.parse_args()
    names = list(CATALOG) if asked.only is None else list(dict.fromkeys([BESIDE, *asked.only]))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_memory()
    ways: dict[str, Kernels | None] = {"torch": None}
    try:
        ways = {"compiled": load(), **ways}
    except KernelsUnavailableError as error:
        print(f"Without compiled kernels: {error}.")
    found: dict[str, Ratios] = {}
    for way, kernels in ways.items():
        taken = steps(kernels, asked.rounds, names)
        found[way] = ratios(taken)
        print(f"\n{way}, {asked.rounds} rounds:\n")
        print(f"| method | ms | of {BESIDE} | quartiles |\n| --- | ---: | ---: | --- |")
        for name, ratio in found[way].items():
            milliseconds = 1e3 * statistics.median(taken[name])
            print(
                f"| {name} | {milliseconds:.1f} | {ratio['median']:.2f} "
                f"| {ratio['low']:.2f} to {ratio['high']:.2f} |"
            )
    if asked.write:
        made = record(found, asked.rounds)
        if asked.only is not None:
            made = together(json.loads(RECORD.read_text(encoding="utf-8")), made)
        write_text(RECORD, json.dumps(made, indent=1) + "\n")
        print(f"\n{RECORD}")


if __name__ == "__main__":
    main()
