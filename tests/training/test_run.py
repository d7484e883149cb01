"""A run from configuration to folder: exact, resumable, honest about how it ended."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from normlab.data import DataConfig, DataSet, DeviceSplit, load
from normlab.errors import InputError
from normlab.models import ResNet, load_model
from normlab.models.bundle import load_card
from normlab.results import read_run
from normlab.results.reading import Spread
from normlab.runs import CHECKPOINTS, HISTORY_COLUMNS, RunConfig, identity
from normlab.training import Keeping, run, train
from normlab.training.control import controlled
from normlab.training.evaluation import EVALUATION_BATCH, Evaluation, evaluate
from normlab.training.schedule import highest_rate, learning_rate
from normlab.training.standing import Running

SMALL = {"n": 1, "epochs": 2, "batch_size": 32}
EVERY_STEP = Keeping(checkpoint_minutes=0)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=16))


@pytest.fixture(scope="module")
def finished(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "seed-0"
    train(RunConfig(**SMALL), digits, folder)
    return folder


def _sha(folder: Path) -> str:
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def test_the_folder_holds_what_the_contract_names(finished: Path, digits: DataSet) -> None:
    names = {p.name for p in finished.iterdir()}
    assert names == {
        "run.json", "history.csv", "predictions.npz", "model.json", "weights.safetensors"
    }  # fmt: skip
    record = json.loads((finished / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["identity"] == identity(RunConfig(**SMALL), digits.fingerprint, {})
    assert len(record["sites"]) == 7
    assert all(site["layer"].startswith("BatchNorm2d(") for site in record["sites"])
    assert record["versions"]["torch"] == torch.__version__
    with (finished / "history.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [(r["epoch"], r["split"]) for r in rows] == [
        ("1", "train_running"), ("1", "val"), ("2", "train_running"), ("2", "val")
    ]  # fmt: skip


def test_reported_metrics_follow_from_the_predictions(finished: Path, digits: DataSet) -> None:
    record = json.loads((finished / "run.json").read_text())
    arrays = np.load(finished / "predictions.npz", allow_pickle=False)
    for split in ("train", "val", "test"):
        labels, probabilities = arrays[f"{split}_label"], arrays[f"{split}_probabilities"]
        assert arrays[f"{split}_image"].tolist() == digits.splits[split].names.tolist()
        assert np.array_equal(labels, digits.splits[split].labels)
        assert probabilities.sum(1) == pytest.approx(np.ones(len(labels)), abs=1e-5)
        said, guess = record["metrics"][split], probabilities.argmax(1)
        assert said["accuracy"] == pytest.approx((labels == guess).mean())
        assert said["micro_f1"] == pytest.approx(said["accuracy"])
        assert said["macro_f1"] == pytest.approx(f1_score(labels, guess, average="macro"))
        true = probabilities[np.arange(len(labels)), labels]
        assert said["loss"] == pytest.approx(-np.log(true).mean(), rel=1e-4)


def test_the_model_that_is_handed_on_gives_the_same_predictions(
    finished: Path, digits: DataSet
) -> None:
    model = load_model(finished)
    assert not model.training
    arrays = np.load(finished / "predictions.npz", allow_pickle=False)
    x, _ = next(DeviceSplit(digits, "test").sequential(256))
    with torch.no_grad():
        probabilities = model(x).softmax(1).numpy()
    assert probabilities == pytest.approx(arrays["test_probabilities"][: len(x)], abs=1e-5)


@pytest.mark.parametrize("norm", ["bn", "bin", "none"])
def test_twice_is_bit_identical(norm: str, digits: DataSet, tmp_path: Path) -> None:
    config = RunConfig(**SMALL, norm=norm, crop_pad=1, flip=True)
    train(config, digits, tmp_path / "a")
    train(config, digits, tmp_path / "b")
    assert _sha(tmp_path / "a") == _sha(tmp_path / "b")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"optimizer": "adamw", "lr": 1e-3},
        {"norm": "bin"},
        {"budget": "updates", "batch_size": 24, "accumulate": 2, "record_features": True},
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    fields: dict[str, object],
    digits: DataSet,
    tmp_path: Path,
) -> None:
    config = RunConfig(**{**SMALL, "epochs": 3, "crop_pad": 1, **fields})  # type: ignore[arg-type]
    train(config, digits, tmp_path / "whole")

    def stop(at: run.Progress) -> None:
        if at.epoch == 2 and at.step == at.steps * 2 // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, digits, tmp_path / "cut", stop, keeping=EVERY_STEP)
    assert json.loads((tmp_path / "cut/run.json").read_text())["status"] == "interrupted"
    assert any((tmp_path / "cut" / CHECKPOINTS).iterdir())
    epochs = []
    train(config, digits, tmp_path / "cut", lambda at: epochs.append(at.epoch))
    assert min(epochs) == 2  # epoch 1 came from the checkpoint
    assert _sha(tmp_path / "cut") == _sha(tmp_path / "whole")
    if config.record_features:
        kept, whole = ((tmp_path / n / "features.csv").read_text() for n in ("cut", "whole"))
        assert kept == whole
    assert not (tmp_path / "cut" / CHECKPOINTS).exists()


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_puts_the_mode_back_and_moves_nothing(training: bool, digits: DataSet) -> None:
    model = ResNet(1, 10, "bn", in_channels=1, seed=0).train(training)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    evaluate(model, DeviceSplit(digits, "val"), 10, "float32")
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_a_finished_run_is_not_run_again(finished: Path, digits: DataSet) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in finished.iterdir()}
    record = train(RunConfig(**SMALL), digits, finished)
    assert record["status"] == "complete"
    assert before == {p.name: p.stat().st_mtime_ns for p in finished.iterdir()}


def test_another_run_in_the_folder_is_refused(finished: Path, digits: DataSet) -> None:
    with pytest.raises(InputError, match="contains another run"):
        train(RunConfig(**SMALL, seed=1), digits, finished)


def test_divergence_names_its_step_and_keeps_the_curve(digits: DataSet, tmp_path: Path) -> None:
    config = RunConfig(**SMALL, norm="none", lr=1e6, warmup=0.0)
    record = train(config, digits, tmp_path / "run")
    word, step = record["status"].rsplit(" ", 1)
    assert word == "diverged at step"
    assert 2 <= int(step) <= 10
    assert record["metrics"] is None
    assert not (tmp_path / "run/weights.safetensors").exists()
    assert (tmp_path / "run/history.csv").exists()
    assert train(config, digits, tmp_path / "run") == record


def test_the_step_of_divergence_is_exact_when_losses_are_read_in_blocks() -> None:
    running, one = Running(), torch.zeros(1, dtype=torch.int64)
    for loss in [1.0] * 30 + [float("nan")] + [1.0] * 19:
        running.add(torch.tensor(loss), one, one)
    with pytest.raises(run.DivergedError, match="diverged at step 131"):
        running.check_finite(149)  # steps 101 to 150, counted from 1


def test_validation_chooses_by_accuracy_then_loss_then_epoch(
    digits: DataSet, tmp_path: Path
) -> None:
    one = run._Run(RunConfig(**SMALL), digits, tmp_path, {})
    seen = [(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1)]
    for epoch, (accuracy, loss) in enumerate(seen, 1):
        one._choose(epoch, run.Metrics(loss, accuracy, accuracy, accuracy))
    assert one.standing.best_epoch == 3


@pytest.mark.parametrize("stopped", [False, True], ids=["at once", "stopped and resumed"])
def test_numbers_and_weights_are_those_of_the_chosen_epoch(
    stopped: bool, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation chooses the first of three epochs; a run of one epoch has its weights."""
    choose = run._Run._choose

    def the_first(one: run._Run, epoch: int, val: run.Metrics) -> None:
        choose(one, epoch, dataclasses.replace(val, accuracy=1 / epoch))

    def stop(at: run.Progress) -> None:
        if stopped and at.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run._Run, "_choose", the_first)
    fields = {"n": 1, "schedule": "constant", "warmup": 0.0}
    first = train(RunConfig(epochs=1, **fields), digits, tmp_path / "first")  # type: ignore[arg-type]
    config = RunConfig(epochs=3, **fields)  # type: ignore[arg-type]
    if stopped:
        with pytest.raises(KeyboardInterrupt):
            train(config, digits, tmp_path / "all", stop, keeping=EVERY_STEP)
    record = train(config, digits, tmp_path / "all")
    assert (record["chosen_epoch"], record["epochs_done"]) == (1, 3)
    assert _sha(tmp_path / "all") == _sha(tmp_path / "first")
    assert record["metrics"] == first["metrics"]
    kept, of_first = (
        np.load(tmp_path / name / "predictions.npz")["test_probabilities"]
        for name in ("all", "first")
    )
    assert np.array_equal(kept, of_first)


