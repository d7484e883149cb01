"""How long the runs of a study will take, from a few timed steps."""

from __future__ import annotations

import statistics
import time
from collections import Counter

import torch

from ..data import DataSet, DeviceSplit
from ..errors import InputError
from ..runs import RunConfig
from ..training import build, train_step
from ..training.control import computed_as_asked
from ..training.optimizer import LayerAwareOptimizer
from .allocator import keep_memory
from .same_function import steps_for
from .study import Study

AROUND, OF_A_RUN = 4.0, 0.25
EVALUATED = 0.3
CROWDING = 1.25
CHECKED, CHECK_BEGINS = 0.7, 20.0
"""Measured on two cores: see estimate_seconds."""
TIMING, LONGEST, MOST = 0.03, 1.0, 6
"""What timing the steps of an arm takes at most: a share of what they will take, seconds, steps."""
_TIMED_BY = ("norm", "n", "shortcut", "batch_size", "accumulate", "optimizer", "precision",
             "device", "threads", "kernels")  # fmt: skip
"""The settings on which the time of a step depends."""


def estimate_seconds(
    study: Study, data: DataSet, workers: int, timed: dict[str, float] | None = None
) -> float:
    """Time for the runs that are missing, from a few timed steps of every arm.

    Training steps are timed one arm after the other in this process, which may take ``TIMING`` of
    the time that they are timed for. An image that is evaluated counts as ``EVALUATED`` of one in a
    training step, the check ``same-function`` as ``CHECK_BEGINS`` training steps of each arm and
    ``CHECKED`` of one for each of its own. Start and report take ``AROUND`` seconds, a run besides
    its training ``OF_A_RUN``, and processes side by side on CPU slow each other by ``CROWDING``; a
    machine busy with other work takes longer. ``timed`` keeps what was timed, for studies of the
    same networks.
    """
    pending = study.pending()
    timed = {} if timed is None else timed
    step_seconds = {}
    updates: Counter[str] = Counter()
    for arm, config, _ in pending:
        updates[arm] += steps_of(config, data)
    for arm in updates:
        config = study.plan.arms[arm]
        kind = str([getattr(config, name) for name in _TIMED_BY])
        if kind not in timed:
            timed[kind] = _time_step(config, data, updates[arm])
        step_seconds[arm] = timed[kind]
    checked = sum(
        (CHECK_BEGINS + CHECKED * steps_for(study.plan.arms[arm], data))
        * step_seconds.get(arm, 0.0)
        for pair in study.plan.twins
        for arm in pair
    )
    sizes = {name: len(split) for name, split in data.splits.items()}
    total = 0.0
    for arm, config, _ in pending:
        per_image = step_seconds[arm] / min(config.batch_size, sizes["train"])
        trained = config.epochs * sizes["train"]
        if config.budget == "updates":
            trained = steps_of(config, data) * config.images_per_update
        evaluated = config.epochs * sizes["val"] + sum(sizes.values())
        total += per_image * (trained + EVALUATED * evaluated) + OF_A_RUN
    if not pending:
        return 0.0
    side_by_side = max(1, min(workers, len(pending)))
    crowded = CROWDING if side_by_side > 1 and pending[0][1].device == "cpu" else 1.0
    return AROUND + crowded * (total + checked) / side_by_side


def steps_of(config: RunConfig, data: DataSet) -> int:
    """Updates of a run on the images that it trains on."""
    splits = data.splits if data.folds is None else data.folds.rows(config.seed)
    return config.epochs * config.updates_per_epoch(len(splits["train"]))


def _time_step(config: RunConfig, data: DataSet, updates: int) -> float:
    """Seconds of a training step, for so many of them."""
    keep_memory()  # as a run does, whose steps are faster for it
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    state = torch.get_rng_state()
    try:
        with computed_as_asked(config):
            return _seconds_of_a_step(config, data, updates)
    except ValueError as error:
        raise InputError(f"Arm {config.norm}: {error}") from error
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def _seconds_of_a_step(config: RunConfig, data: DataSet, updates: int) -> float:
    built = build(config, data)
    model = built.model
    optimizer = LayerAwareOptimizer(model, config, built.classifier)
    split = DeviceSplit(data, "train", config.device)
    rows = range(min(config.batch_size, len(data.splits["train"])))
    batch = split.batch(rows)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 2 or (
        len(times) < MOST
        and time.perf_counter() - began < min(LONGEST, TIMING * updates * times[-1])
    ):
        started = time.perf_counter()
        loss, _ = train_step(model, optimizer, [batch], config)
        float(loss)  # wait for a GPU
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])  # the first one makes what the others find made
