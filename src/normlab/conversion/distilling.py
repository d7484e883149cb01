"""A converted network taught to answer as the original does, on images without labels.

With a an output of the original, (N, K, ...), and b the converted network's, this lowers the
distance ::

    d(a, b) = mean((b - a)^2) / v + mean over n of sum over k of p log(p / q)

where v is the variance of each element of a over the images, averaged over the elements, and p and
q are the softmax of a and b over k. The first term is for outputs of any kind. The second is for
logits (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", at temperature
1). An output without an axis k, or with one element there, has no second term. With several
outputs, the distance is the mean of theirs.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError, told
from ..keyed import rng
from ..models import like
from .outputs import tensors

STEPS = 200
BATCH = 32
"""Images per step, or all if there are fewer."""
RATE, RATE_OF_OTHERS = 0.05, 0.02
"""Adam's highest rate for new layers and for all others, as a share of the root mean square of a
module's parameters. It rises over the first tenth of the steps and falls to 0 along half a cosine.
"""
_WARM = 0.1
_BETAS = (0.9, 0.99)
_AFFINE = ("weight", "bias")


def distil(
    original: nn.Module,
    converted: nn.Module,
    layers: Sequence[nn.Module],
    x: Tensor,
    *,
    everything: bool,
    batch_size: int,
) -> tuple[float, float]:
    """Set weight and bias of new layers so that the outputs come closer to the original's.

    :data:`STEPS` steps of Adam, each on :data:`BATCH` images, whose order is drawn from a key. All
    modules are in evaluation mode, so that nothing is dropped and no statistics change. A copy is
    trained, in 32 bits or more. The network gets what the copy has learned, rounded to its own
    types, if that lowers the distance over all images. Otherwise it stays as it is.

    Args:
        original: what to imitate.
        converted: the network to teach.
        layers: its new layers.
        x: images (N, C, H, W).
        everything: also train the other parameters that require gradients.
        batch_size: at most this many images per pass.

    Returns:
        the distance over all images, before and after.

    Raises:
        InputError: the network fails, has no output with an entry for each image, or its outputs
            cannot be differentiated.
    """
    try:
        with torch.inference_mode(False):
            student = _wide(converted)
            taught = list(_to_teach(converted, student, layers, everything=everything))
            for parameter in student.parameters():
                parameter.requires_grad_(False)
            for one in taught:
                one.trained.requires_grad_(True)
            distance = _Distance(_wide(original), x, batch_size)
            before = distance.over_all(student)
            _train(student, taught, distance)
            with torch.no_grad():
                for one in taught:
                    one.trained.copy_(one.trained.to(one.target.dtype))
            after = distance.over_all(student)
    except InputError:
        raise
    except Exception as error:  # the code of a network may do anything
        raise _impossible(told(error)) from error
    if not after < before:  # also where it is not a number
        return before, before
    with torch.no_grad():
        for one in taught:
            one.target.copy_(one.trained)
    return before, after


@dataclass(frozen=True)
class _Taught:
    """A tensor of the network, its twin in the copy, and the highest rate."""

    target: Tensor
    trained: Tensor
    rate: float


class _Distance:
    """How far a network's outputs are from those of the original, which is run once."""

    def __init__(self, original: nn.Module, x: Tensor, batch_size: int) -> None:
        self.x, self.batch_size = x, batch_size
        with torch.no_grad():
            batches = [_answers(original, batch) for batch in torch.split(x, batch_size)]
            self.wanted = [torch.cat(parts) for parts in zip(*batches, strict=True)]
            spreads = [one.var(0, correction=0).mean() for one in self.wanted]
        if not self.wanted:
            raise _impossible("it gives no tensor with an entry for each image")
        self.spreads = [torch.where(one > 0, one, 1) for one in spreads]

    def __call__(self, model: nn.Module, rows: Tensor) -> Tensor:
        """Of these images."""
        answers = _answers(model, self.x[rows])
        found = []
        for whole, b, spread in zip(self.wanted, answers, self.spreads, strict=True):
            a = whole[rows.to(whole.device)]
            one = (b - a).square().mean() / spread
            if a.dim() > 1 and a.shape[1] > 1:
                p, q = a.log_softmax(1), b.log_softmax(1)
                one = one + F.kl_div(q, p, reduction="none", log_target=True).sum(1).mean()
            found.append(one)
        return torch.stack(found).mean()

    @torch.no_grad()
    def over_all(self, model: nn.Module) -> float:
        rows = torch.split(torch.arange(len(self.x)), self.batch_size)
        return sum(float(self(model, some)) * len(some) for some in rows) / len(self.x)


