"""Are two layers the same function? Trained side by side in float64 from the same weights.

Curves of two correct layers part within tens of steps in float32, because training amplifies
rounding; so curves cannot tell a bug from noise. In float64 the same amplification starts nine
digits lower, and a difference above ``BOUND`` is a difference of the functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Augmentation, DataSet, DeviceSplit
from ..files import read_json, write_json
from ..training import RunConfig, build
from ..training.optimizer import LayerAwareOptimizer
from ..training.run import controlled, gradients
from ..training.schedule import learning_rate

STEPS = 200
BOUND = 1e-8
"""Largest difference in float64 that rounding explains."""
BOUND_FLOAT32 = 1e-4
"""Likewise after one step in float32, as a share of the quantity's largest value (at least 1)."""
EVALUATED = 64
"""Validation images whose logits are compared after every step."""
QUANTITIES = ("loss", "gradients", "weights", "buffers", "evaluation logits")

Values = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Largest:
    """The largest absolute difference of a quantity, where it was, and when it first passed the
    bound (0: before the first step; None: never)."""

    difference: float
    where: str
    step: int
    first_over: int | None


@dataclass(frozen=True)
class SameFunction:
    """What the comparison of an arm with the reference found.

    Attributes:
        reference, arm: the two.
        steps: updates made side by side in float64.
        largest: quantity to its largest difference over all steps.
        float32: quantity to the largest difference after one step in float32, relative to the
            quantity's largest value (at least 1).
        mismatch: why the two cannot even be started from the same weights, or "".
    """

    reference: str
    arm: str
    steps: int
    largest: Mapping[str, Largest]
    float32: Mapping[str, float]
    mismatch: str

    @property
    def differing(self) -> list[str]:
        """The quantities that differ by more than rounding, those that differ first before."""
        over = [name for name in self.largest if self.largest[name].first_over is not None]
        over.sort(key=lambda name: self.largest[name].first_over or 0)
        return over

    @property
    def differing_float32(self) -> list[str]:
        """The quantities that differ in float32 after one step."""
        return [name for name, value in self.float32.items() if not value <= BOUND_FLOAT32]

    @property
    def same(self) -> bool:
        """Whether nothing but rounding was found."""
        return not (self.mismatch or self.differing or self.differing_float32)


def compare_functions(
    reference: tuple[str, RunConfig],
    arm: tuple[str, RunConfig],
    data: DataSet,
    *,
    steps: int = STEPS,
    progress: Callable[[int, int], None] | None = None,
) -> SameFunction:
    """Train two arms side by side from the same weights on the same batches and compare them.

    After every update, in float64: loss, gradients, weights, buffers, and the logits of validation
    images in evaluation mode. After one update, in float32, the same.

    Args:
        reference, arm: name and configuration; they should differ in ``norm`` alone.
        data: whose training images make the batches.
        steps: updates.
        progress: called with the steps done and their number.
    """
    with controlled(reference[1]):
        return _compare_functions(reference, arm, data, steps, progress)


def _compare_functions(
    reference: tuple[str, RunConfig],
    arm: tuple[str, RunConfig],
    data: DataSet,
    steps: int,
    progress: Callable[[int, int], None] | None,
) -> SameFunction:
    names = reference[0], arm[0]
    pair = (reference[1], arm[1])
    largest: dict[str, Largest] = {}
    walks = _walk(pair, data, torch.float64)
    first = next(walks)
    mismatch = _mismatch(*first)
    if mismatch:
        return SameFunction(*names, 0, {}, {}, mismatch)
    done = 0
    for step, (ours, theirs) in enumerate(itertools.chain([first], walks)):
        _widen(largest, step, theirs, ours)
        done = step
        if progress:
            progress(step, steps)
        if step >= steps:
            break
    small = _walk(pair, data, torch.float32)
    next(small)
    ours, theirs = next(small)
    float32 = {}
    for quantity in QUANTITIES:
        scale = max([1.0, *(_peak(t) for t in ours[quantity].values())])
        found = [_peak(t - ours[quantity][k]) for k, t in theirs[quantity].items()
                 if k in ours[quantity]]  # fmt: skip
        float32[quantity] = max(found, default=0.0) / scale
    return SameFunction(*names, done, largest, float32, "")


def write_same_function(study: Path, found: SameFunction) -> None:
    """Keep it in the study's folder."""
    write_json(_place(study, found.arm), _finite(asdict(found)))


def made(study: Path, reference: str, arm: str) -> bool:
    """Whether this very pair was compared."""
    found = read_same_function(study, arm)
    return found is not None and found.reference == reference


