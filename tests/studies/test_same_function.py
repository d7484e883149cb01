"""Bug or noise: planted bugs are told from rounding, in numbers and in words."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from normlab import compare
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.norms import BatchNorm2d, BatchRenorm2d
from normlab.report.sections.sanity import Conclusion, conclusions
from normlab.results import Results, Run, read_results
from normlab.results.statistics import paired_difference
from normlab.runs import RunConfig
from normlab.runs.same_function import Largest, SameFunction
from normlab.studies import Request, compare_functions, make_plan, prepare_study, same_function
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


class WrongInBfloat16(BatchNorm2d):
    """Right in float32 and float64; the study trains in neither."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * 1.01 if x.dtype == torch.bfloat16 else y


class TrackedInBfloat16(BatchNorm2d):
    """A running variance that is a tenth too small, in bfloat16 alone."""

    def _track(self, x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> None:
        super()._track(x, mean, var * 0.9 if x.dtype == torch.bfloat16 else var)


class GradientInBfloat16(BatchNorm2d):
    """A gradient that is 3 % too small, in bfloat16 alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y.detach() + 0.97 * (y - y.detach()) if x.dtype == torch.bfloat16 else y


class FromFloat(torch.nn.BatchNorm2d):
    """Right, and more exact than the reference: it gives float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float() if x.dtype == torch.bfloat16 else x)


class WholeBatches(BatchNorm2d):
    """Right, for whole batches alone in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) % 16:
            raise ValueError("whole ghosts only")
        return super().forward(x)


class WrongLater(BatchNorm2d):
    """Right until it has seen 30 batches."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        if self.training and int(self.num_batches_tracked) > 30:  # type: ignore[arg-type]
            return y * 1.001
        return y


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=16))


def _compared(norm: str, digits: DataSet, steps: int = STEPS) -> SameFunction:
    reference, arm = (RunConfig(norm=name, n=1) for name in ("torch_bn", norm))
    return compare_functions(("torch_bn", reference), (norm, arm), digits, steps=steps)


def test_the_layer_from_the_paper_is_the_same_function(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=60)
    assert found.outcome == "same"
    assert found.steps == 60
    assert set(found.largest) == {"loss", "gradients", "weights", "buffers", "evaluation logits"}
    assert all(largest.difference < 1e-12 for largest in found.largest.values())
    # A comparison of nothing would find nothing: rounding must be there.
    assert found.largest["buffers"].difference > 0
    assert found.float32["gradients"] > 0


def test_what_follows_a_run_is_compared_along_it(digits: DataSet) -> None:
    """At first batch renormalization is batch normalization; its own mistakes come later."""
    found = _compared("batch_renorm", digits, steps=24)
    assert found.outcome == "different"
    assert found.largest["loss"].first_over == 3  # of 24 updates, one is within the first 5 %
    reference, right, wrong = (
        (norm, RunConfig(norm=norm, n=1))
        for norm in ("batch_renorm", f"{HERE}:Renormed", f"{HERE}:Unclipped")
    )
    assert compare_functions(reference, right, digits, steps=24).outcome == "same"
    assert compare_functions(reference, wrong, digits, steps=24).outcome == "different"


class Renormed(BatchRenorm2d):
    pass


class Unclipped(BatchRenorm2d):
    def _correction(self, x: torch.Tensor, pool: Any) -> Any:
        bounds = self.r_max, self.d_max
        self.r_max = max(self.r_max, 2.0)
        found = super()._correction(x, pool)
        self.r_max, self.d_max = bounds
        return found


@pytest.mark.parametrize(
    ("norm", "differing", "hint"),
    [
        (f"{HERE}:BiasedRunningVariance", {"buffers", "evaluation logits"}, "biased against"),
        ("bn:momentum=0.9", {"buffers", "evaluation logits"}, "direction of the momentum"),
        (
            "bn:eps=0.001",
            {"loss", "gradients", "weights", "buffers", "evaluation logits"},
            "Check eps and its place",
        ),
        (f"{HERE}:WrongGradient", {"gradients", "weights", "evaluation logits"}, "backward pass"),
    ],
)
def test_planted_bugs_are_found_and_described(
    norm: str, differing: set[str], hint: str, digits: DataSet
) -> None:
    found = _compared(norm, digits)
    assert found.outcome == "different"
    assert differing <= set(found.differing)
    if "loss" not in differing:
        assert set(found.differing) == differing
    for quantity in {"loss", "gradients", "weights", "buffers"} - differing:
        assert found.largest[quantity].difference < 1e-10
    said = conclusions(_results(found, [0.9, 0.91, 0.92], [0.9, 0.91, 0.92]))[0]
    assert said.outcome == "bug"
    # Two methods of the catalogue differ by design.
    assert "If the two were meant to be the same function, the evidence supports a bug" in (
        said.conclusion
    )
    # Equal accuracies do not talk it away.
    assert "have been called noise" in said.conclusion
    assert hint in said.function