def test_the_test_split_is_read_after_the_last_epoch_alone(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Spy(DeviceSplit):
        def __init__(self, data: DataSet, split: str, device: str) -> None:
            events.append(split)
            super().__init__(data, split, device)

    monkeypatch.setattr(run, "DeviceSplit", Spy)
    train(RunConfig(**SMALL), digits, tmp_path, lambda at: events.append("step"))
    assert events.count("test") == 1
    assert events.index("test") > max(i for i, e in enumerate(events) if e == "step")


def test_a_run_with_another_layer_at_a_site_does_not_start(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from normlab.models import info

    class Mixed(ResNet):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            self.stages[2][0].norm1 = torch.nn.BatchNorm2d(64)

    monkeypatch.setattr(info, "ResNet", Mixed)
    with pytest.raises(ValueError, match=r"stages\.2\.0\.norm1 has BatchNorm2d"):
        train(RunConfig(**SMALL, norm="gn"), digits, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"precision": "bfloat16"},
        {"nesterov": True, "schedule": "step"},
        {"label_smoothing": 0.1, "clip_norm": 1.0},
        {"optimizer": "adamw", "lr": 1e-3, "schedule": "constant"},
        {"shortcut": "B", "norm": "gn:groups=4"},
    ],
)
def test_every_recipe_learns(fields: dict[str, object], digits: DataSet, tmp_path: Path) -> None:
    config = RunConfig(**{**SMALL, "epochs": 5, "batch_size": 16, **fields})  # type: ignore[arg-type]
    record = train(config, digits, tmp_path)
    assert record["metrics"]["train"]["accuracy"] > 0.5


