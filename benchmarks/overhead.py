"""Where the processor time of a study goes, by part, and how good its estimate of time is.

OMP_NUM_THREADS=1 python benchmarks/overhead.py --data FOLDER [--limit-per-class 100] [--repeats 3]

Every repeat is a process of its own that makes the study anew through the command line, with one
worker, from a cache that an earlier call filled. A part has the time that is spent in it and in no
part inside it, so that the parts add up: what is imported on the way counts as imports. With
``PYTHONPATH`` another version of the package can be measured, since only functions that have long
been there are timed.

Processor time is that of all threads, in seconds. A machine that is busy with other work makes it
longer, too.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import importlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ratios import Ratio, tell

FUNCTIONS = {
    "workflow.comparison.load": "data",
    "workflow.comparison.known_findings": "data",
    "data.sources.find": "listing",
    "workflow.comparison.check_network": "checks before the runs",
    "workflow.comparison.prepare_study": "checks before the runs",
    "workflow.comparison.check_room": "checks before the runs",
    "workflow.comparison._estimate": "estimate",
    "studies.runner.train": "a run besides",
    "training.run.train_step": "steps",
    "training.run.evaluate": "evaluation",
    "training.run.probabilities": "evaluation",
    "workflow.comparison.write_report": "report",
}
"""Where a function is looked up, to the part that it belongs to."""
IMPORTS, REST = "imports", "the rest"
PARTS = [IMPORTS, "listing", "data", "checks before the runs", "estimate", "steps", "evaluation",
         "a run besides", "report", REST]  # fmt: skip
TRAINING = ("steps", "evaluation")
RESULT = "OVERHEAD "


class Clock:
    """Processor seconds of each part, without those of the parts inside it."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._inside, self._since = [REST], 0.0  # from the start of the process

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._inside[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, true: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which counts as the part."""

        def call(*given: Any, **named: Any) -> Any:
            self._turn()
            self._inside.append(part)
            try:
                return true(*given, **named)
            finally:
                self._turn()
                self._inside.pop()

        return call

    def stop(self) -> dict[str, float]:
        """All of it so far."""
        self._turn()
        return self.seconds


def measure(words: list[str]) -> dict[str, Any]:
    """Run a command of normlab in this process."""
    clock = Clock()
    builtins.__import__ = clock.timed(IMPORTS, builtins.__import__)
    importlib.import_module = clock.timed(IMPORTS, importlib.import_module)
    command = importlib.import_module("normlab.cli").main
    estimated, since = 0.0, 0.0

    def noted(estimate: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal estimated, since
            found = estimate(*given, **named)
            estimated, since = found.seconds, time.perf_counter()
            return found

        return call

    for path, part in FUNCTIONS.items():
        place, _, name = path.rpartition(".")
        module = importlib.import_module(f"normlab.{place}")
        true = getattr(module, name)
        setattr(module, name, clock.timed(part, noted(true) if name == "_estimate" else true))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = command(words)
    assert status == 0, status
    took = time.perf_counter() - since if since else 0.0
    return {"parts": clock.stop(), "estimated": estimated, "took": took}


def repeat(words: list[str]) -> dict[str, Any]:
    """The same in a process of its own, into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder) / "study")]
        asked = [sys.executable, __file__, "--measure", json.dumps([*words, *out])]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not found:
        sys.exit(done.stderr or done.stdout)
    result: dict[str, Any] = json.loads(found[-1].removeprefix(RESULT))
    return result


def main() -> None:
    """Print a table of the parts: median and spread over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit-per-class", type=int, default=100)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--arms", help="by default the seven of the preset norms")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.measure:
        print(RESULT + json.dumps(measure(json.loads(given.measure))))
        return
    words = [
        "compare", "--data", given.data, "--limit-per-class", str(given.limit_per_class),
        "--limit-all-splits", "--image-size", str(given.image_size), "--seeds", "1",
        "--epochs", str(given.epochs), "--workers", "1",
        *(["--arms", given.arms] if given.arms else []),
    ]  # fmt: skip
    repeat([*words, "--dry-run"])  # fills the cache with what is read,
    small = "compare --limit-per-class 2 --arms none --epochs 1 --seeds 1 --workers 1"
    repeat(small.split())  # and with what reports share
    found = [repeat(words) for _ in range(given.repeats)]
    every = [one["parts"] for one in found]
    whole = [sum(parts.values()) for parts in every]
    rows = [(part, [parts[part] for parts in every]) for part in PARTS]
    rows += [
        ("all", whole),
        ("all but training", [
            sum(parts.values()) - sum(parts[part] for part in TRAINING) for parts in every
        ]),
    ]  # fmt: skip
    print("processor seconds           median    from      to   share")
    for name, values in rows:
        share = statistics.median(values) / statistics.median(whole)
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"{name:<24} {middle:9.2f} {low:7.2f} {high:7.2f} {100 * share:5.0f} %")
    for one in found:
        print(f"estimated {one['estimated']:.0f} s, took {one['took']:.0f} s")
    rest = next(values for name, values in rows if name == "all but training")
    tell(
        Ratio.of("all but training, of a study", [a / b for a, b in zip(rest, whole, strict=True)]),
        Ratio.of(
            "estimated time, of what it took", [one["estimated"] / one["took"] for one in found]
        ),
    )


if __name__ == "__main__":
    main()
