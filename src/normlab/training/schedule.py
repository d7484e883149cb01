"""The learning rate as a function of the step alone, so that a resumed run needs no state."""

from __future__ import annotations

import math

from .config import RunConfig


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of the step (counted from 0).

    Linear warm-up over the first w steps, w = ``warmup`` times the whole, from lr / w to lr. Then,
    with t from 0 to 1 over the rest: constant; step: lr * step_factor^(drops passed), with drops
    as shares of the whole run; cosine: lr * (1 + cos(pi t)) / 2 (Loshchilov & Hutter 2017,
    equation 5, one cycle down to 0).
    """
    total = config.epochs * steps_per_epoch
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        # A hair of slack, so that a drop at half of the run comes at the step it names.
        drops = sum(step / total >= at - 1e-9 for at in config.step_at)
        return config.lr * config.step_factor**drops
    progress = (step - warmup) / max(1, total - warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
