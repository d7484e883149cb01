"""One run: from a configuration and a data set to a run folder."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Augmentation, DataSet, DeviceSplit
from ..errors import InputError
from ..files import read_json, write_bytes, write_json, write_text
from ..keyed import key
from ..models import ModelInfo, ResNet, Site, check_sites, save_model
from . import checkpoint
from .command import train_command
from .config import RunConfig
from .environment import hardware, versions
from .memory import kept_for_backward, peak_on
from .metrics import SPLITS, Metrics, measure
from .optimizer import LayerAwareOptimizer
from .schedule import highest_rate, learning_rate

Batch = tuple[Tensor, Tensor]
"""Images (k, C, H, W) and labels (k,)."""
HISTORY_COLUMNS = ("epoch", "split", "loss", "accuracy", "micro_f1", "macro_f1", "lr", "seconds")
PERCENTILES = (1, 20, 80, 99)
"""Of the penultimate features, over all validation images and channels together."""
FEATURE_COLUMNS = ("epoch", *(f"p{p}" for p in PERCENTILES))
RUNNING = "train_running"
"""Name in history.csv of the training metrics gathered while an epoch trains."""
EVALUATION_BATCH = 256
"""Fixed, so that evaluation does not depend on the batch size compared."""
CHECKPOINT_SECONDS = 10.0
"""A checkpoint is written after an epoch when the last one is older than this."""


@dataclass(frozen=True)
class Progress:
    """Where a run is; given to the progress callback a few times a second."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class Predictions:
    """One evaluation pass over a split."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    metrics: Metrics


class DivergedError(Exception):
    """The loss is no longer finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"diverged at step {step}")
        self.step = step


def train(
    config: RunConfig,
    data: DataSet,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    side_by_side: int = 1,
    trial: bool = False,
) -> dict[str, Any]:
    """Carry out a run in ``folder``, or go on with it, and return what run.json says.

    A run that is complete or has diverged is not run again. An interrupted one goes on from its
    last checkpoint and ends with the same bits as one that was never stopped. ``side_by_side``,
    how many runs share the machine at a time, is recorded beside the times that depend on it.

    A ``trial`` is there to choose a setting: the chosen weights are evaluated on validation alone,
    the test split is not read, and neither predictions nor a model are kept.

    Raises:
        InputError: the folder holds another run, or cannot be written.
        ValueError: a normalization site does not carry the arm's layer.
    """
    identity = config.identity(data.fingerprint)
    done = _finished(folder, identity)
    if done is not None:
        return done
    with controlled(config):
        run = _Run(config, data, folder, identity, on_progress, side_by_side)
        try:
            run.fit()
        except DivergedError as diverged:
            return run.write_outcome(str(diverged), None)
        if trial:
            run.model.load_state_dict(run.best)
            return run.write_outcome("complete", {"val": run.evaluate_val()}, keep=False)
        return run.write_outcome("complete", run.evaluate_chosen())


def build(config: RunConfig, data: DataSet) -> tuple[ModelInfo, ResNet, tuple[Site, ...]]:
    """The network of a run with its initial weights, its sites checked.

    Raises:
        InputError: the network cannot be made (groups that do not divide, an unknown layer).
        ValueError: a site does not carry the arm's layer.
    """
    info = ModelInfo(
        n=config.n,
        classes=data.classes,
        norm=config.norm,
        shortcut=config.shortcut,
        in_channels=data.channels,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
    )
    torch.manual_seed(key(config.seed, "layers"))  # for layers of one's own that draw when made
    try:
        model = info.build(config.seed)
    except ValueError as error:
        raise InputError(f"arm {config.norm}: {error}") from error
    found = check_sites(model, config.norm)
    model.to(device=config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return info, model, found


def train_step(
    model: nn.Module, optimizer: LayerAwareOptimizer, batches: Sequence[Batch], config: RunConfig
) -> tuple[Tensor, Tensor]:
    """One update from the images of all ``batches``, each of which goes forward by itself.

    Returns the detached mean loss over the images and the predicted classes.
    """
    loss, guesses = gradients(model, batches, config)
    optimizer.step()
    return loss, guesses


def gradients(
    model: nn.Module, batches: Sequence[Batch], config: RunConfig
) -> tuple[Tensor, Tensor]:
    """Add the gradient of the mean loss over the images to the parameters; returns the loss and
    the predicted classes. Integer labels; the loss in float32, or float64 for such a model."""
    total = sum(len(y) for _, y in batches)
    losses, guesses = [], []
    for x, y in batches:
        loss, logits = _forward(model, x, y, config)
        loss = loss * (len(y) / total)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        guesses.append(logits.detach().argmax(1))
    return torch.stack(losses).sum(), torch.cat(guesses)


def _forward(model: nn.Module, x: Tensor, y: Tensor, config: RunConfig) -> tuple[Tensor, Tensor]:
    """The mean loss of a batch, and its logits."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        logits = model(x)
    if logits.dtype != torch.float64:
        logits = logits.float()
    return F.cross_entropy(logits, y, label_smoothing=config.label_smoothing), logits


@torch.no_grad()
def evaluate(model: nn.Module, split: DeviceSplit, classes: int, precision: str) -> Predictions:
    """The evaluation pass: evaluation mode, no augmentation. The model's mode is restored."""
    training = model.training
    model.eval()
    labels, probabilities, losses = [], [], []
    for x, y in split.sequential(EVALUATION_BATCH):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x)
        logits = logits.float()
        losses.append(F.cross_entropy(logits, y, reduction="sum").double())
        probabilities.append(F.softmax(logits, 1))
        labels.append(y)
    model.train(training)
    all_labels = torch.cat(labels).cpu().numpy()
    all_probabilities = torch.cat(probabilities).cpu().numpy()
    loss = float(torch.stack(losses).sum()) / len(all_labels)
    metrics = measure(all_labels, all_probabilities.argmax(1), loss, classes)
    return Predictions(all_labels, all_probabilities, metrics)


