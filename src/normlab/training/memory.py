"""What a training step takes of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..norms.recompute import saving_memory


def kept_for_backward(
    model: nn.Module, loss: Callable[[], Tensor], *, save_memory: bool = False
) -> int:
    """Bytes that autograd keeps between the forward and the backward pass of one batch.

    Every storage that an operation or an ``autograd.Function`` saves counts once, in whole, however
    many operations save it and however small the part they saved: that is what stays allocated.
    Parameters and buffers do not count, since they are there anyway; the batch does where an
    operation saves it.

    The forward pass is made for this alone and leaves nothing behind: buffers and random state are
    put back, and there is no backward pass.

    Args:
        model: in training mode.
        loss: makes the forward pass and returns what ``backward`` would be called on.
        save_memory: whether what backward can compute again is left out
            (:func:`normlab.norms.recompute.saving_memory`).
    """
    own = {
        tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())
    }
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        # Held until the end: a storage freed meanwhile could give its address to another.
        alias = tensor.detach()
        kept.setdefault(alias.untyped_storage().data_ptr(), alias)
        return alias

    devices = sorted({p.get_device() for p in model.parameters() if p.is_cuda})
    with (
        torch.random.fork_rng(devices=devices),
        _buffers_put_back(model),
        saving_memory(pack)
        if save_memory
        else torch.autograd.graph.saved_tensors_hooks(pack, lambda alias: alias),
        torch.enable_grad(),
    ):
        loss()
    return sum(
        alias.untyped_storage().nbytes() for place, alias in kept.items() if place not in own
    )


@contextmanager
def peak_on(device: str) -> Iterator[Callable[[], int | None]]:
    """The most memory that tensors of this process held on the device while the context is open.

    Yields what tells it, in bytes: ``torch.cuda.max_memory_allocated``; None on a CPU, where
    nothing counts it. Everything that the process has there is in it: images, weights, optimizer.
    """
    if torch.device(device).type != "cuda":
        yield lambda: None
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield lambda: int(torch.cuda.max_memory_allocated(device))


@contextmanager
def _buffers_put_back(model: nn.Module) -> Iterator[None]:
    """A layer may write into a buffer, or put another tensor into its place."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values in before:
                buffer.copy_(values)
                module._buffers[name] = buffer
