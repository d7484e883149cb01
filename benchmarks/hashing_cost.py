"""What checksums cost: the share of a study's processor time that is spent on them.

python benchmarks/hashing_cost.py [rounds]

A round is a small study of the digits, made in this process, and the same command once more, which
finds every run complete and compares every file with its checksum. Whatever seals, lists or checks
counts as a whole, with the JSON and the reading of files that is part of it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import normlab
from normlab import seals

COUNTED = (
    "check_arrays", "check_files", "check_listed", "check_seal", "damage_of_study", "digest_for",
    "digest_of", "digests_of", "seal_of_arrays", "sealed_json", "sealed_toml",
)  # fmt: skip
"""Functions of the package, in whatever module."""
ARMS, SEEDS, EPOCHS, ROUNDS = "bn,gn", 2, 3, 5
"""Short runs: the longer a run, the smaller the share."""


def hashing_cost(**options: Any) -> tuple[float, float, float]:
    """Processor seconds of a study, those of its checksums, and those of checking it all again.

    Args:
        options: of ``normlab.compare``.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = {"arms": ARMS, "seeds": SEEDS, **options, "out": Path(folder) / "study"}
        normlab.compare(
            **{**asked, "limit_per_class": 6, "epochs": 1, "out": Path(folder) / "warm"}
        )
        with _counted() as spent:
            started = time.process_time()
            normlab.compare(**asked, workers=1)
            whole, made = time.process_time() - started, spent()
            normlab.compare(**asked, workers=1)
            return whole, made, spent() - made


@contextmanager
def _counted() -> Iterator[Callable[[], float]]:
    spent, depth = 0.0, 0

    def timed(true: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal spent, depth
            depth += 1
            started = time.process_time()
            try:
                return true(*args, **named)
            finally:
                depth -= 1
                if not depth:
                    spent += time.process_time() - started

        return call

    known = {seals, *(module for name, module in sys.modules.items() if name[:8] == "normlab.")}
    before = [(m, name, getattr(m, name)) for m in known for name in COUNTED if hasattr(m, name)]
    for module, name, true in before:
        setattr(module, name, timed(true))
    try:
        yield lambda: spent
    finally:
        for module, name, true in before:
            setattr(module, name, true)


def main(rounds: int) -> None:
    """Print a line per round, and the median."""
    shares = []
    for _ in range(rounds):
        whole, made, again = hashing_cost(epochs=EPOCHS)
        shares.append(100 * (made + again) / whole)
        print(
            f"{whole:.1f} s, checksums {1000 * made:.0f} ms, all checked again "
            f"{1000 * again:.0f} ms: {shares[-1]:.2f} %",
            flush=True,
        )
    print(
        f"share of a study's processor time: median {statistics.median(shares):.2f} % "
        f"({min(shares):.2f} to {max(shares):.2f}), n = {rounds}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
