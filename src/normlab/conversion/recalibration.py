"""Statistics of normalization layers computed again, with the weights as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models import modes_kept
from ..norms import BatchRenorm2d, InstanceBatchNorm2d
from ..pages.words import counted

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Recalibration:
    """What :func:`recalibrate` did.

    Attributes:
        layers: paths of the layers that have new statistics.
        unreached: paths of layers that these images do not pass, which are as they were.
        batches, images: how many were given.
    """

    layers: tuple[str, ...]
    unreached: tuple[str, ...]
    batches: int
    images: int

    def __str__(self) -> str:
        has = "has" if len(self.layers) == 1 else "have"
        said = (
            f"{counted(len(self.layers), 'layer')} {has} statistics of "
            f"{counted(self.images, 'image')} in {counted(self.batches, 'batch', 'batches')}."
        )
        if self.unreached:
            said += f" No image passes {', '.join(self.unreached)}: unchanged."
        return said


def recalibrate(model: nn.Module, batches: Iterable[Tensor | Sequence[Tensor]]) -> Recalibration:
    """Give every layer its precise running statistics: those of all images, the weights fixed.

    Running averages weigh the last few batches of training most, when weights were still changing.
    This replaces them, in place. With n_i values of a channel in batch i, their mean m_i and biased
    variance v_i, all in float64::

        mean = sum(n_i * m_i) / sum(n_i)
        var  = sum(n_i * (v_i + (m_i - mean)**2)) / sum(n_i)

    Layers with running statistics are in training mode meanwhile, so each sees what those before
    it give when they normalize by the batch, and one pass gives the statistics of all layers. All
    other modules are in evaluation mode: nothing is dropped out. Batch renormalization does not
    correct, as its correction would depend on the statistics that are replaced.

    It takes every layer that has a method ``reset_running_stats`` and statistics that are not None:
    PyTorch's, those of this package and your own. Where a layer keeps something else than mean and
    variance of each channel, it gets that: the variance over all channels (extended batch
    normalization), the statistics of the second half of the channels (IBN-a), the means over all
    images of each image's mean and unbiased variance (instance normalization that tracks).
    ``num_batches_tracked`` becomes the number of batches.

    Modes, hooks, momentum, parameters, gradients and ``requires_grad`` are as before, also after an
    error, and then statistics are too.

    >>> layer = nn.BatchNorm2d(1)
    >>> recalibrate(layer, [torch.zeros(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0)]).images
    4
    >>> layer.running_mean.item(), layer.running_var.item()
    (1.0, 1.0)

    Source: Wu & Johnson 2021, "Rethinking Batch in BatchNorm", section 3 (PreciseBN). Departures:
    the paper, and most code, averages the variances of batches, or the mean squares.

    Args:
        model: any network. It is called with one batch.
        batches: batches of images, or sequences that begin with one, as of a loader that gives
            labels too. They are moved to the device of the model. Batches should be mixed (not one
            class after another) and large; thousands of images are enough.

    Raises:
        InputError: no layer with running statistics, no batches, a layer whose statistics are of an
            unknown kind, or statistics that are not finite.
    """
    layers = _layers(model)
    if not layers:
        raise InputError(
            f"{type(model).__name__} has no layer with running statistics, so there is nothing to "
            "recalibrate."
        )
    found = {name: _Moments(name, layer) for name, layer in layers.items()}
    count = images = 0
    device = next((t.device for t in [*model.parameters(), *model.buffers()]), None)
    with torch.no_grad(), _measuring(model, layers, found):
        for batch in batches:
            x = batch if isinstance(batch, Tensor) else batch[0]
            model(x.to(device))
            count, images = count + 1, images + len(x)
    if not count:
        raise InputError("There are no batches to recalibrate on.")
    reached = {name: moments for name, moments in found.items() if moments.count}
    new = {name: moments.statistics() for name, moments in reached.items()}
    for name, values in new.items():
        if not all(bool(value.isfinite().all()) for value in values.values()):
            raise InputError(
                f"The statistics of {name} are not finite: these images make values there that "
                "are infinite, no numbers, or too large for its buffers. Nothing was changed."
            )
    with torch.no_grad():
        for name, values in new.items():
            layer = layers[name]
            for kind, value in values.items():
                getattr(layer, kind).copy_(value)
            tracked = getattr(layer, "num_batches_tracked", None)
            if tracked is not None:
                tracked.fill_(count)
    unreached = tuple(name for name in layers if name not in reached)
    return Recalibration(tuple(reached), unreached, count, images)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: layer
        for name, layer in model.named_modules()
        if callable(getattr(layer, "reset_running_stats", None))
        and any(getattr(layer, kind, None) is not None for kind in _STATISTICS)
    }


@dataclass
class _Moments:
    """Of what a layer is given, merged batch by batch in float64."""

    name: str
    layer: nn.Module
    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Sum of squared distances from the mean."""

    def __call__(
        self, layer: nn.Module, given: tuple[Tensor, ...], named: Mapping[str, Tensor]
    ) -> None:
        x = (given[0] if given else next(iter(named.values()))).detach().double()
        if not x.numel():
            return
        over = [axis for axis in range(x.dim()) if axis != 1]
        if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
            # Each image counts once, with a variance of its own: no spread between images.
            if x.dim() == layer._get_no_batch_dim():  # type: ignore[no-untyped-call]
                x = x.unsqueeze(0)
            inner = x.reshape(*x.shape[:2], -1)
            self._merge(len(x), inner.mean(2).mean(0), inner.var(2).sum(0), apart=0.0)
        else:
            mean = x.mean(over)
            shape = [1, -1, *(1 for _ in over[1:])]
            squares = (x - mean.view(shape)).square().sum(over)
            self._merge(x.numel() // x.shape[1], mean, squares)

    def _merge(self, count: int, mean: Tensor, squares: Tensor, apart: float = 1.0) -> None:
        if not self.count:
            self.count, self.mean, self.squares = count, mean, squares
            return
        whole = self.count + count
        step = mean - self.mean
        self.squares = self.squares + squares + apart * step.square() * (self.count * count / whole)
        self.mean = self.mean + step * (count / whole)
        self.count = whole

    def statistics(self) -> dict[str, Tensor]:
        """What the layer keeps of this."""
        found = {"running_mean": self.mean, "running_var": self.squares / self.count}
        wanted = {
            kind: buffer
            for kind in _STATISTICS
            if (buffer := getattr(self.layer, kind, None)) is not None
        }
        for kind, buffer in wanted.items():
            value = found[kind]
            if kind == "running_var" and buffer.numel() == 1 and value.numel() > 1:
                value = (value + (self.mean - self.mean.mean()).square()).mean().view(1)
            if isinstance(self.layer, InstanceBatchNorm2d):
                value = value[-buffer.numel() :]
            if value.shape != buffer.shape:
                raise InputError(
                    f"{self.name} ({type(self.layer).__name__}) keeps {kind} of shape "
                    f"{tuple(buffer.shape)}, but its input has {value.numel()} channels. Such a "
                    "layer cannot be recalibrated. Nothing was changed."
                )
            found[kind] = value.to(buffer.dtype)
        return {kind: found[kind] for kind in wanted}


@contextmanager
def _measuring(
    model: nn.Module, layers: dict[str, nn.Module], found: dict[str, _Moments]
) -> Iterator[None]:
    """Layers normalize by the batch and say what they are given; all is put back afterwards."""
    before = [
        (buffer, buffer.clone())
        for layer in layers.values()
        for buffer in layer.buffers(recurse=False)
    ]
    undo: list[Callable[[], None]] = []
    training = set(map(id, layers.values()))
    try:
        with modes_kept(model):
            for name, layer in layers.items():
                undo.append(layer.register_forward_pre_hook(found[name], with_kwargs=True).remove)
            for module in model.modules():
                module.training = id(module) in training
                if isinstance(module, BatchRenorm2d):
                    undo.append(_set(module, "r_max", 1.0))
                    undo.append(_set(module, "d_max", 0.0))
            yield
    finally:
        for back in undo:
            back()
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _set(module: nn.Module, name: str, value: float) -> Callable[[], None]:
    """Set an attribute; what this returns puts it back."""
    earlier = getattr(module, name)
    setattr(module, name, value)
    return lambda: setattr(module, name, earlier)
