"""What the curves of an arm say."""

from __future__ import annotations

from dataclasses import replace

from normlab.results import read_curves
from simulated import simulated


def _gap(train: float, val: float) -> str:
    results = simulated({"bn": [0.5, 0.5]})
    metrics = {"train": {"accuracy": train}, "val": {"accuracy": val}}
    history = [{"epoch": 1, "split": "val", "accuracy": val, "loss": 1.0}]
    runs = tuple(
        replace(run, record={"status": "complete", "metrics": metrics}, history=history)
        for run in results.runs
    )
    return read_curves(replace(results, runs=runs), "bn").gap


def test_a_gap_is_training_above_validation() -> None:
    assert "19.0 points above validation" in _gap(0.99, 0.80)
    assert "above validation" not in _gap(0.80, 0.99)
    assert "19.0 points" in _gap(0.80, 0.99)