def test_the_caller_gets_threads_determinism_and_random_state_back(
    digits: DataSet, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train(RunConfig(**{**SMALL, "epochs": 1}), digits, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_operation_is_deterministic_and_a_warning_stays_a_warning() -> None:
    compiler = import_module("torch._inductor.config")
    ours, theirs = RunConfig(norm="bn"), RunConfig(norm="their.module:Layer")
    torch.set_deterministic_debug_mode("warn")
    try:
        for configs in ((ours,), (theirs,), (ours, theirs)):
            compiler.deterministic = False
            with controlled(*configs):
                assert torch.get_deterministic_debug_mode() == 2
                # What their layer compiles is deterministic too. Ours compile nothing.
                assert compiler.deterministic == (theirs in configs)
            assert torch.get_deterministic_debug_mode() == 1
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_and_repeats(digits: DataSet, tmp_path: Path) -> None:
    config = RunConfig(**{**SMALL, "epochs": 5, "device": "cuda"})  # type: ignore[arg-type]
    record = train(config, digits, tmp_path / "a")
    train(config, digits, tmp_path / "b")
    assert record["metrics"]["train"]["accuracy"] > 0.5
    assert _sha(tmp_path / "a") == _sha(tmp_path / "b")


def test_accumulated_batches_make_the_gradient_of_the_large_one(
    digits: DataSet, tmp_path: Path
) -> None:
    # Without batch statistics four batches of 8 are one of 32, to rounding; with them they are not.
    fields = {"n": 1, "epochs": 1, "lr": 0.01, "momentum": 0.0}
    apart = {}
    for norm in ("gn", "bn"):
        whole, parts = tmp_path / norm / "whole", tmp_path / norm / "parts"
        train(RunConfig(norm=norm, batch_size=32, **fields), digits, whole)
        record = train(RunConfig(norm=norm, batch_size=8, accumulate=4, **fields), digits, parts)
        assert record["batch"] == {"statistics": 8, "gradient": 32}
        one, two = (load_model(folder).state_dict() for folder in (whole, parts))
        apart[norm] = max(float((one[k] - two[k]).abs().max()) for k in one if "running" not in k)
    assert apart["gn"] < 1e-5
    assert apart["bn"] > 1e-3


def test_the_last_update_of_a_pass_weighs_its_images_alike(digits: DataSet, tmp_path: Path) -> None:
    # 160 images in threes of 60 leave a rest: the batches 60, 60 and 40 must count by their size.
    assert len(digits.splits["train"]) == 160
    fields = {"norm": "ln", "n": 1, "epochs": 1, "lr": 0.01, "momentum": 0.0, "warmup": 0.0}
    train(RunConfig(batch_size=160, **fields), digits, tmp_path / "whole")
    record = train(RunConfig(batch_size=60, accumulate=3, **fields), digits, tmp_path / "parts")
    assert record["steps_done"] == 1
    one, two = (load_model(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert max(float((one[k] - two[k]).abs().max()) for k in one) < 1e-5


def test_equal_updates_go_through_the_images_pass_after_pass(
    digits: DataSet, tmp_path: Path
) -> None:
    seen = {}
    for size in (8, 32, 128):
        config = RunConfig(n=1, batch_size=size, budget="updates", epochs=3)
        one = run._Run(config, digits, tmp_path / str(size), {})
        epochs = [[y for group in one.updates.of(e) for _, y in group] for e in (1, 2, 3)]
        assert [len(batches) for batches in epochs] == [5, 5, 5]
        seen[size] = torch.cat([y for batches in epochs for y in batches])
        passes = torch.cat(
            [y for e in (1, 2, 3, 4, 5, 6, 7, 8) for _, y in one.train_split.epoch(size, 0, e)]
        )
        assert torch.equal(seen[size], passes[: len(seen[size])])
    assert len(seen[8]) == 15 * 8
    # 160 images are a batch of 128 and one of 32.
    assert len(seen[128]) == 8 * 128 + 7 * 32


def _history(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as opened:
        return [row for row in csv.DictReader(opened) if row["split"] == split]


def test_the_schedule_goes_on_from_epoch_to_epoch(digits: DataSet, tmp_path: Path) -> None:
    config = RunConfig(n=1, epochs=3, batch_size=80, warmup=0.0, schedule="cosine")
    train(config, digits, tmp_path)
    found = [float(row["lr"]) for row in _history(tmp_path, "train_running")]
    # Two updates an epoch; the row has the rate of the second.
    assert found == pytest.approx([learning_rate(config, step, 2) for step in (1, 3, 5)])
    assert len(set(found)) == 3


def test_the_running_loss_is_the_mean_over_images(digits: DataSet, tmp_path: Path) -> None:
    """Weights that hardly move, no batch statistics, and 160 images in 60, 60 and 40."""
    fields = {"norm": "ln", "n": 1, "epochs": 1, "lr": 1e-9, "weight_decay": 0.0}
    record = train(RunConfig(batch_size=60, **fields), digits, tmp_path)
    (row,) = _history(tmp_path, "train_running")
    assert float(row["loss"]) == pytest.approx(record["metrics"]["train"]["loss"], rel=1e-6)
    assert float(row["accuracy"]) == pytest.approx(record["metrics"]["train"]["accuracy"])


@pytest.mark.parametrize(
    ("scaling", "expected"), [("none", 0.02), ("linear", 0.04), ("sqrt", 0.02 * 2**0.5)]
)
def test_the_rate_follows_the_images_of_an_update(
    scaling: str, expected: float, digits: DataSet
) -> None:
    config = RunConfig(batch_size=16, accumulate=4, lr_scaling=scaling)  # type: ignore[arg-type]
    assert highest_rate(config) == pytest.approx(expected)
    assert learning_rate(config, config.epochs, 10) == pytest.approx(expected, rel=0.02)


def test_patience_stops_the_run_and_says_so(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = iter([0.3, 0.5, 0.5, 0.4, 0.9])
    real = run.evaluate

    def scripted(model, split, *rest):  # type: ignore[no-untyped-def]
        found = real(model, split, *rest)
        if split.split is digits.splits["val"] and model.training:
            metrics = dataclasses.replace(found.metrics, accuracy=next(reached))
            return dataclasses.replace(found, metrics=metrics)
        return found

    monkeypatch.setattr(run, "evaluate", scripted)
    record = train(RunConfig(n=1, epochs=9, patience=2), digits, tmp_path)
    # 0.5 was reached in epoch 2 and not surpassed in two epochs: an equal value is no rise.
    assert (record["epochs_done"], record["stopped_early"], record["status"]) == (
        4, True, "complete"
    )  # fmt: skip


def test_the_features_recorded_are_those_of_the_model(digits: DataSet, tmp_path: Path) -> None:
    record = train(RunConfig(n=1, epochs=2, record_features=True), digits, tmp_path)
    with (tmp_path / "features.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    model = load_model(tmp_path)
    with torch.no_grad():
        x, _ = DeviceSplit(digits, "val").batch(range(len(digits.splits["val"])))
        values = np.sort(model.features(x).numpy().ravel())
    chosen = rows[record["chosen_epoch"] - 1]
    for percent in (1, 20, 80, 99):
        at = percent / 100 * (len(values) - 1)
        low = int(at)
        expected = values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])
        assert float(chosen[f"p{percent}"]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("norm", ["torch_bn", "bn", "in", "bin", "ln", "gn", "none"])
@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_batches_train(norm: str, size: int, digits: DataSet, tmp_path: Path) -> None:
    config = RunConfig(norm=norm, n=1, epochs=1, batch_size=size, lr=1e-3, budget="updates")
    record = train(config, digits, tmp_path)
    assert record["status"] == "complete"
    assert record["steps_done"] == 5


def _with_test(change: Any, monkeypatch: pytest.MonkeyPatch, digits: DataSet) -> None:
    real = run.evaluate

    def changed(model, split, *rest):  # type: ignore[no-untyped-def]
        found = real(model, split, *rest)
        return change(found) if split.split is digits.splits["test"] else found

    monkeypatch.setattr(run, "evaluate", changed)


def test_an_infinite_loss_on_a_split_is_a_result(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a logit of 1e38 against one of -3e38 gives it, which validation need not meet.
    def infinite(found: Evaluation) -> Evaluation:
        return dataclasses.replace(
            found, metrics=dataclasses.replace(found.metrics, loss=float("inf"))
        )

    _with_test(infinite, monkeypatch, digits)
    record = train(RunConfig(**SMALL), digits, tmp_path)
    assert record["status"] == "complete"
    again = train(RunConfig(**SMALL), digits, tmp_path)
    assert again["metrics"] == record["metrics"]
    read = read_run(tmp_path)
    assert read.metric("test", "loss") == float("inf")
    assert read.metric("test", "accuracy") == record["metrics"]["test"]["accuracy"]
    assert load_card(tmp_path)["metrics"]["test"]["loss"] == "inf"
    spread = Spread.of([float("inf"), 1.0])
    assert spread is not None
    assert (spread.mean, spread.sd) == (float("inf"), None)


def test_a_model_without_predictions_has_diverged(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undefined(found: Evaluation) -> Evaluation:
        probabilities = found.probabilities.copy()
        probabilities[3] = np.nan
        return dataclasses.replace(found, probabilities=probabilities)

    _with_test(undefined, monkeypatch, digits)
    record = train(RunConfig(**SMALL), digits, tmp_path)
    assert record["status"] == f"diverged at step {record['steps_done']}"
    assert record["metrics"] is None


def test_evaluation_does_not_depend_on_how_many_images_go_at_a_time(
    digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = DeviceSplit(digits, "test")
    for norm in ("none", "bn", "bin", "ln"):
        model = ResNet(1, 10, norm, in_channels=1, seed=0)
        found = []
        for size in (EVALUATION_BATCH["cpu"], 256, 7):
            monkeypatch.setitem(EVALUATION_BATCH, "cpu", size)
            found.append(evaluate(model, split, 10, "float32"))
            monkeypatch.undo()
        for other in found[1:]:
            assert other.probabilities == pytest.approx(found[0].probabilities, abs=1e-6)
            assert other.metrics.loss == pytest.approx(found[0].metrics.loss, rel=1e-6)
            assert (other.labels == found[0].labels).all()


def test_the_loss_is_summed_in_float64(digits: DataSet) -> None:
    # One image in 64 is wrong by far: in float32 the others' small losses would be lost.
    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(x), 10)
            logits[:, 0] = 12.0
            logits[0, 0] = -3e7
            return logits

    split = DeviceSplit(digits, "test")
    found = evaluate(Fixed(), split, 10, "float32")
    answers = torch.cat([Fixed()(x) for x, _ in split.sequential(EVALUATION_BATCH["cpu"])])
    each = torch.nn.functional.cross_entropy(answers, split.labels, reduction="none")
    expected = math.fsum(each.tolist()) / len(each)
    assert found.metrics.loss == pytest.approx(expected, rel=1e-14)
    whole = float(each.sum()) / len(each)
    assert found.metrics.loss != pytest.approx(whole, rel=1e-10)
