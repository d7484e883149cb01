"""What we assume of a layer that is not ours, tried before its first run.

Two copies of the layer, made under the same seed, are trained for a few steps on random maps of the
sizes that the network has. One copy is saved and loaded as runs are. Everything that a result
relies on can be seen there: that the copies agree, that the loaded one continues as the other does,
that evaluation repeats itself and treats every image alone.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from ..data import DataSet
from ..errors import InputError, told
from ..foreign import code_of, is_custom
from ..models import (
    drawn_by,
    has_contiguous_input,
    make_layer,
    needs_of,
    packed,
    unpacked,
)
from ..norms import parse_norm
from ..runs import RunConfig
from .control import controlled
from .following import Following
from .network import shapes_at_sites
from .optimizer import clip_by_unit

STEPS = 3
VALUES = 1 << 21
"""Values that a batch of maps has at most; a larger one is tried with fewer images."""
ALONE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Largest difference of an image's output alone and in a batch that is rounding, as a share of the
largest value."""
DOCS = "See docs/own-layer.md."


@dataclass(frozen=True)
class LayerTraits:
    """What a run has to know of its layer.

    Attributes:
        resumable: whether its state dict is all that a stopped run needs to go on.
        notes: sentences for people.
    """

    resumable: bool = True
    notes: tuple[str, ...] = ()


def check_layer(config: RunConfig, data: DataSet) -> LayerTraits:
    """Try an arm's layer as runs will use it. Layers of ours are not tried.

    Raises:
        InputError: an assumption fails, with what was found and what to do.
    """
    if not is_custom(config.norm):
        return LayerTraits()
    rest = len(data.splits["train"]) % config.batch_size
    batch = min(config.batch_size, len(data.splits["train"]))
    return _checked(
        config.norm,
        tuple(sorted(code_of(config.norm).items())),
        tuple((width, *size) for width, size in shapes_at_sites(config, data).items()),
        (batch, rest) if rest and rest != batch else (batch,),
        config.precision,
        config.device,
        config.threads,
    )


