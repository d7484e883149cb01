"""Results of a study without its runs: accuracies as one likes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def _record(value: float | None) -> dict[str, Any]:
    if value is None:
        return {"status": "diverged at step 7", "metrics": None}
    return {"status": "complete", "metrics": {"test": {"accuracy": value}}}
