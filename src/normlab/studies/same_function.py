"""Are two layers the same function? Trained in float64, every step from the same weights.

Training amplifies rounding: curves of two right layers part within tens of steps in float32, and
in float64 within some hundred. So curves cannot tell a bug from noise, and neither can weights
after a long way side by side. Here the arm is put back to the reference's weights, buffers and
momentum before every step: what differs then is what one step made, and above ``BOUND`` it is a
difference of the functions.

All differences are the largest absolute difference of a quantity, divided by its largest value in
the reference where that is above 1.

The cost is bounded by that of the runs: no more steps than a run has, of which the first few are on
whole batches and the rest on small ones. Faults of a formula show in the first step; the later ones
are for what a layer keeps from step to step, and any batch shows that.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import __version__
from ..data import Augmentation, DataSet, DeviceSplit
from ..runs import RunConfig, identity
from ..runs.same_function import BOUND, Largest, SameFunction
from ..runs.schema import QUANTITIES
from ..training import build, code_of_run, train_mode
from ..training.control import controlled
from ..training.following import Following
from ..training.network import WIDTH, layer_at_a_site
from ..training.optimizer import LayerAwareOptimizer
from ..training.schedule import highest_rate
from ..training.step import gradients
from .low_precision import errors_in_bfloat16

STEPS = 200
"""Most steps; a study whose runs have fewer updates gets as many as they have."""
FEWEST = 10
WHOLE = 2
"""Steps on whole batches; the others are on the first ``SMALL`` images of a batch."""
SMALL = 8
WARMUP = 20
"""Steps in which the learning rate rises to the arm's highest, where it then stays: a schedule
that ends before the last step would let nothing differ any more."""
ROUNDED = 1e-12
"""A mean of the output above this share (and below a thousandth) is rounding in float32."""
EVALUATED = 32
"""Validation images whose logits are compared: after steps on whole batches so many, then
``SMALL``."""
EVERY = 10
"""After the warm-up logits are compared every so many steps; buffers always are."""
REVISION = 2
"""Raised whenever the check may find what it did not find before, so that it is asked again."""
Values = dict[str, dict[str, Tensor]]


def compare_functions(
    reference: tuple[str, RunConfig],
    arm: tuple[str, RunConfig],
    data: DataSet,
    *,
    steps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SameFunction:
    """Train two arms, every step from the same weights on the same batch, and compare them.

    After every step, in float64: loss, gradients, weights, floating-point buffers, and (see
    ``EVERY``) the logits of validation images in evaluation mode. After one step in float32, the
    same. The learning rate is the reference's highest, after ``WARMUP`` steps; autocast is off.
    Where the study trains in bfloat16, the layers are compared in it too, site by site
    (:mod:`.low_precision`).

    Args:
        reference, arm: name and configuration; they should differ in ``norm`` alone.
        data: whose training images make the batches.
        steps: updates; None, as :func:`steps_for` says.
        progress: called with the steps done and their number.
    """
    steps = steps_for(reference[1], data) if steps is None else steps
    with controlled(reference[1], arm[1]):
        return _compare_functions(reference, arm, data, steps, progress)


def steps_for(config: RunConfig, data: DataSet) -> int:
    """As many steps as a run has updates, within bounds."""
    updates = config.epochs * config.updates_per_epoch(len(data.splits["train"]))
    return min(STEPS, max(FEWEST, updates))


def _compare_functions(
    reference: tuple[str, RunConfig],
    arm: tuple[str, RunConfig],
    data: DataSet,
    steps: int,
    progress: Callable[[int, int], None] | None,
) -> SameFunction:
    names = reference[0], arm[0]
    plain = [replace(config, precision="float32") for _, config in (reference, arm)]
    pair = (plain[0], plain[1])
    coarse = False
    try:
        coarse = _coarse(arm[1])
        largest, done, diverged, mismatch = _in_float64(pair, data, steps, progress)
        float32 = {} if mismatch else _in_float32(pair, data)
        trained = {}
        if not mismatch and reference[1].precision == "bfloat16":
            trained = errors_in_bfloat16(pair, data)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return SameFunction(*names, 0, {}, {}, f"running them failed ({reason})")
    return SameFunction(*names, done, largest, float32, mismatch, diverged, coarse, trained)


def _in_float64(
    pair: tuple[RunConfig, RunConfig],
    data: DataSet,
    steps: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Largest], int, bool, str]:
    """Largest differences, updates made, whether the reference diverged, and why nothing could be
    compared."""
    largest: dict[str, Largest] = {}
    for step, (ours, theirs) in enumerate(_walk(pair, data, torch.float64, steps)):
        if step == 0:
            mismatch = _mismatch(ours, theirs)
            if mismatch:
                return {}, 0, False, mismatch
        if not _finite_values(ours):
            return largest, step - 1, True, ""
        _widen(largest, step, theirs, ours)
        if progress:
            progress(step, steps)
        if step >= steps:
            break
    return largest, steps, False, ""


def _in_float32(pair: tuple[RunConfig, RunConfig], data: DataSet) -> dict[str, float]:
    walk = _walk(pair, data, torch.float32)
    next(walk)
    ours, theirs = next(walk)
    return {
        quantity: max(found.values())
        for quantity in QUANTITIES
        if all(bool(t.isfinite().all()) for t in ours[quantity].values())
        and (found := _differences(theirs[quantity], ours[quantity]))
    }


def _coarse(config: RunConfig) -> bool:
    """Whether the layer rounds to less than float64 inside. What it puts out has mean 0 over
    everything, whatever it normalizes over; statistics in float32 leave 1e-9 and more."""
    layer = layer_at_a_site(config).double().train()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(EVALUATED, WIDTH, 8, 8, generator=generator, dtype=torch.float64) + 0.1
    y = layer(x).detach()
    if y.dtype != torch.float64:
        raise TypeError(f"{config.norm} gives {y.dtype} for float64 input")
    share = float(y.mean().abs() / y.abs().max())
    return ROUNDED < share < 1e-3


def question(reference: RunConfig, arm: RunConfig, data: DataSet) -> str:
    """A hash of all that the answer depends on: both runs with the code of their layers, the data,
    and this package."""
    parts = [__version__, str(REVISION)]
    for config in (reference, arm):
        parts.append(identity(config, data.fingerprint, code_of_run(config)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _walk(
    pair: tuple[RunConfig, RunConfig], data: DataSet, dtype: torch.dtype, run: int = 0
) -> Iterator[tuple[Values, Values]]:
    """Both models' values before the first step, then after each, without end.

    Attributes that follow a run go through one of so many updates; with none they stay what they
    are at its end."""
    config = pair[0]
    built = [build(each, data) for each in pair]
    models = [one.model.to(dtype) for one in built]
    _copy(models[0], models[1])
    optimizers = [
        LayerAwareOptimizer(one.model, each, one.classifier)
        for one, each in zip(built, pair, strict=True)
    ]
    followings = [Following(model) for model in models]
    split = DeviceSplit(data, "train", config.device)
    val = DeviceSplit(data, "val", config.device)
    held, _ = val.batch(range(min(EVALUATED, len(val))))
    held = held.to(dtype)
    few = SMALL if all(_takes(model, held[:SMALL]) for model in models) else config.batch_size
    a, b = (_values(model, held, None) for model in models)
    yield a, b
    step = 0
    for epoch in itertools.count(1):
        batches = split.epoch(
            config.batch_size, config.seed, epoch, Augmentation(config.crop_pad, config.flip)
        )
        while group := list(itertools.islice(batches, config.accumulate)):
            seen = held
            if step >= WHOLE:
                group = [(x[:few], y[:few]) for x, y in group[:1]]
                seen = held[:SMALL] if step < WARMUP or (step + 1) % EVERY == 0 else held[:0]
            group = [(x.to(dtype), y) for x, y in group]
            _copy(models[0], models[1])
            _copy_state(models[0], models[1], optimizers[0].inner, optimizers[1].inner)
            found = []
            for model, optimizer, following in zip(models, optimizers, followings, strict=True):
                train_mode(model)
                if run:
                    following.before_update(min(step, run), run)
                optimizer.set_lr(highest_rate(config) * min(1.0, (step + 1) / WARMUP))
                loss, _ = gradients(model, group, config)
                kept = {
                    name: p.grad.clone()
                    for name, p in model.named_parameters()
                    if p.grad is not None
                }
                optimizer.step()
                following.in_evaluation()
                reference = models[0] if dtype is torch.float32 else None
                found.append(_values(model, seen, (loss, kept), reference))
            step += 1
            yield found[0], found[1]


@torch.no_grad()
def _values(
    model: nn.Module,
    held: Tensor,
    trained: tuple[Tensor, dict[str, Tensor]] | None,
    state_of: nn.Module | None = None,
) -> Values:
    """Loss, gradients, weights, buffers, and the logits of ``held``; these with the weights and
    buffers of ``state_of`` where it is given.

    In float32 rounding moves weights by more than the bound of logits allows, so logits are
    compared from the same weights there."""
    model.eval()
    loss, grads = trained or (None, {})
    found = {
        "loss": {} if loss is None else {"loss": loss},
        "gradients": grads,
        "weights": {name: p.detach().clone() for name, p in model.named_parameters()},
        "buffers": {
            name: b.detach().clone() for name, b in model.named_buffers() if b.is_floating_point()
        },
    }
    if state_of is not None:
        _copy(state_of, model)
    return {**found, "evaluation logits": {"logits": model(held)} if len(held) else {}}


def _takes(model: nn.Module, x: Tensor) -> bool:
    """Whether the model trains on a batch of this size; some layers ask for a larger one."""
    again = copy.deepcopy(model).train()
    try:
        again(x)
    except (RuntimeError, TypeError, ValueError):
        return False
    return True


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module) -> None:
    """Parameters and buffers of the same name and shape."""
    theirs = {**dict(target.named_parameters()), **dict(target.named_buffers())}
    for name, tensor in (*source.named_parameters(), *source.named_buffers()):
        if name in theirs and theirs[name].shape == tensor.shape:
            theirs[name].copy_(tensor)


def _copy_state(
    source: nn.Module,
    target: nn.Module,
    state: torch.optim.Optimizer,
    into: torch.optim.Optimizer,
) -> None:
    """The optimizer's memory, by the names of the parameters."""
    theirs = dict(target.named_parameters())
    for name, parameter in source.named_parameters():
        into.state[theirs[name]] = {
            key: value.clone() if isinstance(value, Tensor) else value
            for key, value in state.state.get(parameter, {}).items()
        }


