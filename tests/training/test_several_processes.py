"""One run over several processes: what one process would make of it, and how they end together."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab import stopping
from normlab.cli import main
from normlab.data import DataConfig, DataSet, DeviceSplit, load
from normlab.errors import InputError
from normlab.launch import Launch, launched
from normlab.models import load_model
from normlab.models.card import checked_card
from normlab.norms import BatchInstanceNorm2d, BatchNorm2d, SyncBatchNorm2d
from normlab.norms.kernels import computed_by
from normlab.norms.kernels import load as load_kernels
from normlab.norms.synchronized import Division, pooled_over
from normlab.runs import CHECKPOINTS, RunConfig, identity
from normlab.studies import Request, make_plan
from normlab.training import (
    Keeping,
    LayerTraits,
    Progress,
    build,
    check_layer,
    joined,
    run,
    train,
)
from normlab.training import group as group_of_processes
from normlab.training.balance import class_weights
from normlab.training.division import check_division, divisible
from normlab.training.group import ALONE, Group
from normlab.training.optimizer import LayerAwareOptimizer
from normlab.training.outcome import Described
from normlab.training.step import train_step
from normlab.training.updates import Updates
from normlab.workflow import train_one
from several import in_processes, results, variables

pytestmark = pytest.mark.xdist_group("several processes")  # they share what they compare with
HERE = "test_several_processes"
EVERY_STEP = Keeping(checkpoint_minutes=0)
ARMS = ("bn", "torch_bn", "bin", "in", "ln", "gn", "none", "sync_bn", "ghost_bn")
SET: dict[str, Any] = {"limit_per_class": 4}
SMALL: dict[str, Any] = {"n": 1, "epochs": 2, "batch_size": 19, "crop_pad": 1,
                         "kernels": "torch"}  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> DataSet:
    found = load(DataConfig(**SET))
    # The last batch has an image for each of two processes, and not for each of four.
    assert len(found.splits["train"]) % SMALL["batch_size"] == 2
    return found


# What an update is ----------------------------------------------------------------------------

RICH = {"accumulate": 2, "clip_norm": 0.5, "label_smoothing": 0.1, "balance": "loss",
        "shortcut": "B", "lr": 0.1}  # fmt: skip
OTHER = {"balance": "sampling", "optimizer": "adamw", "lr": 1e-3, "flip": True}
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
POINTS = (*((arm, RICH) for arm in ARMS), ("bin", OTHER))


State = dict[str, np.ndarray]


def _after_an_epoch(
    config: RunConfig, data: DataSet, group: Group = ALONE, save_memory: bool = False
) -> State:
    """Weights, buffers, losses and answers of an epoch in float64."""
    model = divisible(build(config, data).model.double().train(), config)
    optimizer = LayerAwareOptimizer(model, config)
    split = DeviceSplit(data, "train")
    weights = None
    if config.balance == "loss":
        known = class_weights(split.split.labels, len(data.classes))
        weights = torch.from_numpy(known)
    losses, answers = [], []
    for batches in Updates(config, split, group.launch).of(1):
        wide = [(x.double(), y) for x, y in batches]
        loss, guesses = train_step(
            model, optimizer, wide, config, weights, group, save_memory=save_memory
        )
        losses.append(loss)
        answers.append(guesses)
    state = {**model.state_dict(), "losses": torch.stack(losses), "answers": torch.cat(answers)}
    return {name: tensor.numpy().copy() for name, tensor in state.items()}


def _configs(count: int, statistics: str = "synchronized") -> Iterator[RunConfig]:
    for arm, recipe in POINTS:
        several = {"processes": count, "statistics": statistics} if count > 1 else {}
        yield RunConfig(**{**SMALL, **recipe, "norm": arm, **several})


SAVED = "synchronized, memory saved"


def _epochs(data: DataSet, count: int, *statistics: str) -> list[list[State]]:
    with joined(launched(), "cpu") as group:
        return [
            [
                _after_an_epoch(config, data, group, of == SAVED)
                for config in _configs(count, of.partition(",")[0])
            ]
            for of in statistics
        ]


@pytest.fixture(scope="module")
def alone(digits: DataSet) -> list[State]:
    return [_after_an_epoch(config, digits) for config in _configs(1)]


@pytest.fixture(scope="module")
def two(digits: DataSet) -> list[list[list[State]]]:
    return results(in_processes(2, _epochs, digits, 2, "synchronized", "per-process", SAVED))


@pytest.fixture(scope="module")
def four(digits: DataSet) -> list[list[list[State]]]:
    return results(in_processes(4, _epochs, digits, 4, "synchronized"))


def _apart(one: State, other: State) -> float:
    assert one.keys() == other.keys()
    return max(float(abs(one[k].astype(float) - other[k].astype(float)).max()) for k in one)


def test_memory_that_processes_save_changes_no_bit(two: list[list[list[State]]]) -> None:
    for plain, _, saved in two:
        for point, *pair in zip(POINTS, plain, saved, strict=True):
            assert _apart(*pair) == 0, point


@pytest.mark.parametrize("count", ["two", "four"])
def test_several_processes_make_the_updates_of_one(
    count: str, alone: list[State], request: pytest.FixtureRequest
) -> None:
    """Weights, gates, running statistics, losses and answers after an epoch whose last batch is
    smaller than four processes; with accumulation, clipping, smoothing, class weights, AdamW."""
    first, *others = (found[0] for found in request.getfixturevalue(count))
    for point, whole, part in zip(POINTS, alone, first, strict=True):
        assert _apart(whole, part) < 1e-10, point
    for other in others:
        assert all(_apart(*pair) == 0 for pair in zip(first, other, strict=True)), "one model"


def test_statistics_of_each_part_make_another_run_where_statistics_are_of_the_batch(
    alone: list[State], two: list[list[list[State]]]
) -> None:
    first, *others = (found[1] for found in two)
    for (arm, _), whole, *parts in zip(POINTS, alone, first, *others, strict=True):
        if arm in ("bn", "torch_bn", "bin", "ghost_bn"):
            assert _apart(whole, parts[0]) > 1e-4, arm
        else:
            assert _apart(whole, parts[0]) < 1e-10, arm
        # Running statistics are of each process's own parts; those of process 0 are kept.
        learned = [{k: v for k, v in one.items() if not k.endswith(BUFFERS)} for one in parts]
        assert all(_apart(learned[0], other) == 0 for other in learned[1:]), "one model"


def _synchronized_always(data: DataSet) -> State:
    config = RunConfig(**SMALL, norm="sync_bn", processes=launched().size, statistics="per-process")
    with joined(launched(), "cpu") as group:
        return _after_an_epoch(config, data, group)


def test_synchronized_layers_wait_for_processes_without_images(digits: DataSet) -> None:
    """Of the last two images, one of three processes has none. Nobody waits for it where statistics
    are of each process's part, but for layers that synchronize whatever the run says."""
    whole = _after_an_epoch(RunConfig(**SMALL, norm="bn"), digits)
    for found in results(in_processes(3, _synchronized_always, digits)):
        assert _apart(whole, found) < 1e-10