class _Run:
    def __init__(
        self,
        config: RunConfig,
        data: DataSet,
        folder: Path,
        identity: str,
        on_progress: Callable[[Progress], None] | None,
        side_by_side: int = 1,
    ) -> None:
        self.config, self.data, self.folder, self.identity = config, data, folder, identity
        self.on_progress = on_progress
        self.side_by_side = side_by_side
        self.info, self.model, self.sites = build(config, data)
        self.optimizer = LayerAwareOptimizer(self.model, config)
        self.augmentation = Augmentation(config.crop_pad, config.flip)
        self.train_split = DeviceSplit(data, "train", config.device)
        self.val_split = DeviceSplit(data, "val", config.device)
        self.steps_per_epoch = config.updates_per_epoch(len(data.splits["train"]))
        self.standing = checkpoint.Standing()
        self.best: dict[str, Tensor] = {}
        self.memory: dict[str, int] = {}
        self._resume()
        # Until it ends well a run reads as interrupted, however it is stopped.
        self._write_run_json("interrupted", None)

    def fit(self) -> None:
        """Train to the last epoch, keeping the weights that validation chooses."""
        self.model.train()
        self._measure_memory()
        saved_at = time.monotonic()
        while not self._over():
            with peak_on(self.config.device) as peak:
                self._epoch(self.standing.epoch + 1)
                reached = peak()
            if reached is not None:
                self.memory.setdefault("peak", reached)
            if not self._over() and time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
                self._save()
                saved_at = time.monotonic()

    def _measure_memory(self) -> None:
        """Of a whole batch; which images it holds makes no difference."""
        config = self.config
        rows = range(min(config.batch_size, len(self.train_split)))
        x, y = self.train_split.batch(rows)
        self.memory["kept_for_backward"] = kept_for_backward(
            self.model, lambda: _forward(self.model, x, y, config)[0]
        )

    def _over(self) -> bool:
        """All epochs are done, or patience is at its end."""
        if self.standing.epoch >= self.config.epochs or self.config.patience is None:
            return self.standing.epoch >= self.config.epochs
        reached = [row["accuracy"] for row in self.standing.history if row["split"] == "val"]
        return bool(reached) and (
            len(reached) - 1 - reached.index(max(reached)) >= self.config.patience
        )

    def evaluate_chosen(self) -> dict[str, Predictions]:
        """Train, validation and test through one evaluation pass with the chosen weights.

        This is the only place that reads the test split.
        """
        self.model.load_state_dict(self.best)
        splits = {name: DeviceSplit(self.data, name, self.config.device) for name in SPLITS}
        return {name: self._evaluate(split) for name, split in splits.items()}

    def evaluate_val(self) -> Predictions:
        """The evaluation pass over validation."""
        return self._evaluate(self.val_split)

    def write_outcome(
        self, status: str, predictions: dict[str, Predictions] | None, *, keep: bool = True
    ) -> dict[str, Any]:
        """Write the run's files, run.json last: it is what says that the others are whole.

        Without ``keep`` predictions and model are not among them.
        """
        write_text(self.folder / "history.csv", _as_csv(HISTORY_COLUMNS, self.standing.history))
        if self.config.record_features:
            write_text(
                self.folder / "features.csv", _as_csv(FEATURE_COLUMNS, self.standing.features)
            )
        if predictions is not None and keep:
            arrays: dict[str, Any] = {}
            for name, outcome in predictions.items():
                arrays[f"{name}_image"] = self.data.splits[name].names
                arrays[f"{name}_label"] = outcome.labels
                arrays[f"{name}_probabilities"] = outcome.probabilities
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)
            write_bytes(self.folder / "predictions.npz", buffer.getvalue())
            save_model(self.folder, self.info, self.best, self._card(predictions))
        record = self._write_run_json(status, predictions)
        checkpoint.clear(self.folder)
        return record

    def _epoch(self, epoch: int) -> None:
        config, device = self.config, self.config.device
        torch.manual_seed(key(config.seed, "layers", epoch))
        started = time.perf_counter()
        losses, predicted, labels = [], [], []
        seen, shown = 0, started
        lr = config.lr
        for index, batches in enumerate(self._updates(epoch)):
            step = (epoch - 1) * self.steps_per_epoch + index
            lr = learning_rate(config, step, self.steps_per_epoch)
            self.optimizer.set_lr(lr)
            loss, guess = train_step(self.model, self.optimizer, batches, config)
            losses.append(loss)
            predicted.append(guess)
            labels.append(torch.cat([y for _, y in batches]))
            seen += len(guess)
            # Reading the loss waits for a GPU, so there it is read in blocks.
            if device == "cpu" or index % 50 == 49:
                self._check_finite(losses, step)
            now = time.perf_counter()
            if self.on_progress and now - shown >= 0.25:
                shown = now
                self._report(epoch, step, float(loss), seen / (now - started))
        self._check_finite(losses, epoch * self.steps_per_epoch - 1)
        sizes = torch.tensor([len(y) for y in labels], dtype=torch.float64)
        mean_loss = float((torch.stack(losses).cpu().double() * sizes).sum() / sizes.sum())
        running = measure(
            torch.cat(labels).cpu().numpy(),
            torch.cat(predicted).cpu().numpy(),
            mean_loss,
            len(self.data.classes),
        )
        trained = time.perf_counter()
        with _inputs_of(self.model.fc, record=config.record_features) as features:
            val = self._evaluate(self.val_split).metrics
        if not math.isfinite(val.loss):
            raise DivergedError(epoch * self.steps_per_epoch)
        self.standing.seconds += time.perf_counter() - started
        self._record(epoch, RUNNING, running, lr, trained - started)
        self._record(epoch, "val", val, lr, time.perf_counter() - trained)
        if config.record_features:
            values = np.percentile(torch.cat(features).float().cpu().numpy(), PERCENTILES)
            row = (epoch, *values.tolist())
            self.standing.features.append(dict(zip(FEATURE_COLUMNS, row, strict=True)))
        self._choose(epoch, val)
        self.standing.epoch = epoch
        if self.on_progress:
            self._report(
                epoch, epoch * self.steps_per_epoch - 1, mean_loss, seen / (trained - started)
            )

    def _updates(self, epoch: int) -> Iterator[list[Batch]]:
        """The batches of each update of an epoch."""
        batches = itertools.islice(self._batches(epoch), self._batches_per_epoch())
        while group := list(itertools.islice(batches, self.config.accumulate)):
            yield group

    def _batches_per_epoch(self) -> int | None:
        """None: as many as a pass has."""
        if self.config.budget == "epochs":
            return None
        return self.steps_per_epoch * self.config.accumulate

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """One pass over the images; where updates are counted, pass after pass without end, from
        where the epoch before stopped."""
        config = self.config
        one_pass = partial(self.train_split.epoch, config.batch_size, config.seed)
        counted = self._batches_per_epoch()
        if counted is None:
            yield from one_pass(epoch, self.augmentation)
            return
        done, first = divmod(
            (epoch - 1) * counted, math.ceil(len(self.train_split) / config.batch_size)
        )
        while True:
            done += 1
            yield from one_pass(done, self.augmentation, first=first)
            first = 0

    def _choose(self, epoch: int, val: Metrics) -> None:
        """Highest validation accuracy, then lower loss, then the earlier epoch."""
        standing = self.standing
        if (val.accuracy, -val.loss) > (standing.best_accuracy, -standing.best_loss):
            standing.best_epoch = epoch
            standing.best_accuracy, standing.best_loss = val.accuracy, val.loss
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _evaluate(self, split: DeviceSplit) -> Predictions:
        return evaluate(self.model, split, len(self.data.classes), self.config.precision)

    def _check_finite(self, losses: list[Tensor], step: int) -> None:
        recent = torch.stack(losses[-50:]).isfinite().cpu()
        if not bool(recent.all()):
            first = int((~recent).nonzero()[0])
            raise DivergedError(step - (len(recent) - 1) + first + 1)

    def _record(self, epoch: int, split: str, metrics: Metrics, lr: float, seconds: float) -> None:
        self.standing.history.append(
            {"epoch": epoch, "split": split, **asdict(metrics), "lr": lr, "seconds": seconds}
        )

    def _report(self, epoch: int, step: int, loss: float, speed: float) -> None:
        assert self.on_progress is not None
        steps = self.config.epochs * self.steps_per_epoch
        self.on_progress(Progress(epoch, self.config.epochs, step + 1, steps, loss, speed))

    def _save(self) -> None:
        checkpoint.save(
            self.folder,
            self.identity,
            self.standing,
            {
                "model": self.model.state_dict(),
                "best": self.best,
                "optimizer": self.optimizer.state(),
            },
        )

    def _resume(self) -> None:
        found = checkpoint.load(self.folder, self.identity)
        if found is None:
            return
        self.standing, tensors = found
        self.model.load_state_dict(tensors["model"])
        self.best = {k: v.to(self.config.device) for k, v in tensors["best"].items()}
        self.optimizer.load_state(tensors["optimizer"])

    def _card(self, predictions: dict[str, Predictions]) -> dict[str, Any]:
        """What whoever gets the model should know of it."""
        return {
            "arm": self.config.norm,
            "seed": self.config.seed,
            "layers": 6 * self.config.n + 2,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "sites": self._site_records(),
            "data": {
                "name": self.data.name,
                "fingerprint": self.data.fingerprint,
                "images": {name: len(split) for name, split in self.data.splits.items()},
                "resize_rule": self.data.resize_rule,
            },
            "metrics": {name: asdict(found.metrics) for name, found in predictions.items()},
            "metrics_note": "evaluation mode, no augmentation, weights that validation chose; "
            "the test split was read once, after that choice",
            "chosen_epoch": self.standing.best_epoch,
            "command": train_command(self.config, self.data),
            "versions": versions(),
        }

    def _site_records(self) -> list[dict[str, str]]:
        return [{"name": site.name, "layer": site.detail} for site in self.sites]

    def _write_run_json(
        self, status: str, predictions: dict[str, Predictions] | None
    ) -> dict[str, Any]:
        steps = self.standing.epoch * self.steps_per_epoch
        record = {
            "status": status,
            "identity": self.identity,
            "config": self.config.to_dict(),
            "data": {
                "source": self.data.source,
                "fingerprint": self.data.fingerprint,
                "config": asdict(self.data.config),
            },
            "versions": versions(),
            "hardware": hardware(self.config.device),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "sites": self._site_records(),
            "batch": {
                "statistics": self.config.batch_size,
                "gradient": self.config.images_per_update,
            },
            "highest_lr": highest_rate(self.config),
            "epochs_done": self.standing.epoch,
            "steps_done": steps,
            "stopped_early": status == "complete" and self.standing.epoch < self.config.epochs,
            "chosen_epoch": self.standing.best_epoch or None,
            "seconds": round(self.standing.seconds, 3),
            "side_by_side": self.side_by_side,
            "memory": self.memory or None,
            "metrics": None
            if predictions is None
            else {name: asdict(outcome.metrics) for name, outcome in predictions.items()},
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(self.folder / "run.json", record)
        return record


def _finished(folder: Path, identity: str) -> dict[str, Any] | None:
    path = folder / "run.json"
    if not path.exists():
        return None
    record: dict[str, Any] = read_json(path)
    if record.get("identity") != identity:
        raise InputError(
            f"{folder} holds another run (its configuration or its data differ); "
            "choose another folder with --out"
        )
    return record if record.get("status") != "interrupted" else None


@contextmanager
def _inputs_of(module: nn.Module, *, record: bool) -> Iterator[list[Tensor]]:
    """What goes into the module while the context is open, if asked."""
    seen: list[Tensor] = []
    if not record:
        yield seen
        return
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def controlled(config: RunConfig) -> Iterator[None]:
    """Threads and determinism of this run, put back afterwards."""
    if config.device == "cuda":
        # cuBLAS is deterministic with this alone, and reads it when it first starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    random_state = torch.get_rng_state()
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        torch.set_rng_state(random_state)


def _as_csv(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