def read_same_function(study: Path, arm: str) -> SameFunction | None:
    """Read it back; None if it was never asked."""
    path = _place(study, arm)
    if not path.is_file():
        return None
    content = read_json(path)
    largest = {name: Largest(**_floats(value)) for name, value in content["largest"].items()}
    return SameFunction(**{**content, "largest": largest, "float32": _floats(content["float32"])})


def _place(study: Path, arm: str) -> Path:
    return study / "checks" / "same-function" / f"{arm.replace(':', ',')}.json"


def _finite(content: Any) -> Any:
    """JSON has no infinity; a difference that is none is written as text."""
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, float) and not abs(content) < float("inf"):
        return str(content)
    return content


def _floats(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: float(value) if value in ("inf", "nan", "-inf") else value
        for name, value in content.items()
    }


def _walk(
    pair: tuple[RunConfig, RunConfig], data: DataSet, dtype: torch.dtype
) -> Iterator[tuple[Values, Values]]:
    """Both models' values before the first step, then after each, without end."""
    config = pair[0]
    models = [build(each, data)[1].to(dtype) for each in pair]
    _copy(models[0], models[1])
    optimizers = [LayerAwareOptimizer(m, c) for m, c in zip(models, pair, strict=True)]
    split = DeviceSplit(data, "train", config.device)
    val = DeviceSplit(data, "val", config.device)
    held, _ = val.batch(range(min(EVALUATED, len(val))))
    held = held.to(dtype)
    a, b = (_values(model, held, None) for model in models)
    yield a, b
    updates = config.updates_per_epoch(len(split))
    step = 0
    for epoch in itertools.count(1):
        batches = split.epoch(
            config.batch_size, config.seed, epoch, Augmentation(config.crop_pad, config.flip)
        )
        while group := list(itertools.islice(batches, config.accumulate)):
            group = [(x.to(dtype), y) for x, y in group]
            found = []
            for model, optimizer in zip(models, optimizers, strict=True):
                model.train()
                optimizer.set_lr(learning_rate(config, min(step, config.epochs * updates), updates))
                loss, _ = gradients(model, group, config)
                kept = {
                    name: p.grad.clone()
                    for name, p in model.named_parameters()
                    if p.grad is not None
                }
                optimizer.step()
                found.append(_values(model, held, (loss, kept)))
            step += 1
            yield found[0], found[1]


@torch.no_grad()
def _values(
    model: nn.Module, held: Tensor, trained: tuple[Tensor, dict[str, Tensor]] | None
) -> Values:
    model.eval()
    loss, grads = trained or (None, {})
    return {
        "loss": {} if loss is None else {"loss": loss},
        "gradients": grads,
        "weights": {name: p.detach().clone() for name, p in model.named_parameters()},
        "buffers": {name: b.detach().clone() for name, b in model.named_buffers()},
        "evaluation logits": {"logits": model(held)},
    }


@torch.no_grad()
def _copy(source: nn.Module, target: nn.Module) -> None:
    """Parameters and buffers of the same name and shape."""
    theirs = {**dict(target.named_parameters()), **dict(target.named_buffers())}
    for name, tensor in (*source.named_parameters(), *source.named_buffers()):
        if name in theirs and theirs[name].shape == tensor.shape:
            theirs[name].copy_(tensor)


def _mismatch(ours: Values, theirs: Values) -> str:
    """Parameters that one has and the other has not; buffers may differ in name."""
    one = {name: tuple(t.shape) for name, t in ours["weights"].items()}
    two = {name: tuple(t.shape) for name, t in theirs["weights"].items()}
    apart = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    if not apart:
        return ""
    name = apart[0]
    more = f", and {len(apart) - 1} more" if len(apart) > 1 else ""
    return (
        f"their parameters differ: {name} is {_shape(one.get(name))} here and "
        f"{_shape(two.get(name))} there{more}"
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "a number"


def _widen(largest: dict[str, Largest], step: int, theirs: Values, ours: Values) -> None:
    for quantity in QUANTITIES:
        for name, tensor in theirs[quantity].items():
            if name not in ours[quantity]:
                continue
            difference = _peak(tensor - ours[quantity][name])
            old = largest.get(quantity)
            first = old.first_over if old else None
            if first is None and not difference <= BOUND:
                first = step
            if old is None or not difference <= old.difference:
                largest[quantity] = Largest(difference, name, step, first)
            elif first != old.first_over:
                largest[quantity] = Largest(old.difference, old.where, old.step, first)


def _peak(tensor: Tensor) -> float:
    """The largest magnitude; infinite where a value is no number."""
    if tensor.numel() == 0:
        return 0.0
    peak = float(tensor.abs().max())
    return peak if peak == peak else float("inf")