def test_a_bug_in_float32_alone_is_found(digits: DataSet) -> None:
    found = _compared(f"{HERE}:WrongInFloat32", digits)
    assert not found.differing
    assert found.differing_float32
    assert "something else in float32" in conclusions(_results(found, [0.9], [0.9]))[0].function


def _in_bfloat16(norm: str, digits: DataSet) -> SameFunction:
    reference, arm = (
        RunConfig(norm=name, n=1, precision="bfloat16") for name in ("torch_bn", norm)
    )
    return compare_functions(("torch_bn", reference), (norm, arm), digits, steps=2)


@pytest.mark.parametrize(
    ("layer", "differing"),
    [
        ("WrongInBfloat16", {"output", "gradients", "evaluation output"}),
        ("TrackedInBfloat16", {"buffers", "evaluation output"}),
        ("GradientInBfloat16", {"gradients"}),
    ],
)
def test_a_bug_in_the_precision_of_the_study_alone_is_found(
    layer: str, differing: set[str], digits: DataSet
) -> None:
    norm = f"{HERE}:{layer}"
    found = _in_bfloat16(norm, digits)
    assert not found.differing
    assert not found.differing_float32
    assert set(found.differing_bfloat16) == differing
    said = _said(found)
    assert said.outcome == "bug"
    assert "computes something else in bfloat16" in said.function
    # A study in float32 does not train with the fault.
    assert _compared(norm, digits, steps=2).outcome == "same"


@pytest.mark.parametrize("norm", ["torch_bn", "bn", f"{HERE}:FromFloat"])
def test_a_right_layer_is_right_in_bfloat16(norm: str, digits: DataSet) -> None:
    found = _in_bfloat16(norm, digits)
    assert found.outcome == "same"
    assert set(found.bfloat16) == {"output", "gradients", "buffers", "evaluation output"}
    assert 0 < max(found.bfloat16.values()) <= 1.5
    assert "In bfloat16, in which this study trains" in _said(found).function


def test_a_coarse_layer_in_bfloat16_is_neither_acquitted_nor_accused() -> None:
    found = SameFunction(
        "torch_bn", "a:B", 5, {}, {"loss": 0.0}, bfloat16={"output": 4.1, "gradients": 1.0}
    )
    said = _said(found)
    assert (found.outcome, said.outcome) == ("undecided", "undecided")
    assert "output by 4.1 times what rounding" in said.function
    assert "small fault too" in said.function


def test_a_bug_in_bfloat16_is_told_of_a_layer_that_is_coarse_in_float64_too() -> None:
    found = SameFunction(
        "torch_bn", "a:B", 5, {"loss": Largest(1e-7, "loss", 1, 1)}, {"loss": 1e-7},
        coarse=True, bfloat16={"output": 9.0},
    )  # fmt: skip
    said = _said(found)
    assert (found.outcome, said.outcome) == ("different", "bug")
    assert "computes something else in bfloat16" in said.function


def test_the_check_asks_no_more_steps_than_a_run_has(digits: DataSet) -> None:
    assert len(digits.splits["train"]) == 160
    for epochs, steps in ((1, 10), (8, 40), (100, 200)):
        assert same_function.steps_for(RunConfig(epochs=epochs), digits) == steps


