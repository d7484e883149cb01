"""One update of the weights, from the images of one or several batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms.methods.batch import BatchStatistics
from ..norms.recompute import saving_memory
from ..norms.synchronized import pooled_over
from ..runs import RunConfig
from .group import ALONE, Group
from .optimizer import LayerAwareOptimizer

Batch = tuple[Tensor, Tensor]
"""Images (k, C, H, W) and labels (k,). Of several processes each has its own images of a batch, and
the labels of all."""


def train_step(
    model: nn.Module,
    optimizer: LayerAwareOptimizer,
    batches: Sequence[Batch],
    config: RunConfig,
    weights: Tensor | None = None,
    group: Group = ALONE,
    *,
    save_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    """One update from the images of all ``batches``, each of which goes forward by itself.

    Returns the detached mean cross-entropy over the images and the predicted classes. ``weights``
    (K,): what an image of each class counts in the loss; None, all alike. What is returned has
    neither weights nor label smoothing, so that it can be compared with validation. With a
    ``group`` every process of it makes this update, and gets the same back. ``save_memory``: what
    backward can compute again is not kept for it; the bits are the same.
    """
    if config.statistics == "per-process":
        group.take_buffers(model)
    loss, guesses = gradients(model, batches, config, weights, group, save_memory=save_memory)
    optimizer.step()
    return loss, guesses


def gradients(
    model: nn.Module,
    batches: Sequence[Batch],
    config: RunConfig,
    weights: Tensor | None = None,
    group: Group = ALONE,
    *,
    save_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of the mean loss over the images to the parameters; returns the plain
    cross-entropy (see :func:`train_step`) and the predicted classes. Integer labels; the loss in
    float32, or float64 for such a model."""
    labels = torch.cat([y for _, y in batches])
    total, start = len(labels), 0
    losses, guesses = [], torch.zeros_like(labels)
    for x, y in batches:
        own = group.launch.share(len(y))
        known, place = y[own], slice(start + own.start, start + own.stop)
        start += len(y)
        if not len(known) and not waits_for_others(model, config):
            continue  # otherwise the others wait for it in every layer
        saving = saving_memory() if save_memory else nullcontext()
        with division_of(len(y), config, group), saving:
            loss, logits = forward(model, x, known, config, weights)
            (loss * (len(known) / total)).backward()  # type: ignore[no-untyped-call]
        if len(known):
            plain = _plain(loss.detach(), logits.detach(), known, config)
            losses.append(plain * (len(known) / total))
            guesses[place] = logits.detach().argmax(1)
    mean = torch.stack(losses).sum() if losses else guesses.new_zeros((), dtype=torch.float32)
    return group.add_up(list(model.parameters()), mean, guesses)


def division_of(images: int, config: RunConfig, group: Group) -> AbstractContextManager[None]:
    """Within it layers know how the processes divide a batch of so many images: all layers where
    statistics are synchronized, else those that always synchronize."""
    return pooled_over(group.divided(images), by_all=config.statistics == "synchronized")


def waits_for_others(model: nn.Module, config: RunConfig) -> bool:
    """Whether a process whose part of a batch has no image must go through the network with it,
    because layers add up what all processes have."""
    return config.statistics == "synchronized" or any(
        isinstance(module, BatchStatistics) and module.always_synchronized
        for module in model.modules()
    )


def _plain(loss: Tensor, logits: Tensor, y: Tensor, config: RunConfig) -> Tensor:
    """The cross-entropy without smoothing and weights; the loss itself where it is not finite, for
    that is what ended the run."""
    if not config.label_smoothing and config.balance != "loss":
        return loss
    return torch.where(loss.isfinite(), F.cross_entropy(logits, y), loss)


def forward(
    model: nn.Module, x: Tensor, y: Tensor, config: RunConfig, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean loss of a batch, and its logits.

    With ``weights`` the loss of an image counts as its class does. The sum is divided by the number
    of images, not by their weights: those of a batch depend on which images it has.
    """
    with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        logits = model(x)
    if logits.dtype != torch.float64:
        logits = logits.float()
    smoothing = config.label_smoothing
    if weights is None:
        return F.cross_entropy(logits, y, label_smoothing=smoothing), logits
    each = F.cross_entropy(logits, y, label_smoothing=smoothing, reduction="none")
    return (each * weights[y].to(each.dtype)).mean(), logits