def _mismatch(ours: Values, theirs: Values) -> str:
    """Parameters that one has and the other has not; buffers may differ in name."""
    one = {name: tuple(t.shape) for name, t in ours["weights"].items()}
    two = {name: tuple(t.shape) for name, t in theirs["weights"].items()}
    apart = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    if not apart:
        return ""
    name = apart[0]
    more = f" (and {len(apart) - 1} more)" if len(apart) > 1 else ""
    return (
        f"their parameters differ: {name} is {_shape(one.get(name))} in the reference and "
        f"{_shape(two.get(name))} in the other{more}"
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "a number"


def _widen(largest: dict[str, Largest], step: int, theirs: Values, ours: Values) -> None:
    for quantity in QUANTITIES:
        for name, difference in _differences(theirs[quantity], ours[quantity]).items():
            old = largest.get(quantity)
            first = old.first_over if old else None
            if first is None and not difference <= BOUND:
                first = step
            if old is None or not difference <= old.difference:
                largest[quantity] = Largest(difference, name, step, first)
            elif first != old.first_over:
                largest[quantity] = Largest(old.difference, old.where, old.step, first)


def _differences(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, float]:
    """Of the tensors that both have."""
    scale = max([1.0, *(peak for t in ours.values() if math.isfinite(peak := _peak(t)))])
    return {name: _peak(t - ours[name]) / scale for name, t in theirs.items() if name in ours}


def _finite_values(values: Values) -> bool:
    return all(bool(t.isfinite().all()) for kind in values.values() for t in kind.values())


def _peak(tensor: Tensor) -> float:
    """The largest magnitude; infinite if a value is NaN."""
    if tensor.numel() == 0:
        return 0.0
    peak = float(tensor.abs().max())
    return math.inf if math.isnan(peak) else peak
