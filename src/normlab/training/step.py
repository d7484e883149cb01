"""One update of the weights, from the images of one or several batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms.recompute import saving_memory
from ..runs import RunConfig
from .optimizer import LayerAwareOptimizer

Batch = tuple[Tensor, Tensor]
"""Images (k, C, H, W) and labels (k,)."""


def train_step(
    model: nn.Module,
    optimizer: LayerAwareOptimizer,
    batches: Sequence[Batch],
    config: RunConfig,
    weights: Tensor | None = None,
    *,
    save_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    """One update from the images of all ``batches``, each of which goes forward by itself.

    Returns the detached mean cross-entropy over the images and the predicted classes. ``weights``
    (K,): what an image of each class counts in the loss; None, all alike. What is returned has
    neither weights nor label smoothing, so that it can be compared with validation.
    ``save_memory``: what backward can compute again is not kept for it; the bits are the same.
    """
    loss, guesses = gradients(model, batches, config, weights, save_memory=save_memory)
    optimizer.step()
    return loss, guesses


def gradients(
    model: nn.Module,
    batches: Sequence[Batch],
    config: RunConfig,
    weights: Tensor | None = None,
    *,
    save_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    """Add the gradient of the mean loss over the images to the parameters; returns the plain
    cross-entropy (see :func:`train_step`) and the predicted classes. Integer labels; the loss in
    float32, or float64 for such a model."""
    total = sum(len(y) for _, y in batches)
    losses, guesses = [], []
    for x, y in batches:
        with saving_memory() if save_memory else nullcontext():
            loss, logits = forward(model, x, y, config, weights)
            (loss * (len(y) / total)).backward()  # type: ignore[no-untyped-call]
        losses.append(_plain(loss.detach(), logits.detach(), y, config) * (len(y) / total))
        guesses.append(logits.detach().argmax(1))
    return torch.stack(losses).sum(), torch.cat(guesses)


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
