"""A run whose layers are compiled: the same network, recorded as what it is, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import normlab
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.norms import kernels
from normlab.runs import RunConfig, identity, read_history, read_record
from normlab.training import train, why_not_compiled
from normlab.workflow.running import train_one

SMALL: dict[str, Any] = {"n": 1, "epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=5))


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    kernels.load.cache_clear()


@pytest.mark.parametrize(
    ("norm", "precision", "apart"),
    [("bn", "float32", 1e-3), ("bin", "float32", 1e-3), ("gn", "float32", 1e-3),
     ("bn", "bfloat16", 2e-2), ("gn", "bfloat16", 2e-2)],
)  # fmt: skip
def test_it_trains_the_same_network(
    norm: str, precision: Any, apart: float, digits: DataSet, tmp_path: Path
) -> None:
    losses = {}
    for way in ("torch", "compiled"):
        config = RunConfig(norm=norm, kernels=way, precision=precision, **SMALL)
        assert train(config, digits, tmp_path / way)["status"] == "complete"
        losses[way] = [row["loss"] for row in read_history(tmp_path / way)]
        assert read_record(tmp_path / way)["config"]["kernels"] == way
    # Not the same bits, or the kernels were not used.
    assert losses["compiled"] != losses["torch"]
    assert losses["compiled"] == pytest.approx(losses["torch"], rel=apart)
    versions = [read_record(tmp_path / way)["versions"] for way in losses]
    assert "kernels" not in versions[0]
    assert versions[1].pop("kernels")
    assert versions[0] == versions[1]
    assert kernels.in_use() is None


def test_it_is_another_run() -> None:
    plain, compiled = RunConfig(), RunConfig(kernels="compiled")
    assert identity(plain, "data", {}) != identity(compiled, "data", {})


def test_it_is_refused_where_no_kernel_would_be_used() -> None:
    with pytest.raises(InputError, match="kernels compiled needs the device cpu, got cuda"):
        RunConfig(kernels="compiled", device="cuda")
    said = why_not_compiled([RunConfig(), RunConfig(device="cuda")])
    assert said == "compiled layers need the device cpu"


def test_in_bfloat16_every_layer_goes_through_the_kernels(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[torch.dtype] = Counter()
    forward = kernels.Kernels.forward

    def noted(self: kernels.Kernels, x: torch.Tensor, *values: Any) -> torch.Tensor:
        seen[x.dtype] += 1
        return forward(self, x, *values)

    monkeypatch.setattr(kernels.Kernels, "forward", noted)
    config = RunConfig(norm="bin", kernels="compiled", precision="bfloat16", **SMALL)
    assert train(config, digits, tmp_path / "run")["status"] == "complete"
    assert set(seen) == {torch.bfloat16}
    assert seen[torch.bfloat16] % 7 == 0  # the sites of a network of n = 1


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(
    "make",
    [
        lambda out: normlab.compare(kernels="compiled", device="cpu", out=out),
        lambda out: train_one({}, {}, kernels="compiled", out=out, device="cpu"),
    ],
    ids=["compare", "train"],
)
def test_without_a_compiler_nothing_begins(make: Callable[[Path], Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"no-such-compiler \(CC\) was not found. Use --kernels"):
        make(out)
    assert not out.exists()


def test_arms_of_a_study_are_computed_alike(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kernels must be auto, torch or compiled, got"):
        normlab.compare(kernels=["torch", "compiled"], device="cpu", out=tmp_path / "out")
    file = tmp_path / "mine.toml"
    file.write_text('[grid]\nkernels = ["torch", "compiled"]\n')
    with pytest.raises(InputError, match="kernels cannot be varied"):
        normlab.compare(file, device="cpu", out=tmp_path / "out")


def test_a_run_leaves_the_choice_as_it_was(digits: DataSet, tmp_path: Path) -> None:
    chosen = kernels.load()
    with kernels.computed_by(chosen):
        train(RunConfig(**SMALL), digits, tmp_path / "run")
        assert kernels.in_use() is chosen
    assert "kernels" not in read_record(tmp_path / "run")["versions"]
    assert torch.get_num_threads() == 1
