"""What each start of an approximate conversion loses: accuracy on images that no start has seen.

    python benchmarks/starts.py STUDY/runs/bn/seed-0 STUDY/runs/bn/seed-1 ... --to gn:groups=8,in

Every run's model is converted on training images, without labels, and evaluated on validation
images, both spread evenly over their split. Runs in the same folder are seeds of one arm. A cell is
their mean accuracy in percent, and in brackets the mean loss in points ± half of its 95 % t
interval over seeds. The last column has the processor time of each start for one model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from normlab import convert, load_model
from normlab.conversion.converting import How
from normlab.data import DataSet, DeviceSplit
from normlab.models import load_info
from normlab.results.statistics import t_interval
from normlab.workflow.exporting import own_data

STARTS: tuple[How, ...] = ("fresh", "copied", "matched", "distilled", "distilled_all")


def spread(data: DataSet, split: str, most: int) -> tuple[Tensor, Tensor]:
    """Images and labels, evenly from the whole split."""
    held = DeviceSplit(data, split)
    return held.batch(np.unique(np.linspace(0, len(held) - 1, most).round()).astype(np.int64))


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    answers = torch.cat([model.eval()(batch) for batch in torch.split(images, 256)]).argmax(1)
    return 100 * float((answers == labels).double().mean())


def measured(
    runs: list[Path], to: str, images: int, held: int
) -> Iterator[tuple[float, dict[How, tuple[float, float]]]]:
    """For each run, the original's accuracy, and accuracy and seconds of every start."""
    for run in runs:
        model, data = load_model(run), own_data(run, load_info(run), "Give the run of a study.")
        x, _ = spread(data, "train", images)
        test = spread(data, "val", held)
        found: dict[How, tuple[float, float]] = {}
        for how in STARTS:
            began = time.process_time()
            made = convert(model, to, x, how=how).model
            seconds = time.process_time() - began
            found[how] = (accuracy(made, *test), seconds)
        yield accuracy(model, *test), found


def cell(before: list[float], after: list[float]) -> str:
    lost = [a - b for a, b in zip(before, after, strict=True)]
    said = f"{statistics.mean(lost):.1f}"
    interval = t_interval(lost, 0.95)
    if interval is not None:
        said += f" ± {(interval.high - interval.low) / 2:.1f}"
    return f"{statistics.mean(after):.1f} ({said})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--to", default="gn:groups=8")
    parser.add_argument("--images", type=int, default=512, help="to convert on")
    parser.add_argument("--held", type=int, default=1500, help="to evaluate on, at most")
    given = parser.parse_args()
    arms: dict[Path, list[Path]] = {}
    for run in given.runs:
        arms.setdefault(run.parent, []).append(run)
    print(f"| arm | to | seeds | original | {' | '.join(STARTS)} | seconds |")
    print(f"| --- | --- | ---: | ---: |{' ---: |' * len(STARTS)} --- |")
    for arm, runs in arms.items():
        for to in given.to.split(","):
            rows = list(measured(runs, to, given.images, given.held))
            before = [first for first, _ in rows]
            cells = [cell(before, [found[how][0] for _, found in rows]) for how in STARTS]
            seconds = ", ".join(
                f"{statistics.mean(found[how][1] for _, found in rows):.0f}" for how in STARTS
            )
            print(
                f"| {arm} | {to} | {len(rows)} | {statistics.mean(before):.1f} "
                f"| {' | '.join(cells)} | {seconds} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