def test_small_batches_where_the_layer_takes_them(digits: DataSet) -> None:
    assert _compared(f"{HERE}:WholeBatches", digits, steps=4).outcome == "same"
    sizes: list[int] = []
    real = same_function.gradients

    def counted(model: Any, batches: Any, config: Any) -> Any:
        sizes.extend(len(y) for _, y in batches)
        return real(model, batches, config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(same_function, "gradients", counted)
        _compared("bn", digits, steps=4)
    assert sizes[:8] == [32] * 4 + [8] * 4


def test_what_a_layer_keeps_from_step_to_step_is_found(digits: DataSet) -> None:
    found = _compared(f"{HERE}:WrongLater", digits, steps=40)
    assert found.outcome == "different"
    assert found.largest["loss"].first_over == 31
    assert "what the layer keeps from step to step" in _said(found).function


class Gamma(torch.nn.Module):
    """Right, with names of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = BatchNorm2d(channels, affine=False)
        self.gamma = torch.nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x) * self.gamma[:, None, None]
        return y


class Uncounted(torch.nn.BatchNorm2d):
    """Right, but for a count that nothing reads."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()
        return y


class Coarse(torch.nn.Module):
    """Right, with statistics in float32 whatever it is given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(channels))
        self.bias = torch.nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            var, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
            count = x.numel() // x.shape[1]
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), 0.1)
                self.running_var.lerp_((var * count / (count - 1)).to(self.running_var), 0.1)
        else:
            mean, var = self.running_mean.float(), self.running_var.float()
        y = (x - mean[:, None, None]) * torch.rsqrt(var + 1e-5)[:, None, None]
        return y * self.weight[:, None, None] + self.bias[:, None, None]


class Halved(torch.nn.BatchNorm2d):
    """Gives float32 whatever it takes: it cannot stand in a float64 network."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).float()


def test_a_right_layer_of_ones_own_is_not_called_a_bug(digits: DataSet) -> None:
    assert _compared(f"{HERE}:Uncounted", digits).outcome == "same"
    coarse = _compared(f"{HERE}:Coarse", digits)
    assert (coarse.outcome, coarse.coarse) == ("undecided", True)
    assert coarse.differing
    assert "computes in less than float64" in _said(coarse).function
    renamed = _compared(f"{HERE}:Gamma", digits)
    assert (renamed.outcome, "rename them" in _said(renamed).function) == ("undecided", True)
    half = _compared(f"{HERE}:Halved", digits)
    assert (half.outcome, "float32 for float64 input" in half.mismatch) == ("undecided", True)


@pytest.mark.parametrize("test_fraction", [0.15, 0.55])
@pytest.mark.parametrize("fields", [{"lr": 1e8}, {"lr": 10.0}, {"precision": "bfloat16"}])
def test_wild_settings_do_not_make_a_right_layer_a_bug(
    fields: dict[str, Any], test_fraction: float
) -> None:
    data = load(DataConfig(limit_per_class=16, test_fraction=test_fraction))
    reference, arm = (RunConfig(norm=name, n=1, **fields) for name in ("torch_bn", "bn"))
    found = compare_functions(("torch_bn", reference), ("bn", arm), data, steps=8)
    assert found.outcome == "same"


def test_weights_move_to_the_last_step(digits: DataSet) -> None:
    # 160 images in batches of 32 are 5 updates an epoch: a schedule of 1 epoch ends at step 5.
    config = RunConfig(norm="bn", n=1, epochs=1)
    walk = same_function._walk((config, config), digits, torch.float64)
    found = [values["weights"]["conv.weight"] for values, _ in itertools.islice(walk, 23)]
    assert float((found[-1] - found[-2]).abs().max()) > 1e-4


def test_a_mended_layer_is_asked_again(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    own = tmp_path / "own_norm.py"
    own.write_text("import torch\nclass Mine(torch.nn.BatchNorm2d): pass\n")
    reference, arm = RunConfig(norm="torch_bn"), RunConfig(norm="own_norm:Mine")
    before = same_function.question(reference, arm, digits)
    assert same_function.question(reference, arm, digits) == before
    own.write_text("import torch\nclass Mine(torch.nn.BatchNorm2d): mended = True\n")
    assert same_function.question(reference, arm, digits) != before


def test_a_joined_study_asks_what_was_asked(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"n": 1, "epochs": 1, "limit_per_class": 8, "seeds": 1, "workers": 1}
    compare("norms", out=tmp_path, arms=["ln"], **asked)
    plan = make_plan(Request.of("sanity", limit_per_class=8, seeds=1, n=1, epochs=1))
    joined = prepare_study(tmp_path, plan, load(plan.data), "").plan
    assert set(joined.arms) == {"ln", "torch_bn", "bn"}
    assert joined.twins == (("torch_bn", "bn"),)


def test_one_arm_alone_has_no_reference() -> None:
    with pytest.raises(InputError, match="needs a reference"):
        make_plan(Request.of("sanity", arms=["bn"]))


def _said(found: SameFunction) -> Conclusion:
    return conclusions(_results(found, [0.9], [0.9]))[0]


def test_layers_of_other_parameters_are_different_functions(digits: DataSet) -> None:
    found = _compared("none", digits)
    assert found.outcome == "undecided"
    assert "conv.bias" in found.mismatch
    said = _said(found)
    assert "if one has what the other lacks, they are different functions" in said.function
    assert "is undecided" in said.conclusion


def test_a_difference_of_accuracy_near_0_is_called_noise(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=2)
    theirs, ours = [0.80, 0.81, 0.80, 0.79], [0.82, 0.84, 0.83, 0.80]
    assert 0.01 < stats.ttest_rel(ours, theirs).pvalue < 0.05
    said = conclusions(_results(found, theirs, ours))[0]
    assert said.outcome == "noise"
    assert "supports noise, not a bug" in said.conclusion
    assert "one of twenty" in said.conclusion
    assert "2.25 points above" in said.trained[-1]


def test_a_difference_far_from_0_is_never_called_chance(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=2)
    said = conclusions(_results(found, [0.80, 0.81, 0.80], [0.90, 0.91, 0.90]))[0]
    assert said.outcome == "undecided"
    assert "contradicts itself" in said.conclusion
    assert "by chance alone" not in said.conclusion
    assert "noise" not in said.conclusion


def test_the_interval_is_that_of_scipy(digits: DataSet) -> None:
    found = _compared("bn", digits, steps=1)
    theirs, ours = [0.801, 0.813, 0.842, 0.79], [0.811, 0.809, 0.861, 0.80]
    difference = paired_difference(_results(found, theirs, ours), "bn", "torch_bn")
    assert difference is not None
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    interval = difference.interval(0.95)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
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
    assert (check.reference, check.arm, check.outcome, check.steps) == (
        "torch_bn", "bn", "same", 10
    )  # fmt: skip
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
