"""Runs that save memory: the same results, and what the record says of them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import normlab
from allocated import bytes_of
from normlab.cli import main
from normlab.data import DataConfig, DataSet, load
from normlab.models import ResNet
from normlab.norms.recompute import saving_memory
from normlab.runs import RunConfig, read_record
from normlab.runs.study_file import read_question
from normlab.stopping import Stopped
from normlab.training import Keeping, Progress, run, train
from normlab.training.memory import kept_for_backward

SAVING = Keeping(save_memory=True)
SMALL: dict[str, Any] = {"n": 1, "epochs": 2, "batch_size": 32}
FILES = ("weights.safetensors", "predictions.npz")


class Sloped(nn.Module):
    """A layer that differentiates by ``torch.func``, which cannot have hooks on what is saved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        slope = torch.func.grad(lambda w: (w * w).sum() / 2)(self.weight)
        return x * slope[:, None, None]


OWN = f"{__name__}:Sloped"


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=16))


def agree(one: Path, two: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    rows = [(path / "history.csv").read_text().splitlines() for path in (one, two)]
    # All columns but the last, seconds.
    assert len({tuple(row.rpartition(",")[0] for row in of) for of in rows}) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"norm": "bn", "accumulate": 2},
        {"norm": "bin", "kernels": "compiled", "shortcut": "B"},
        {"norm": "gn", "precision": "bfloat16"},
    ],
    ids=str,
)
def test_results_are_the_same_and_the_record_says_how_they_were_made(
    more: dict[str, Any], digits: DataSet, tmp_path: Path
) -> None:
    config = RunConfig(**SMALL, **more)
    without = train(config, digits, tmp_path / "without")
    saved = train(config, digits, tmp_path / "with", keeping=SAVING)
    agree(tmp_path / "without", tmp_path / "with")
    assert saved["identity"] == without["identity"]
    assert saved["config"] == without["config"]
    assert "save_memory" not in without
    assert read_record(tmp_path / "with")["save_memory"] is True
    assert saved["memory"]["kept_for_backward"] < 0.85 * without["memory"]["kept_for_backward"]
    # A run that is there is not made again for it.
    assert train(config, digits, tmp_path / "with") == saved


@pytest.mark.parametrize("norm", ["none", "torch_bn", OWN])
def test_layers_that_gain_nothing_are_left_alone(
    norm: str, digits: DataSet, tmp_path: Path
) -> None:
    config = RunConfig(**{**SMALL, "epochs": 1}, norm=norm)
    without = train(config, digits, tmp_path / "without")
    saved = train(config, digits, tmp_path / "with", keeping=SAVING)
    agree(tmp_path / "without", tmp_path / "with")
    assert saved["save_memory"] is True
    assert saved["memory"] == without["memory"]


@pytest.mark.parametrize("first", [True, False])
def test_a_stopped_run_goes_on_either_way(first: bool, digits: DataSet, tmp_path: Path) -> None:
    config = RunConfig(**SMALL, norm="bn")
    whole = train(config, digits, tmp_path / "whole", keeping=Keeping(save_memory=not first))

    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise Stopped(2)

    with pytest.raises(Stopped):
        train(
            config, digits, tmp_path / "cut", stop,
            keeping=Keeping(save_memory=first, checkpoint_minutes=0),
        )  # fmt: skip
    assert bool(read_record(tmp_path / "cut").get("save_memory")) == first
    assert list((tmp_path / "cut").glob("checkpoint/*"))
    resumed = train(config, digits, tmp_path / "cut", keeping=Keeping(save_memory=not first))
    agree(tmp_path / "whole", tmp_path / "cut")
    # As the part that was made last.
    assert resumed.get("save_memory") == whole.get("save_memory")
    assert resumed["memory"] == whole["memory"]


def test_a_peak_of_the_other_way_is_not_kept(digits: DataSet, tmp_path: Path) -> None:
    one = run._Run(RunConfig(**SMALL), digits, tmp_path, {}, keeping=SAVING)
    one.standing.memory = {"kept_for_backward": 1, "peak": 2}
    one._measure_memory()
    assert set(one.standing.memory) == {"kept_for_backward"}
    one.standing.memory["peak"] = 3
    one._measure_memory()
    assert one.standing.memory["peak"] == 3


@pytest.mark.parametrize("save_memory", [False, True])
def test_what_is_counted_is_what_is_there(save_memory: bool) -> None:
    """The count beside that of the allocator, from which only the logits and the loss differ."""
    model = ResNet(2, 5, "bin", "B", seed=0)
    images = torch.randn(2, 3, 32, 32).requires_grad_()
    counted = kept_for_backward(model, lambda: model(images).exp().sum(), save_memory=save_memory)
    held: list[Tensor] = []
    with saving_memory() if save_memory else nullcontext():
        found, _ = bytes_of(lambda: held.append(model(images).exp().sum()))
    image_bytes = images.numel() * 4
    assert 0 <= found - (counted - image_bytes) < 2000


def test_from_the_command_line_and_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shared = {"n": 1, "epochs": 1, "batch_size": 16, "limit_per_class": 4, "device": "cpu"}
    normlab.compare(arms="bn", seeds=1, workers=1, out="study", save_memory=True, **shared)
    assert read_record(Path("study/runs/bn/seed-0"))["save_memory"] is True
    question = read_question(Path("study"))
    assert "save_memory" not in json.dumps(question["run"])
    asked = [word for k, v in shared.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    assert main(["train", "--norm", "bn", "--out", "run", "--save-memory", *asked]) == 0
    assert read_record(Path("run"))["save_memory"] is True
    agree(Path("study/runs/bn/seed-0"), Path("run"))
