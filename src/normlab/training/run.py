"""One run: from a configuration and a data set to a run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data import DataSet, DeviceSplit
from ..errors import InputError, told
from ..foreign import is_custom
from ..models import (
    OURS,
    generator_states,
    packed,
    read_bundle,
    seed_generators,
    set_generator_states,
    unpacked,
)
from ..norms.fused import is_computed_again
from ..runs import (
    COMPLETE,
    INTERRUPTED,
    RUNNING,
    Metrics,
    RunConfig,
    identity,
    is_result,
    is_run,
    is_same_run,
    read_record,
    write_features,
    write_history,
)
from ..seals import digest
from ..splits import SPLITS
from ..stopping import Stopped, deferred
from . import checkpoint
from .balance import class_weights
from .code import code_of_run
from .control import controlled
from .division import check_division, divisible
from .environment import fingerprint, of_all
from .evaluation import Evaluation, evaluate, probabilities
from .features import feature_row, inputs_of
from .following import Following
from .frozen_parts import train_mode
from .group import ALONE, Group, names_of, states_of
from .keeping import Keeping
from .layer_check import LayerTraits, check_layer
from .memory import kept_for_backward, peak_on
from .network import build, in_format, started
from .optimizer import LayerAwareOptimizer
from .outcome import Described, write_model, write_run
from .resuming import Resuming
from .saving import Saver
from .schedule import learning_rate
from .standing import LOSSES_AT_A_TIME, DivergedError, Running, Standing
from .step import division_of, forward, train_step, waits_for_others
from .updates import Updates

REPORT_SECONDS = 0.25
_NAMES = 100
"""Names of tensors that a record lists at most."""
CUDA_ROUNDING = 1e-2
"""Kernels may be chosen anew; state that was lost moves probabilities by more."""


@dataclass(frozen=True)
class Progress:
    """Where a run is; given to the progress callback a few times per second.

    ``notes`` are sentences that a person should see: all so far, so that none is missed.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    notes: tuple[str, ...] = ()


def train(
    config: RunConfig,
    data: DataSet,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    side_by_side: int = 1,
    trial: bool = False,
    keeping: Keeping = Keeping(),  # noqa: B008 - frozen
    kernels_note: str = "",
    group: Group = ALONE,
) -> dict[str, Any]:
    """Carry out a run in ``folder``, or resume it, and return what run.json says.

    Of data with folds, the run's seed decides which images it trains, validates and tests on.

    A run that is complete or has diverged is not run again. An interrupted one resumes from its
    last checkpoint and ends with the same bits as one that was never stopped. ``side_by_side``,
    how many runs share the machine, is recorded with the times that depend on it. ``keeping`` says
    how often checkpoints are saved, whether one may be used that was made on another machine or
    with other versions, and whether memory is saved. ``kernels_note`` is recorded: why layers are
    computed as they are, where nobody asked for it.

    Where an end is asked for (:mod:`normlab.stopping`), a checkpoint is saved at the end of the
    step.

    Every process of a ``group`` calls this, and gets what run.json says. Process 0 alone reads and
    writes the folder and calls ``on_progress``. Where one is asked for an end, all end after the
    same step.

    A ``trial`` is there to choose a setting: the chosen weights are evaluated on validation alone,
    the test split is not read, and neither predictions nor a model are kept.

    Raises:
        InputError: the folder contains another run, or cannot be written; a layer that is not ours
            fails, or does not do what a run relies on; versions or the machine have changed since
            the run was interrupted.
        Stopped: an end was asked for.
        ValueError: a normalization site does not carry the arm's layer.
    """
    if config.processes != group.launch.size:
        raise InputError(
            f"The run is to be made by {config.processes} processes, but here "
            f"{'is one' if not group.several else f'are {group.launch.size}'}. torchrun starts "
            "several, and the run has as many."
        )
    data = data.of_seed(config.seed)
    code = code_of_run(config)
    done = group.from_first(lambda: _finished(folder, config, data, code))
    if done is not None:
        return done
    with group.together():
        traits = check_layer(config, data)
    with deferred(), controlled(config), _explained(config):
        traits = check_division(config, data, traits, group)
        run = _Run(
            config,
            data,
            folder,
            code,
            on_progress,
            side_by_side,
            traits,
            keeping,
            kernels_note,
            group,
        )
        try:
            run.fit()
            found = run.evaluate_chosen(("val",) if trial else SPLITS)
        except DivergedError as diverged:
            return run.end(str(diverged))
        return run.end(COMPLETE, found, keep_model=not trial)