def test_the_record_says_what_batch_synchronized_layers_see(digits: DataSet) -> None:
    config = RunConfig(**SMALL, norm="bn", processes=2, statistics="per-process")
    for norm, images in (("bn", 10), ("sync_bn", 19)):
        asked = dataclasses.replace(config, norm=norm)
        described = Described.of(asked, digits, "", {}, build(asked, digits), 1)
        assert described.images_per_statistics == images


# What a layer is -----------------------------------------------------------------------------


def _of_layers(x: Tensor) -> list[np.ndarray]:
    with joined(launched(), "cpu") as group:
        return _tried(x, group)


def _tried(x: Tensor, group: Group = ALONE) -> list[np.ndarray]:
    """What layers make of this process's images: output, gradient and gradient of the gradient, in
    float64; output and running variance of images far from 0, in float32."""
    own = group.launch.share(len(x))
    found = []
    with pooled_over(group.divided(len(x))):
        for kind in (BatchNorm2d, BatchInstanceNorm2d):
            layer = kind(3).double()
            with torch.no_grad():
                layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            part = x[own].clone().requires_grad_()
            y = layer(part)
            (first,) = torch.autograd.grad(y.pow(3).sum(), part, create_graph=True)
            (second,) = torch.autograd.grad(first.pow(2).sum(), part)
            found += [y.detach(), first.detach(), second]
        far = BatchNorm2d(3, momentum=1.0)
        found += [far((x[own] + 1e4).float()).detach(), far.running_var]
    return [tensor.numpy() for tensor in found]