@functools.lru_cache(maxsize=256)
def _checked(
    norm: str,
    code: tuple[tuple[str, str], ...],
    places: tuple[tuple[int, int, int], ...],
    batches: tuple[int, ...],
    precision: str,
    device: str,
    threads: int,
) -> LayerTraits:
    """Once for the same code and the same use of it."""
    config = RunConfig(norm=norm, precision=precision, device=device, threads=threads)  # type: ignore[arg-type]
    with controlled(config):
        outside: list[str] = []
        for part in (None, *_other_parts(config.norm)):
            for width, height, across in places:
                for batch in batches:
                    count = max(1, min(batch, VALUES // (width * height * across)))
                    trial = _Trial(config, width, (count, width, height, across), part)
                    outside += trial.carry_out()
        width = places[0][0]
        return LayerTraits(not outside, _notes(config, width, tuple(dict.fromkeys(outside))))


def _notes(config: RunConfig, width: int, outside: tuple[str, ...]) -> tuple[str, ...]:
    notes = []
    with drawn_by(0, "made"):
        layer = make_layer(config.norm, width)
    if has_contiguous_input(layer):
        notes.append(
            f"{config.norm} gets contiguous input, where the network works in channels_last. The "
            "copies that this takes are part of its times."
        )
    if outside:
        notes.append(
            f"{config.norm} keeps {', '.join(outside)} outside of its state dict. Its runs cannot "
            f"resume: one that is stopped starts over. {DOCS}"
        )
    return tuple(notes)


def _other_parts(norm: str) -> list[type[nn.Module]]:
    """What the method puts after convolutions, activations and sums besides its layer."""
    plain = (nn.ReLU, nn.Identity)
    return [
        part
        for part in parse_norm(norm).parts.classes()
        if part not in plain and not issubclass(part, nn.Conv2d)
    ]


class _Trial:
    """The layer of one width, or another part of the method, on input of one shape."""

    def __init__(
        self,
        config: RunConfig,
        width: int,
        shape: tuple[int, ...],
        part: type[nn.Module] | None = None,
    ) -> None:
        self.config, self.width, self.shape, self.part = config, width, shape, part
        generator = torch.Generator().manual_seed(0)
        offset = torch.randn(width, 1, 1, generator=generator)
        self.x = [self._as_input(1.5 * torch.randn(shape, generator=generator) + offset)
                  for _ in range(STEPS + 1)]  # fmt: skip
        self.g = self._as_input(torch.randn(shape, generator=generator))
        self.following: dict[int, Following] = {}

    def _as_input(self, values: Tensor) -> Tensor:
        dtype = torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32
        return values.to(self.config.device, dtype).contiguous(memory_format=torch.channels_last)

    def carry_out(self) -> list[str]:
        """What the layer keeps outside of its state dict and training depends on, or may."""
        one, two = self._made(0), self._made(0)
        self._check_apart(one, two)
        try:
            needs_of(one)
        except ValueError as error:
            raise self._wrong(str(error)) from error
        before = {name: id(p) for name, p in one.named_parameters()}
        names = set(one.state_dict())
        first, second = self._trained(one), self._trained(two)
        if not self._equal(first, second):
            raise self._wrong(
                "two copies, made and trained in the same way, give different outputs. It keeps "
                "state outside of itself (a global or a class attribute), or draws from a "
                "generator of its own. Keep state in the layer, and draw from torch's global "
                "generator, which every run seeds."
            )
        late = sorted({*one.state_dict()} ^ names)
        late += [n for n, p in one.named_parameters() if before.get(n, id(p)) != id(p)]
        if late:
            raise self._wrong(
                f"{late[0]} is made or replaced in forward, so neither the optimizer nor a saved "
                "model has it. Make it in __init__."
            )
        evaluated = self._check_evaluation(one)
        saved = self._saved(one)
        self._check_loaded(saved, evaluated)
        return self._outside(one, saved)

    def _made(self, seed: int) -> nn.Module:
        try:
            with drawn_by(seed, "tried", self.width):
                layer = make_layer(self.config.norm, self.width, self.part)
        except Exception as error:
            raise self._wrong(f"it cannot be made: {told(error)}.") from error
        lazy = [n for n, p in layer.named_parameters() if isinstance(p, UninitializedParameter)]
        if lazy:
            raise self._wrong(
                f"{lazy[0]} has no shape before the first input. Make it in __init__, with the "
                "number of channels."
            )
        try:
            self.following[id(layer)] = Following(layer)
            self.following[id(layer)].in_evaluation()
        except ValueError as error:
            raise self._wrong(str(error)) from error
        except Exception as error:
            raise self._wrong(
                f"an attribute with a schedule cannot be set: {told(error)}."
            ) from error
        return layer.to(device=self.config.device, memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]

    def _check_apart(self, one: nn.Module, two: nn.Module) -> None:
        try:
            copy.deepcopy(one)
        except Exception as error:
            raise self._wrong(
                f"it cannot be copied (copy.deepcopy), as the sanity check, explain and export do: "
                f"{told(error)}."
            ) from error
        others = dict(two.named_parameters()) | dict(two.named_buffers())
        for name, tensor in (*one.named_parameters(), *one.named_buffers()):
            other = others.get(name)
            if other is not None and tensor.numel() and tensor.data_ptr() == other.data_ptr():
                raise self._wrong(
                    f"{name} is shared between layers that were made separately, so arms would "
                    "change each other. Make it in __init__."
                )
        if not _same(self._packed(one), self._packed(two)):
            raise self._wrong(
                "its initial values differ between two copies made under the same seed. Draw them "
                "from torch's global generator, which every run seeds."
            )

    def _packed(self, layer: nn.Module) -> dict[str, Tensor]:
        try:
            return packed(layer.state_dict())
        except InputError as error:
            raise self._wrong(str(error)) from error

    def _trained(self, layer: nn.Module) -> list[Tensor]:
        """Outputs and gradients of the input over a few steps, each checked."""
        layer.train()
        found: list[Tensor] = []
        for step in range(STEPS):
            found += self._step(layer, step)
        return found

    def _step(self, layer: nn.Module, step: int) -> tuple[Tensor, Tensor]:
        x = self.x[step].detach().clone(memory_format=torch.preserve_format).requires_grad_()
        self.following[id(layer)].before_update(step, STEPS)
        with drawn_by(step, "tried step"):
            y = self._called(layer, x + 0, "training")
            self._check_output(y, x, "training")
            if not y.requires_grad:
                raise self._wrong(
                    "no gradient passes through it, so the convolutions before it could not "
                    "learn. Compute the output from the input with differentiable operations."
                )
            try:
                y.backward(self.g.to(y.dtype))
            except Exception as error:
                raise self._wrong(f"its backward pass fails: {told(error)}.") from error
        if x.grad is None or not bool(x.grad.isfinite().all()):
            kind = "no gradient" if x.grad is None else "a gradient that is not finite"
            raise self._wrong(f"its input gets {kind} in training.")
        needs = needs_of(layer)
        with torch.no_grad():
            for parameter in layer.parameters():
                if parameter.grad is None:
                    continue
                need = needs[id(parameter)]
                if need.unit_clip is not None:
                    clip_by_unit(parameter, need.unit_clip)
                parameter.sub_(0.01 * need.lr_scale * parameter.grad)
                if need.clamp is not None:
                    parameter.clamp_(*need.clamp)
                parameter.grad = None
        return y.detach(), x.grad

    def _called(self, layer: nn.Module, x: Tensor, mode: str) -> Any:
        enabled = self.config.precision == "bfloat16"
        try:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=enabled):
                return layer(x)
        except Exception as error:
            raise self._wrong(
                f"it fails in {mode} for input of shape {tuple(x.shape)} (images, channels, "
                f"height, width): {told(error)}."
            ) from error

    def _check_output(self, y: Any, x: Tensor, mode: str) -> None:
        if not isinstance(y, Tensor):
            raise self._wrong(f"it returns {type(y).__name__}, not a tensor. Return one tensor.")
        if y.shape != x.shape:
            raise self._wrong(
                f"it turns shape {tuple(x.shape)} into {tuple(y.shape)}. A normalization must "
                "leave the shape as it is."
            )
        allowed = {x.dtype, torch.float32}
        if y.dtype not in allowed or y.device != x.device:
            raise self._wrong(
                f"it turns {x.dtype} on {x.device} into {y.dtype} on {y.device}. Type and device "
                "must be those of the input."
            )
        if not bool(y.isfinite().all()):
            raise self._wrong(
                f"its output has values that are not finite in {mode}, for ordinary input of "
                f"shape {tuple(x.shape)}."
            )

    @torch.no_grad()
    def _evaluated(self, layer: nn.Module, x: Tensor, draw: int) -> Tensor:
        layer.eval()
        self.following[id(layer)].in_evaluation()
        with drawn_by(draw, "tried evaluation"):
            y = self._called(layer, x.clone(), "evaluation")
        self._check_output(y, x, "evaluation")
        return y  # type: ignore[no-any-return]

    def _check_evaluation(self, layer: nn.Module) -> Tensor:
        x, state = self.x[-1], self._packed(layer)
        evaluated = self._evaluated(layer, x, 0)
        if not _same(state, self._packed(layer)):
            raise self._wrong(
                "its state changes in evaluation, so results would depend on what was evaluated "
                "before. Change state only where self.training is true."
            )
        if not self._equal(evaluated, self._evaluated(layer, x, 1)):
            raise self._wrong(
                "its output in evaluation is not the same twice. Draw, and count, only where "
                "self.training is true."
            )
        alone = self._evaluated(layer, x[:1], 0)
        apart = float((alone - evaluated[:1]).abs().max() / evaluated.abs().max().clamp_min(1e-6))
        if len(x) > 1 and not apart <= ALONE[self.config.precision]:
            raise self._wrong(
                "in evaluation its output for an image depends on the other images of the batch. "
                "Predictions would depend on how images are put together. Use running statistics "
                "where self.training is false."
            )
        return evaluated

    def _saved(self, layer: nn.Module) -> dict[str, Any]:
        """The state as it is read back from a file."""
        content = safetensors.torch.save(
            {name: t.cpu().contiguous() for name, t in self._packed(layer).items()}
        )
        return unpacked(safetensors.torch.load(content))

    def _loaded(self, saved: dict[str, Any], seed: int) -> nn.Module:
        layer = self._made(seed)
        try:
            layer.load_state_dict(saved)
        except Exception as error:
            raise self._wrong(
                f"its state cannot be saved and loaded: {told(error)}. Buffers must exist, and "
                "have their shape, from __init__ on."
            ) from error
        return layer

    def _check_loaded(self, saved: dict[str, Any], evaluated: Tensor) -> None:
        """A model on disk is built with any seed, and all that it learned comes from the file."""
        again = self._evaluated(self._loaded(saved, 1), self.x[-1], 0)
        if not self._equal(again, evaluated):
            raise self._wrong(
                "after it is saved and loaded, its output in evaluation is another. It keeps part "
                "of its state outside of its state dict: in a buffer with persistent=False, in a "
                "plain attribute, or in a value drawn in __init__. Use register_buffer, or return "
                "it from get_extra_state (a tensor or plain JSON values)."
            )

    def _outside(self, layer: nn.Module, saved: dict[str, Any]) -> list[str]:
        """Attributes that a loaded copy does not have, or "state" where only its outputs tell."""
        loaded = self._loaded(saved, 0)
        theirs = dict(_attributes(loaded))
        found = [
            name
            for name, value in _attributes(layer)
            if name not in theirs or not _same(value, theirs[name])
        ]
        layer.train()
        loaded.train()
        alike = self._equal(self._step(layer, STEPS), self._step(loaded, STEPS))
        alike = alike and self._equal(self._packed(layer), self._packed(loaded))
        return found or ([] if alike else ["state"])

    def _equal(self, one: Any, two: Any) -> bool:
        """To the bit on a CPU; on a GPU to rounding."""
        return _same(one, two, exact=self.config.device == "cpu")

    def _wrong(self, what: str) -> InputError:
        named = "layer" if self.part is None else self.part.__name__
        return InputError(
            f"Arm {self.config.norm}, {named} of {self.width} channels: {what.rstrip('.')}. {DOCS}"
        )


def _attributes(layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """Plain attributes of a layer and its parts, and buffers that are not saved."""
    base = set(nn.Module().__dict__)
    for path, module in layer.named_modules():
        prefix = f"{path}." if path else ""
        for name, value in module.__dict__.items():
            if name not in base and isinstance(value, _COMPARED):
                yield prefix + name, value
        for name in module._non_persistent_buffers_set:
            yield prefix + name, module._buffers[name]


_COMPARED = (
    bool, int, float, str, type(None), list, tuple, dict, set, Tensor, np.ndarray,
    torch.Generator, np.random.Generator,
)  # fmt: skip


def _same(one: Any, two: Any, *, exact: bool = True) -> bool:
    if isinstance(one, torch.Generator) and isinstance(two, torch.Generator):
        return torch.equal(one.get_state(), two.get_state())
    if isinstance(one, np.random.Generator) and isinstance(two, np.random.Generator):
        return bool(one.bit_generator.state == two.bit_generator.state)
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        if one.shape != two.shape or one.dtype != two.dtype:
            return False
        if exact or not one.is_floating_point():
            return torch.equal(one, two)
        return torch.allclose(one, two, rtol=1e-3, atol=1e-4, equal_nan=True)
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return bool(np.array_equal(one, two))
    compare: Callable[[Any, Any], bool] = functools.partial(_same, exact=exact)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(compare(one[k], two[k]) for k in one)
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(compare, one, two))
    return type(one) is type(two) and (one is two or bool(one == two))