@contextmanager
def _explained(config: RunConfig) -> Iterator[None]:
    """What a layer that is not ours raises is told in a line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not any(map(is_custom, config.named)) and config.model == OURS:
            raise
        raise InputError(
            f"Arm {config.norm}, seed {config.seed}: the run failed: {told(error)}."
        ) from error


class _Run:
    def __init__(
        self,
        config: RunConfig,
        data: DataSet,
        folder: Path,
        code: dict[str, str],
        on_progress: Callable[[Progress], None] | None = None,
        side_by_side: int = 1,
        traits: LayerTraits = LayerTraits(),  # noqa: B008 - frozen
        keeping: Keeping = Keeping(),  # noqa: B008 - frozen
        kernels_note: str = "",
        group: Group = ALONE,
    ) -> None:
        self.config, self.data, self.folder, self.group = config, data, folder, group
        self.processor = time.process_time()
        self.on_progress = on_progress if group.first else None
        self.resumable = traits.resumable
        built = started(config, data)
        self.built = built
        self.classifier = built.classifier
        self.model = divisible(built.model, config)
        if built.how and group.several:
            # Processors that round otherwise would start from other weights.
            state = group.from_first(lambda: packed(self.model.state_dict()))
            self.model.load_state_dict(unpacked(state))
        self.described = Described.of(
            config,
            data,
            identity(config, data.fingerprint, code),
            code,
            built,
            side_by_side,
            traits.notes,
            kernels_note,
            keeping.save_memory,
        )
        # Hooks on what autograd saves are no help to other layers, and not all can have them.
        self.saves_memory = (
            keeping.save_memory
            and built.info.ours
            and all(is_computed_again(self.model.get_submodule(site.name)) for site in built.sites)
        )
        self.optimizer = LayerAwareOptimizer(self.model, config, built.classifier)
        self.following = Following(self.model)
        self.train_split = DeviceSplit(data, "train", config.device)
        self.val_split = DeviceSplit(data, "val", config.device)
        self.updates = Updates(config, self.train_split, group.launch)
        self.weights: Tensor | None = None
        if config.balance == "loss":
            weights = class_weights(self.train_split.split.labels, len(data.classes))
            self.weights = torch.from_numpy(weights).float().to(config.device)
        # The processor time of the other processes is not known here.
        self.standing = Standing(processor=None if group.several else [])
        self.running = Running()
        self.generators: Mapping[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.told = Progress(1, config.epochs, 0, self.updates.in_all, 0.0, 0.0)
        self.made_on = of_all(fingerprint(config.device), group)
        self.saver = Saver(folder, self.described.identity, keeping.checkpoint_minutes, self._tell)
        self._resume(keeping)
        # Until it ends well a run reads as interrupted, however it is stopped.
        group.from_first(lambda: self.saver.written(lambda: self._write(INTERRUPTED)))

    @property
    def step(self) -> int:
        """Updates done in all."""
        return self.standing.epoch * self.updates.per_epoch + self.running.updates

    def fit(self) -> None:
        """Train to the last epoch, keeping the weights that validation chooses."""
        self._measure_start()
        train_mode(self.model)
        self._measure_memory()
        while not self._over():
            with peak_on(self.config.device) as peak:
                self._epoch(self.standing.epoch + 1)
                reached = peak()
            if reached is not None:
                self.standing.memory.setdefault("peak", reached)
            if not self._over():
                self._save_where_due()

    def _epoch(self, epoch: int) -> None:
        """Train for an epoch, evaluate on validation, and keep the weights if they are the best."""
        self._train(epoch)
        began, last = time.perf_counter(), epoch * self.updates.per_epoch - 1
        running, trained = self.running.metrics(len(self.data.classes)), self.running.seconds
        seen = self.running.images
        lr = learning_rate(self.config, last, self.updates.per_epoch)
        with (
            self._saved_if_stopped(),
            inputs_of(self._recorded()) as features,
        ):
            val = self._evaluate(self.val_split).metrics
        self._check_weights()
        if not math.isfinite(val.loss):
            raise DivergedError(last + 1)
        evaluated = time.perf_counter() - began
        self.standing.seconds += trained + evaluated
        self._record(epoch, RUNNING, running, lr, trained)
        self._record(epoch, "val", val, lr, evaluated)
        if self.config.record_features:
            own = [values.cpu() for values in features]
            seen_by_all = [part for parts in self.group.collected(own) for part in parts]
            self.standing.features.append(feature_row(epoch, seen_by_all))
        self._choose(epoch, val)
        self._count_processor()
        if self.standing.processor is not None:
            self.standing.processor.append(self.standing.processor_since)
            self.standing.processor_since = 0.0
        self.standing.epoch, self.running = epoch, Running()
        self._report(epoch, last, running.loss, seen / trained)

    def _recorded(self) -> nn.Module | None:
        """The layer whose inputs are recorded, if any are."""
        if not self.config.record_features:
            return None
        return self.model.get_submodule(self.classifier)

    def _train(self, epoch: int) -> None:
        """The updates of an epoch, or those that are left of one that was interrupted."""
        config, running = self.config, self.running
        if running.updates:
            set_generator_states(self.generators)
        else:
            rank = self.group.launch.rank
            seed_generators(config.seed, "layers", epoch, *([rank] if rank else []))
        began = reported = time.perf_counter()
        for batches in self.updates.of(epoch, running.updates):
            index, step = running.updates, self.step
            self.optimizer.set_lr(learning_rate(config, step, self.updates.per_epoch))
            self.following.before_update(step, self.updates.in_all)
            loss, guess = train_step(
                self.model,
                self.optimizer,
                batches,
                config,
                self.weights,
                self.group,
                save_memory=self.saves_memory,
            )
            running.add(loss, guess, torch.cat([y for _, y in batches]))
            if config.device == "cpu" or index % LOSSES_AT_A_TIME == LOSSES_AT_A_TIME - 1:
                running.check_finite(step)
            now = time.perf_counter()
            running.seconds += now - began
            if now - reported >= REPORT_SECONDS:
                reported = now
                self._report(epoch, step, float(loss), running.images / running.seconds)
            self._save_where_due()
            began = time.perf_counter()
        self.group.take_buffers(self.model)
        running.check_finite(self.step - 1)  # which waits for a GPU
        running.seconds += time.perf_counter() - began

    def _save_where_due(self) -> None:
        """Save a checkpoint if it is time, or an end was asked for.

        Raises:
            Stopped: an end was asked for.
        """
        due_here = self.group.first and self.saver.due()
        number, due = self.group.largest(self.group.asked(), due_here)
        if number or due:
            self._save()
        if number:
            self.group.stop(number)

    @contextmanager
    def _saved_if_stopped(self) -> Iterator[None]:
        """For an evaluation pass, which leaves everything as it is: it is made again."""
        try:
            yield
        except Stopped:
            self._save()
            raise

    def _choose(self, epoch: int, val: Metrics) -> None:
        """Highest validation accuracy, then lower loss, then the earlier epoch."""
        standing = self.standing
        if (val.accuracy, -val.loss) > (standing.best_accuracy, -standing.best_loss):
            standing.best_epoch = epoch
            standing.best_accuracy, standing.best_loss = val.accuracy, val.loss
            self.best = packed(self.model.state_dict())

    def _over(self) -> bool:
        """All epochs are done, or patience is at its end."""
        if self.standing.epoch >= self.config.epochs or self.config.patience is None:
            return self.standing.epoch >= self.config.epochs
        reached = [row["accuracy"] for row in self.standing.history if row["split"] == "val"]
        return bool(reached) and (
            len(reached) - 1 - reached.index(max(reached)) >= self.config.patience
        )

    def evaluate_chosen(self, splits: tuple[str, ...]) -> dict[str, Evaluation]:
        """These splits through one evaluation pass with the chosen weights.

        This is the only place that reads the test split.

        Raises:
            DivergedError: an image's probabilities are not numbers, so it has no predicted class. A
                loss that is infinite is a result.
        """
        self.model.load_state_dict(unpacked(self.best))
        with self._saved_if_stopped():
            found = {
                name: self._evaluate(DeviceSplit(self.data, name, self.config.device))
                for name in splits
            }
        if not all(np.isfinite(one.probabilities).all() for one in found.values()):
            raise DivergedError(self.standing.epoch * self.updates.per_epoch)
        return found

    def end(
        self, status: str, found: dict[str, Evaluation] | None = None, *, keep_model: bool = False
    ) -> dict[str, Any]:
        """Write the run's files, run.json last: it says that the others are complete."""

        def write() -> dict[str, Any]:
            write_history(self.folder, self.standing.history)
            if self.config.record_features:
                write_features(self.folder, self.standing.features)
            if found is not None and keep_model:
                write_model(self.folder, self.described, self.best, found, self.standing.best_epoch)
                self._check_written(found["val"])
            return self._write(status, found)

        def last() -> dict[str, Any]:
            record = self.saver.written(write)
            checkpoint.clear(self.folder)
            return record

        return self.group.from_first(last)

    def _evaluate(self, split: DeviceSplit) -> Evaluation:
        config = self.config
        self.following.in_evaluation()
        found = evaluate(self.model, split, len(self.data.classes), config.precision, self.group)
        # All decide by the same bits, also where processors differ.
        return replace(found, metrics=self.group.from_first(lambda: found.metrics))

    def _check_weights(self) -> None:
        """Every process must have the same ones: each made every update by itself."""
        if not self.group.several:
            return
        parts = [p.detach().cpu().flatten().view(torch.uint8) for p in self.model.parameters()]
        found = self.group.collected(digest(torch.cat(parts).numpy().tobytes()))
        other = next((rank for rank, one in enumerate(found) if one != found[0]), None)
        if other is not None:
            raise InputError(
                f"Arm {self.config.norm}, seed {self.config.seed}: process {other} no longer has "
                "the weights of process 0. Either their processors or versions compute otherwise, "
                "or a layer of your own changes its parameters outside of the optimizer. Start all "
                "processes on machines of one kind."
            )

    def _check_written(self, found: Evaluation) -> None:
        """The model on disk must answer as the trained one did."""
        # The layer is the one that was trained. Weights that are not finite are this run's result.
        model = read_bundle(self.folder, trust=True, finite=False)
        model.to(self.config.device)
        in_format(model, contiguous=self.built.contiguous)
        again = probabilities(model, self.val_split, self.config.precision, batches=1)
        known = found.probabilities[: len(again)]
        bound = 0.0 if self.config.device == "cpu" else CUDA_ROUNDING
        if not np.allclose(again, known, rtol=0.0, atol=bound, equal_nan=True):
            raise InputError(
                f"Arm {self.config.norm}, seed {self.config.seed}: the model that was saved gives "
                f"other predictions than the trained one (probabilities differ by "
                f"{np.nanmax(abs(again - known)):.2g}). The layer keeps part of its state outside "
                "of its state dict. Use register_buffer, or return it from get_extra_state."
            )

    def _measure_start(self) -> None:
        """Validation of a network that starts from trained weights, before and after its layers
        were converted."""
        loaded, original = self.built.loaded, self.built.original
        # Nothing else keeps it alive, so that memory is that of the run.
        self.built = replace(self.built, original=None)
        if loaded is None or original is None or self.standing.start:
            return
        norm = self.built.original_norm
        found: dict[str, Any] = {
            "weights": loaded.source,
            "norm": norm,
            "loaded": loaded.share,
            "missing": list(loaded.missing[:_NAMES]),
            "left_over": list(loaded.left_over[:_NAMES]),
            "classifier": loaded.classifier,
        }
        if self.built.how:
            found["how"] = self.built.how
        with self._saved_if_stopped():
            found["val"] = asdict(self._evaluate(self.val_split).metrics)
            if not loaded.classifier:  # a new one knows nothing
                precision = self.config.precision
                found["original"] = asdict(
                    evaluate(
                        original, self.val_split, len(self.data.classes), precision, self.group
                    ).metrics
                )
        self.standing.start = found

    def _measure_memory(self) -> None:
        """Of a whole batch; which images it has makes no difference. In a network of its own: a
        layer that is not ours may count its calls."""
        config, share = self.config, self.group.launch.share
        rows = range(min(config.batch_size, len(self.train_split)))
        x, y = self.train_split.batch(rows, share=share)
        model = divisible(build(config, self.data).model, config)
        train_mode(model)
        own = share(len(y))
        if own.stop == own.start and not waits_for_others(model, config):
            return
        try:
            with division_of(len(y), config, self.group):
                kept = kept_for_backward(
                    model,
                    lambda: forward(model, x, y[own], config, self.weights)[0],
                    save_memory=self.saves_memory,
                )
        except RuntimeError:
            if any(map(is_custom, config.named)):
                return  # torch.func, for one, cannot be watched; what is wrong shows in training
            raise
        if self.standing.memory.get("kept_for_backward") != kept:
            # Also where a run goes on with memory saved, or without: the peak is another one.
            self.standing.memory = {"kept_for_backward": kept}

    def _record(self, epoch: int, split: str, metrics: Metrics, lr: float, seconds: float) -> None:
        self.standing.history.append(
            {"epoch": epoch, "split": split, **asdict(metrics), "lr": lr, "seconds": seconds}
        )

    def _report(self, epoch: int, step: int, loss: float, speed: float) -> None:
        if self.on_progress:
            self.told = replace(
                self.told, epoch=epoch, step=step + 1, loss=loss, images_per_second=speed
            )
            self.on_progress(self.told)

    def _tell(self, note: str) -> None:
        self.told = replace(self.told, notes=(*self.told.notes, note))
        if self.on_progress:
            self.on_progress(self.told)

    def _count_processor(self) -> None:
        """Add the processor time since the last call, of all threads of this process."""
        now = time.process_time()
        self.standing.processor_since += now - self.processor
        self.processor = now

    def _write(self, status: str, found: dict[str, Evaluation] | None = None) -> dict[str, Any]:
        self._count_processor()
        return write_run(
            self.folder,
            self.described,
            self.standing,
            status,
            steps=self.standing.epoch * self.updates.per_epoch,
            found=found,
        )

    def _save(self) -> None:
        if not self.resumable:
            return
        self.running.check_finite(self.step - 1)
        self._count_processor()
        random = self._generator_states() if self.running.updates else {}
        if not self.group.first:
            return
        self.saver.save(
            lambda: checkpoint.Checkpoint(
                self.step,
                self.standing,
                {
                    "model": self.model.state_dict(),
                    "best": self.best,
                    "optimizer": self.optimizer.state(),
                    "epoch": self.running.state(),
                    "random": random,
                },
                self.running.seconds,
                self.made_on,
            )
        )

    def _generator_states(self) -> dict[str, Tensor]:
        """Of every process."""
        own = names_of(generator_states(self.config.device), self.group.launch.rank)
        return {k: v for states in self.group.collected(own) for k, v in states.items()}

    def _resume(self, keeping: Keeping) -> None:
        """Go on from the last checkpoint, if there is one that may be used."""
        resuming = Resuming(
            self.folder,
            self.described.identity,
            self.config,
            self.model,
            self.optimizer,
            self.updates,
            self.made_on,
        )
        notes: list[str] = []
        there = self.group.from_first(lambda: resuming.find(keeping, notes.append))
        if there is not None:
            self._go_on_from(*there)
        for note in notes:
            self._tell(note)

    def _go_on_from(self, found: checkpoint.Checkpoint, path: Path) -> None:
        self.standing = found.standing
        self.model.load_state_dict(unpacked(found.states["model"]))
        self.best = {k: v.to(self.config.device) for k, v in found.states["best"].items()}
        self.optimizer.load_state(found.states["optimizer"])
        self.generators = states_of(found.states["random"], self.group.launch.rank)
        self.running = Running.of(found.states["epoch"], found.seconds, self.config.device)
        self.saver.last = (found.step, path)
        epoch = min(self.standing.epoch + 1, self.config.epochs)
        self.told = replace(self.told, epoch=epoch, step=self.step)


def _finished(
    folder: Path, config: RunConfig, data: DataSet, code: dict[str, str]
) -> dict[str, Any] | None:
    if not is_run(folder):
        return None
    record = read_record(folder)
    if not is_same_run(record, config, data.fingerprint, code):
        raise InputError(
            f"{folder} contains another run (its configuration, its data or its layer's code "
            "differs). Choose another folder with --out."
        )
    return record if is_result(str(record["status"])) else None