def test_a_layer_makes_of_a_part_what_it_makes_of_it_within_the_batch() -> None:
    x = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    whole = _tried(x)
    parts = results(in_processes(3, _of_layers, x))
    for index, known in enumerate(whole[:-1]):
        pieces = np.concatenate([part[index] for part in parts])
        bound = 1e-5 if known.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(pieces, known, rtol=bound, atol=bound)
    for part in parts:
        np.testing.assert_allclose(part[-1], whole[-1], rtol=1e-5)


def _in_anybodys_training(x: Tensor) -> list[np.ndarray]:
    """Where torch.distributed is initialized, and nobody says how a batch is divided."""
    with joined(launched(), "cpu") as group:
        layer = SyncBatchNorm2d(3).double()
        part = x[group.launch.share(len(x))].clone().requires_grad_()
        y = layer(part)
        (dx,) = torch.autograd.grad(y.pow(3).sum(), part)
        with pytest.raises(ValueError, match="more than one value"):
            layer(part[: 1 if group.first else 0, :, :1, :1])
        evaluated = layer.eval()(part)
    return [t.detach().numpy() for t in (y, dx, evaluated, *layer.buffers())]


def test_synchronized_layers_synchronize_in_anybodys_training() -> None:
    x = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    layer, leaf = BatchNorm2d(3).double(), x.clone().requires_grad_()
    y = layer(leaf)
    (dx,) = torch.autograd.grad(y.pow(3).sum(), leaf)
    whole = [t.detach() for t in (y, dx, layer.eval()(leaf), *layer.buffers())]
    parts = results(in_processes(3, _in_anybodys_training, x))
    for index, known in enumerate(whole):
        for rank, part in enumerate(parts):
            own = known[Launch(rank, 3).share(5)] if index < 3 else known
            np.testing.assert_allclose(part[index], own, rtol=1e-11, atol=1e-11)


@pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)
def test_compiled_layers_take_the_statistics_of_the_whole_batch_too() -> None:
    """By operations of PyTorch, since kernels do not sum over processes."""
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    asked: list[Tensor] = []

    def with_the_same(own: Tensor) -> Tensor:
        """As if another process had the same images: it fills in the other row of the table."""
        asked.append(own)
        return own + own.flip(0) if len(asked) == 1 else 2 * own

    twice, part = (x.clone().requires_grad_() for _ in range(2))
    whole = BatchNorm2d(3)(torch.cat([twice, twice]))
    whole.pow(3).sum().backward()
    with computed_by(load_kernels()), pooled_over(Division(with_the_same, 0, (4, 4))):
        y = BatchNorm2d(3)(part)
        y.pow(3).sum().backward()
    assert len(asked) == 2, "one sum forward and one backward"
    torch.testing.assert_close(y, whole[:4])
    assert twice.grad is not None
    torch.testing.assert_close(part.grad, twice.grad / 2)


def test_a_tensor_that_is_not_the_part_of_this_process_is_refused() -> None:
    with pooled_over(Group(Launch(0, 2)).divided(4)), pytest.raises(ValueError, match="2 images"):
        BatchNorm2d(3)(torch.zeros(4, 3, 2, 2))


# What a run is -------------------------------------------------------------------------------


def _run(folder: Path, **settings: Any) -> tuple[dict[str, Any], int]:
    """Make a run, or what is left of it; returns its record and how often progress was told."""
    told: list[Progress] = []
    made = train_one(
        SET, {**SMALL, **settings}, folder, device="cpu", progress=told.append, keeping=EVERY_STEP
    )
    return dict(made.record), len(told)


