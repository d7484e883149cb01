"""The learning rate as a function of the step alone, so that a resumed run needs no state."""

from __future__ import annotations

import math

from ..runs import RunConfig


def highest_rate(config: RunConfig) -> float:
    """The learning rate that the schedule starts from: ``lr`` times the scaling.

    With r = images an update / ``reference_batch``: linear, lr * r (Goyal et al. 2017, section
    2.1); sqrt, lr * sqrt(r) (Krizhevsky 2014, section 5); none, lr.
    """
    ratio = config.images_per_update / config.reference_batch
    return config.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[config.lr_scaling]


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of the update (counted from 0), with lr the :func:`highest_rate`.

    Linear warm-up over the first w steps, w = ``warmup`` times the whole, from lr / w to lr. Then,
    with t from 0 to 1 over the rest: constant; step: lr * step_factor^(drops passed), with drops
    as shares of the whole run; cosine: lr * (1 + cos(pi t)) / 2 (Loshchilov & Hutter 2017,
    equation 5, one cycle down to 0).
    """
    lr = highest_rate(config)
    total = config.epochs * steps_per_epoch
    warmup = round(config.warmup * total)
    if step < warmup:
        return lr * (step + 1) / warmup
    if config.schedule == "constant":
        return lr
    if config.schedule == "step":
        # A hair of slack, so that a drop at half of the run comes at the step it names.
        drops = sum(step / total >= at - 1e-9 for at in config.step_at)
        return lr * config.step_factor**drops
    progress = (step - warmup) / max(1, total - warmup)
    return lr * 0.5 * (1 + math.cos(math.pi * progress))
