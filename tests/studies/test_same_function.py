"""Bug or noise: planted bugs are told from rounding, in numbers and in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from normlab import compare
from normlab.data import DataConfig, DataSet, load
from normlab.norms import BatchNorm2d
from normlab.report import sanity
from normlab.studies import (
    Results,
    Run,
    SameFunction,
    compare_functions,
    paired_difference,
    read_results,
)
from normlab.training import RunConfig
from normlab.workflow import Comparison

STEPS = 12
HERE = Path(__file__).stem


class BiasedRunningVariance(BatchNorm2d):
    """The commonest mistake: the batch's biased variance goes into the running one."""

    def _track(self, x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> None:
        count = x.shape[0] * x.shape[2] * x.shape[3]
        super()._track(x, mean, var * ((count - 1) / count))


class WrongInFloat32(BatchNorm2d):
    """Right in float64, where one would look."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * 1.01 if x.dtype == torch.float32 else y


class WrongGradient(BatchNorm2d):
    """The forward pass is right, the gradient is not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y.detach() + 0.5 * (y - y.detach())


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=16))


def _compared(norm: str, digits: DataSet, steps: int = STEPS) -> SameFunction:
    reference, arm = (RunConfig(norm=name, n=1) for name in ("torch_bn", norm))
    return compare_functions(("torch_bn", reference), (norm, arm), digits, steps=steps)


def test_the_layer_from_the_paper_is_the_same_function(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=200)
    assert found.same
    assert found.steps == 200
    assert set(found.largest) == {"loss", "gradients", "weights", "buffers", "evaluation logits"}
    assert all(largest.difference < 1e-10 for largest in found.largest.values())
    # A comparison of nothing would find nothing: rounding must be there.
    assert found.largest["buffers"].difference > 0
    assert found.float32["gradients"] > 0


@pytest.mark.parametrize(
    ("norm", "differing", "hint"),
    [
        (f"{HERE}:BiasedRunningVariance", {"buffers", "evaluation logits"}, "biased against"),
        ("bn:momentum=0.9", {"buffers", "evaluation logits"}, "momentum's direction"),
        ("bn:eps=0.001", {"loss", "gradients", "weights", "buffers", "evaluation logits"}, "eps"),
        (f"{HERE}:WrongGradient", {"gradients", "weights", "loss", "buffers"}, "backward pass"),
    ],
)
def test_planted_bugs_are_found_and_described(
    norm: str, differing: set[str], hint: str, digits: DataSet
) -> None:
    found = _compared(norm, digits)
    assert not found.same
    assert differing <= set(found.differing)
    if "loss" not in differing:
        assert set(found.differing) == differing
        assert found.largest["loss"].difference < 1e-10
        assert found.largest["weights"].difference < 1e-10
    said = sanity.verdicts(_results(found, [0.9, 0.91, 0.92], [0.9, 0.91, 0.92]))[0]
    assert said.bug
    assert "supports a bug" in said.conclusion
    # Equal accuracies do not talk it away.
    assert "would have called it noise" in said.conclusion
    assert hint in said.function


def test_a_bug_in_float32_alone_is_found(digits: DataSet) -> None:
    found = _compared(f"{HERE}:WrongInFloat32", digits)
    assert not found.differing
    assert found.differing_float32
    assert "something else in float32" in sanity.verdicts(_results(found, [0.9], [0.9]))[0].function


def test_layers_of_other_parameters_are_different_functions(digits: DataSet) -> None:
    found = _compared("none", digits)
    assert not found.same
    assert "conv.bias" in found.mismatch
    assert "different functions" in sanity.verdicts(_results(found, [0.9], [0.9]))[0].function


def test_a_difference_of_accuracy_alone_is_called_noise(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=2)
    said = sanity.verdicts(_results(found, [0.80, 0.81, 0.80], [0.90, 0.91, 0.90]))[0]
    assert not said.bug
    assert "supports noise, not a bug" in said.conclusion
    assert "one in twenty" in said.conclusion
    assert "10.00 points above" in said.trained[-1]


def test_the_interval_is_that_of_scipy(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=1)
    theirs, ours = [0.801, 0.813, 0.842, 0.79], [0.811, 0.809, 0.861, 0.80]
    difference = paired_difference(_results(found, theirs, ours), "bn", "torch_bn")
    assert difference is not None
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx(tuple(expected))
    assert difference.mean == pytest.approx(float(np.mean(ours) - np.mean(theirs)))


def test_seeds_are_paired_and_the_unfinished_left_out(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=1)
    results = _results(found, [0.5, math.nan, 0.7], [0.6, 0.6, 0.6])
    difference = paired_difference(results, "bn", "torch_bn")
    assert difference is not None
    assert difference.seeds == (0, 2)
    assert difference.mean == pytest.approx(0.0)


def test_the_command_asks_both_questions_and_keeps_the_answers(tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "n": 1, "epochs": 1, "limit_per_class": 16, "seeds": 2, "workers": 1,
    }  # fmt: skip
    done = compare("sanity", out=tmp_path, **asked)
    assert isinstance(done, Comparison)
    (check,) = read_results(tmp_path).checks
    assert (check.reference, check.arm, check.same, check.steps) == ("torch_bn", "bn", True, 200)
    for name in ("results.md", "report.html"):
        assert "supports noise, not a bug" in (tmp_path / name).read_text()
    written = (tmp_path / "checks/same-function/bn.json").stat().st_mtime_ns
    again = compare("sanity", out=tmp_path, **asked)
    assert isinstance(again, Comparison)
    assert again.runs_made == 0
    assert (tmp_path / "checks/same-function/bn.json").stat().st_mtime_ns == written


def _results(found: SameFunction, theirs: list[float], ours: list[float]) -> Results:
    """A study as read back, with these test accuracies; NaN is a run that diverged."""
    runs = []
    for arm, values in ((found.reference, theirs), (found.arm, ours)):
        for seed, value in enumerate(values):
            metrics = {split: {"accuracy": value} for split in ("train", "val", "test")}
            status = "diverged at step 3" if math.isnan(value) else "complete"
            record = {"status": status, "metrics": None if math.isnan(value) else metrics}
            runs.append(Run(arm, seed, Path(), record, ()))
    arms = (found.reference, found.arm)
    question = {"arms": {arm: {"norm": arm} for arm in arms}, "seeds": list(range(len(ours)))}
    return Results(Path(), question, {}, arms, tuple(runs), (found,))