def _same_run(one: Path, two: Path) -> None:
    """All that a run left but for times."""
    for name in ("weights.safetensors", "predictions.npz"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    rows = [(folder / "history.csv").read_text().splitlines() for folder in (one, two)]
    assert [row.rpartition(",")[0] for row in rows[0]] == [
        row.rpartition(",")[0] for row in rows[1]
    ]
    assert not list(two.glob("*.lock"))
    assert not (two / CHECKPOINTS).exists()


@pytest.fixture(scope="module")
def whole(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nobody disturbs. The data are cached before."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    (record, told), (same, silent) = results(in_processes(2, _run, folder))
    assert record == same
    assert told > 0
    assert silent == 0, "process 0 alone speaks"
    return folder


def test_a_run_of_two_processes_is_an_ordinary_run(whole: Path, tmp_path: Path) -> None:
    one, _ = _run(tmp_path / "one")
    two = json.loads((whole / "run.json").read_text())
    assert two["config"] == {**one["config"], "processes": 2}
    assert two["batch"] == one["batch"]
    assert "notes" not in two
    assert two["identity"] != one["identity"], "other bits"
    for split in ("train", "val", "test"):
        # Two epochs of steps apart by rounding.
        assert two["metrics"][split]["loss"] == pytest.approx(one["metrics"][split]["loss"], 1e-3)
    known = safetensors.torch.load_file(tmp_path / "one" / "weights.safetensors")
    made = safetensors.torch.load_file(whole / "weights.safetensors")
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in known.items()}
    assert type(load_model(whole).norm0) is BatchNorm2d
    card = json.loads((whole / "model.json").read_text())["card"]
    assert card["command"].startswith("torchrun --nproc-per-node 2 -m -- normlab train --data")
    assert "--processes" not in card["command"]


def _dying(rank: int, at: int, how: str) -> None:
    """Let process ``rank`` end in its update number ``at``, counted from 1."""
    original, made = run.train_step, itertools.count(1)

    def step(*args: Any, **options: Any) -> Any:
        if launched().rank == rank and next(made) == at:
            if how == "fails":
                raise InputError("the mains tripped.")
            if how == "orphaned":
                os.getppid = lambda: 1
                return original(*args, **options)
            os.kill(os.getpid(), getattr(signal, how))
        return original(*args, **options)

    run.train_step = step  # type: ignore[assignment]


def _disturbed(folder: Path, how: str, rank: int, **settings: Any) -> Any:
    os.environ["TORCHELASTIC_RUN_ID"] = "here"  # as torchrun sets it
    _dying(rank, 3, how)
    return _run(folder, **settings)


@pytest.mark.parametrize(
    ("how", "rank", "said", "at"),
    [
        ("SIGTERM", 1, None, 3),
        ("orphaned", 1, None, 3),
        ("SIGKILL", 1, "Another process of this run ended without a word", 2),
        ("fails", 1, "Process 1: the mains tripped.", 2),
    ],
)
def test_processes_end_together_and_resume_to_the_same_bits(
    how: str, rank: int, said: str | None, at: int, whole: Path, tmp_path: Path
) -> None:
    """A signal that one gets, or the end of torchrun, stops all after the same update, with a
    checkpoint. Where one is gone or fails the others end, process 0 says why, and the last
    checkpoint is there."""
    folder = tmp_path / "cut"
    ended = in_processes(2, _disturbed, folder, how, rank)
    if said is None:
        assert [type(one) for one in ended] == [stopping.Stopped] * 2
        assert {one.signal for one in ended} == {getattr(signal, how, signal.SIGTERM)}
    else:
        assert isinstance(ended[0], InputError)
        assert str(ended[0]).startswith(said)
    last = max((folder / CHECKPOINTS).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert int(last.name.partition("-")[0]) == at
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert not list(folder.glob("*.lock"))
    results(in_processes(2, _run, folder))
    _same_run(whole, folder)


class Noisy(nn.BatchNorm2d):
    """Draws other numbers in each process, and has buffers of its own part."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * (1 + 0.1 * torch.randn(x.shape[1], 1, 1)) if self.training else y


def _noisy(folder: Path, *, disturbed: bool) -> Any:
    settings = {"norm": f"{HERE}:Noisy", "statistics": "per-process", "record_features": True}
    return _disturbed(folder, "SIGTERM", 1, **settings) if disturbed else _run(folder, **settings)


def test_what_each_process_draws_and_keeps_resumes_too(digits: DataSet, tmp_path: Path) -> None:
    check_layer(RunConfig(**SMALL, norm=f"{HERE}:Noisy"), digits)  # once, not in each process
    results(in_processes(2, functools.partial(_noisy, disturbed=False), tmp_path / "whole"))
    ended = in_processes(2, functools.partial(_noisy, disturbed=True), tmp_path / "cut")
    assert [type(one) for one in ended] == [stopping.Stopped] * 2
    results(in_processes(2, functools.partial(_noisy, disturbed=False), tmp_path / "cut"))
    _same_run(tmp_path / "whole", tmp_path / "cut")
    features = [(tmp_path / name / "features.csv").read_bytes() for name in ("whole", "cut")]
    assert features[0] == features[1]


SCRIPT = """
import itertools, os, signal, sys
from normlab.__main__ import main
from normlab.training import run
step, made = run.train_step, itertools.count(1)
def dying(*args, **options):
    if os.environ["RANK"] == "1" and next(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args, **options)
run.train_step = dying
sys.exit(main())
"""


def test_torchrun_ends_all_when_one_is_killed(whole: Path, tmp_path: Path) -> None:
    """Started as people start it; the run is then taken up again, and has the same bits."""
    script = tmp_path / "dying.py"
    script.write_text(SCRIPT)
    words = ["--data", "digits", "--limit-per-class", "4", "--n", "1", "--epochs", "2"]
    words += [
        "--kernels",
        "torch",
        "--batch-size",
        "19",
        "--crop-pad",
        "1",
        "--checkpoint-minutes",
        "0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
         "--", str(script), "train", *words, "--device", "cpu", "--out", str(tmp_path / "cut")],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("normlab:")]
    assert len(said) == 1, done.stderr
    assert said[0].startswith(("normlab: Another process", "normlab: Stopped. To resume"))
    assert (tmp_path / "cut" / CHECKPOINTS).exists()
    results(in_processes(2, _run, tmp_path / "cut"))
    _same_run(whole, tmp_path / "cut")


# What cannot be ------------------------------------------------------------------------------


class PerImage(nn.Module):
    """A layer of one's own that treats every image alone, with a parameter in each process."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.normalize(x, dim=1)


class OfTheBatch(nn.Module):
    """Normalizes by the batch in its own way, which nobody synchronizes."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((0, 2, 3), keepdim=True) if self.training else x


class Drawing(nn.Module):
    """Draws one number for the whole batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.rand(())) if self.training else x


class Inherited(BatchNorm2d):
    """Ours by another name: it synchronizes."""


def _divided(data: DataSet, *settings: dict[str, Any]) -> list[str]:
    """What is said of each of these, or nothing."""
    said = []
    with joined(launched(), "cpu") as group:
        for one in settings:
            config = RunConfig(**SMALL, processes=2, **one)
            try:
                check_division(config, data, LayerTraits(), group)
                said.append("")
            except InputError as error:
                said.append(str(error))
    return said


def test_a_layer_of_ones_own_divides_a_batch_or_is_refused(digits: DataSet) -> None:
    found = results(
        in_processes(
            2,
            _divided,
            digits,
            {"norm": f"{HERE}:PerImage"},
            {"norm": f"{HERE}:Inherited"},
            {"norm": f"{HERE}:OfTheBatch"},
            {"norm": f"{HERE}:Drawing"},
            {"norm": f"{HERE}:OfTheBatch", "statistics": "per-process"},
        )
    )
    assert found[0] == found[1]
    assert found[0][:2] == ["", ""]
    assert "depends on the other images of the batch" in found[0][2]
    assert "or on what it draws" in found[0][3]
    assert found[0][4] == ""


def _other_seed(folder: Path) -> Any:
    return _run(folder, seed=launched().rank)


def test_processes_that_would_make_different_runs_are_refused(tmp_path: Path) -> None:
    found = in_processes(2, _other_seed, tmp_path / "run")
    assert all("Process 1 has other data, other settings" in str(one) for one in found)
    assert not (tmp_path / "run").exists()


MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "RANK": "0", "WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("known", "words", "said"),
    [
        ({"WORLD_SIZE": "2"}, ["train"], "but RANK, MASTER_ADDR, MASTER_PORT are not set"),
        ({**MEETING, "MASTER_PORT": ""}, ["train"], "but MASTER_PORT is not set"),
        ({**MEETING, "RANK": "2"}, ["train"], "RANK is 2, but WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "two"}, ["train"], "WORLD_SIZE must be a whole number, got 'two'"),
        ({**MEETING, "WORLD_SIZE": "8"}, ["train", "--batch-size", "7"], "too few images for 8"),
        ({**MEETING, "RANK": "1"}, ["train", "--batch-size", "1"], ""),
        (MEETING, ["compare", "--arms", "bn"], "torchrun has started compare 2 times"),
        (MEETING, ["report", "study"], "torchrun has started report 2 times"),
        ({**MEETING, "RANK": "1"}, ["compare", "--arms", "bn"], ""),
        ({}, ["train", "--statistics", "per-process"], "per-process needs several processes"),
    ],
)
def test_a_bad_start_is_one_message_of_process_0(
    known: dict[str, str],
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    assert main([*words, *(["--out", str(tmp_path / "run")] if words[0] != "report" else [])]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == (1 if said else 0)
    assert said in shown.err
    assert not (tmp_path / "run").exists()


def test_processes_that_do_not_come_are_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(group_of_processes, "JOIN_SECONDS", 0.3)
    for name, value in {**variables(3), "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    words = ["train", "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "Of 3 processes (WORLD_SIZE) 1 came; process 1 did not" in capsys.readouterr().err


def test_several_processes_need_as_many_devices() -> None:
    count = torch.cuda.device_count()
    with (
        pytest.raises(InputError, match="more processes on this machine than CUDA devices"),
        joined(Launch(count, count + 2, count), "cuda"),
    ):
        pytest.fail("it went on")


def test_the_number_of_processes_names_the_run_and_one_is_the_default() -> None:
    several: tuple[dict[str, Any], ...] = (
        {},
        {"processes": 1, "statistics": "synchronized"},
        {"processes": 2},
        {"processes": 2, "statistics": "per-process"},
    )
    names = [identity(RunConfig(norm="gn", **more), "data", {}) for more in several]
    assert names[0] == names[1]
    assert len(set(names)) == 3


@pytest.mark.parametrize("count", [2, 4096])
def test_a_run_of_several_processes_is_made_by_as_many(
    count: int, digits: DataSet, tmp_path: Path
) -> None:
    config = RunConfig(processes=count, batch_size=4096)
    with pytest.raises(InputError, match=f"by {count} processes, but here is one"):
        train(config, digits, tmp_path)


def test_a_comparison_has_no_such_settings(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('[run]\nstatistics = "per-process"\n[grid]\nnorm = ["bn", "gn"]\n')
    with pytest.raises(InputError, match="statistics is no setting of a comparison"):
        make_plan(Request.of(grid))
    with pytest.raises(InputError, match="'processes' is not an option of compare"):
        Request.of("norms", processes=2)


def test_a_command_on_a_card_is_ours_by_torchrun_or_not() -> None:
    for command in ("normlab train", "torchrun --nproc-per-node 2 -m -- normlab train --n 3"):
        assert checked_card({"command": command}, "card")
    for command in (
        "torchrun --nproc-per-node 2 -m -- evil train",
        "torchrun --nproc-per-node 2 evil.py -m -- normlab train",
        "torchrun --nproc-per-node 2;evil -m -- normlab train",
        "torchrun --nproc-per-node 2 -m -- normlab train --out /etc",
    ):
        with pytest.raises(InputError, match="must be a command of normlab train"):
            checked_card({"command": command}, "card")
