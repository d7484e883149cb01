"""Results of a study without its runs: accuracies as one likes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normlab.results import Results, Run


def simulated(
    accuracy: Mapping[str, Sequence[float | None]],
    *,
    verdict: Mapping[str, Any] | None = None,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    folder: Path = Path("nowhere"),
    images: int | None = None,
) -> Results:
    """Arms to one test accuracy a seed (a share of 1); None is a run that diverged.

    Args:
        accuracy: of every arm, equally many.
        verdict: what study.toml says of the rule.
        fields: of each arm what varies; by default its name is its layer.
        folder: of the study.
        images: of the test split.
    """
    seeds = max(map(len, accuracy.values()))
    question = {
        "arms": dict(fields or {arm: {"norm": arm} for arm in accuracy}),
        "seeds": list(range(seeds)),
        "varied": ["norm"],
        **({"verdict": dict(verdict)} if verdict else {}),
    }
    runs = [
        Run(arm, seed, folder / "runs" / arm / f"seed-{seed}", _record(value), [])
        for arm, values in accuracy.items()
        for seed, value in enumerate(values)
    ]
    data: dict[str, Any] = {"images": {"test": images}} if images else {}
    return Results(folder, question, data, tuple(accuracy), tuple(runs))


def answering(right: Mapping[str, npt.NDArray[np.bool_]], labels: Any, folder: Path) -> Results:
    """Results whose runs left predictions.

    Args:
        right: of every arm, per seed which of the test images it gets right: (seeds, images).
        labels: the true classes, 0 to 2.
        folder: of the study; its runs' folders are made.
    """
    results = simulated(
        {arm: found.mean(1).tolist() for arm, found in right.items()},
        folder=folder,
        images=len(labels),
    )
    for run in results.runs:
        given = np.where(right[run.arm][run.seed], labels, (labels + 1) % 3)
        run.folder.mkdir(parents=True)
        np.savez(
            run.folder / "predictions.npz",
            test_image=np.array([f"i{k}" for k in range(len(labels))]),
            test_label=labels,
            test_probabilities=np.eye(3, dtype=np.float32)[given],
        )
    return results


def _record(value: float | None) -> dict[str, Any]:
    if value is None:
        return {"status": "diverged at step 7", "metrics": None}
    return {"status": "complete", "metrics": {"test": {"accuracy": value}}}