def _train(student: nn.Module, taught: Sequence[_Taught], distance: _Distance) -> None:
    adam = torch.optim.Adam([{"params": [one.trained]} for one in taught], betas=_BETAS)
    count = len(distance.x)
    for step, rows in enumerate(_rows(count, min(BATCH, distance.batch_size, count))):
        share = _share((step + 1) / (STEPS + 1))
        for group, one in zip(adam.param_groups, taught, strict=True):
            group["lr"] = one.rate * share
        with torch.enable_grad():
            loss = distance(student, rows)
        if not loss.requires_grad:
            raise _impossible("its outputs cannot be differentiated by what is to be set")
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()


def _share(at: float) -> float:
    """Of the highest rate, at a time from 0 to 1."""
    return min(at / _WARM, (1 + math.cos(math.pi * (at - _WARM) / (1 - _WARM))) / 2)


def _rows(count: int, batch: int) -> Iterator[Tensor]:
    """Which images each step takes: one permutation of all after another, without a gap."""
    ahead = np.empty(0, dtype=np.int64)
    epoch = 0
    for _ in range(STEPS):
        while len(ahead) < batch:
            ahead = np.append(ahead, rng("distilling", epoch).permutation(count))
            epoch += 1
        yield torch.from_numpy(ahead[:batch])
        ahead = ahead[batch:]


def _to_teach(
    network: nn.Module, student: nn.Module, layers: Sequence[nn.Module], *, everything: bool
) -> Iterator[_Taught]:
    new = {id(layer) for layer in layers}
    seen: set[int] = set()
    for module, twin in zip(network.modules(), student.modules(), strict=True):
        names: Sequence[str] = ()
        rate = RATE_OF_OTHERS
        if id(module) in new:
            names, rate = _AFFINE, RATE
        elif everything:
            # What an optimizer must treat in another way is not for this one.
            needs = getattr(module, "optimizer_needs", {})
            names = [
                name
                for name, tensor in module._parameters.items()
                if tensor is not None
                and tensor.requires_grad
                and tensor.is_floating_point()
                and name not in needs
            ]
        for name in names:
            target = getattr(module, name)
            if id(target) not in seen:
                seen.add(id(target))
                yield _Taught(target, getattr(twin, name), rate * _scale(twin))


@torch.no_grad()
def _scale(module: nn.Module) -> float:
    """The root mean square of weight, bias and whatever parameters a module has; 1 if it is 0."""
    own = [*module._parameters.values(), *(module._buffers.get(name) for name in _AFFINE)]
    values = torch.cat([one.detach().flatten() for one in own if one is not None])
    return float(values.square().mean().sqrt()) or 1.0


def _wide(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, in 32 bits if anything in it has fewer."""
    made = copy.deepcopy(model)
    for module in made.modules():
        module.training = False
    own = itertools.chain(made.parameters(), made.buffers())
    kinds = {one.dtype for one in own if one.is_floating_point()}
    return made.float() if any(torch.finfo(kind).bits < 32 for kind in kinds) else made


def _answers(model: nn.Module, batch: Tensor) -> list[Tensor]:
    """Those tensors in the output that have an entry for each image, in 32 bits or more."""
    found = tensors(model(batch.to(*like(model, model))))
    wide = (one if one.dtype == torch.float64 else one.float() for one in found)
    return [one for one in wide if one.dim() and len(one) == len(batch)]


def _impossible(reason: str) -> InputError:
    return InputError(
        f"The network cannot be taught to answer as the original does: {reason}. "
        "Choose how='matched'."
    )
