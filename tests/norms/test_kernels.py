"""The compiled kernels: what they compute, what they leave to PyTorch, and how they are built.

That they do what every layer must do is in the tests which ask for ``each_way``.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from normlab.norms import BatchInstanceNorm2d, BatchNorm2d, GroupNorm2d
from normlab.norms import kernels as module
from normlab.norms._core import Pool, Then, definition
from normlab.norms.kernels import Kernels, KernelsUnavailableError, computed_by, in_use, load

from .checks import normalized, within
from .conftest import KERNELS, Counted
from .families import draw, scramble

EPS = 1e-5
LAYOUTS = (torch.contiguous_format, torch.channels_last)
LOW = (torch.bfloat16, torch.float16)
TYPES = (torch.float32, *LOW)


def inputs(
    shape: tuple[int, ...], layout: torch.memory_format = torch.contiguous_format, *, gate: bool
) -> dict[str, Tensor]:
    channels = shape[1]
    named = {
        "x": (draw(*shape, seed=1) + draw(shape[0], 1, 1, 1, seed=2)).float(),
        "weight": (1 + 0.5 * draw(channels, seed=3)).float(),
        "bias": draw(channels, seed=4).float(),
    }
    named["x"] = named["x"].contiguous(memory_format=layout)
    if gate:
        named["gate"] = draw(channels, seed=5).sigmoid().float()
    return {name: t.requires_grad_() for name, t in named.items()}


def step(
    named: dict[str, Tensor], pools: tuple[Pool | None, ...], g: Tensor, fixed: Any = None
) -> dict[str, Tensor]:
    """Output, statistics and gradients by whatever is in use; with a sum and ReLU after it where a
    residual is given."""
    gate, residual = named.get("gate"), named.get("residual")
    then = Then(residual, residual is not None)
    y, mean, var = normalized(
        named["x"], named["weight"], named["bias"], pools, EPS, gate=gate, fixed=fixed, then=then
    )
    grads = torch.autograd.grad(y, list(named.values()), g)
    return {"y": y, "mean": mean, "var": var, **dict(zip(named, grads, strict=True))}


def exact(
    named: dict[str, Tensor], pools: tuple[Pool | None, ...], g: Tensor, fixed: Any = None
) -> dict[str, Tensor]:
    """The same by the definition in float64."""
    wide = {name: t.detach().double().requires_grad_() for name, t in named.items()}
    if fixed is not None:
        fixed = tuple(t.double() for t in fixed)
    y, mean, var = definition(
        wide["x"], wide["weight"], wide["bias"], wide.get("gate"), fixed, pools, EPS
    )
    grads = torch.autograd.grad(y, list(wide.values()), g.double())
    return {"y": y, "mean": mean, "var": var, **dict(zip(wide, grads, strict=True))}


def agree(found: dict[str, Tensor], truth: dict[str, Tensor], bound: float = 4e-6) -> None:
    for name, expected in truth.items():
        limit = bound * max(1.0, expected.abs().max().item())
        within(found[name], expected, limit, name)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 5),
    groups=st.integers(1, 3),
    # Around the 16 lanes of a vector and the 64 rows of a chunk, and what is left over.
    channels_per_group=st.sampled_from([1, 2, 5, 8, 16, 17]),
    size=st.sampled_from([(1, 1), (1, 2), (4, 4), (3, 7), (8, 8), (5, 13), (9, 15), (16, 17)]),
    kinds=st.sampled_from(
        ["batch", "groups", "groups about 0", "batch and map", "fixed", "fixed and map"]
    ),
    layout=st.sampled_from(LAYOUTS),
)
def test_any_shape_is_the_definition(
    kernels: Kernels,
    images: int,
    groups: int,
    channels_per_group: int,
    size: tuple[int, int],
    kinds: str,
    layout: torch.memory_format,
) -> None:
    channels = groups * channels_per_group
    pools: dict[str, tuple[Pool | None, ...]] = {
        "batch": (Pool(batch=True),),
        "groups": (Pool(groups=groups),),
        "groups about 0": (Pool(groups=groups, centred=False),),
        "batch and map": (Pool(batch=True), Pool(groups=channels)),
        "fixed": (None,),
        "fixed and map": (None, Pool(groups=channels)),
    }
    named = inputs((images, channels, *size), layout, gate=len(pools[kinds]) > 1)
    mean, var = draw(channels, seed=21).float(), 0.5 + draw(channels, seed=22).float().square()
    fixed = (mean, var) if None in pools[kinds] else None
    g = draw(*named["x"].shape, seed=6).float().contiguous(memory_format=layout)
    few = images * size[0] * size[1] * channels_per_group < 8
    with computed_by(kernels):
        found = step(named, pools[kinds], g, fixed)
    # The variance of a few values may be near 0, and 1 / sqrt(eps) multiplies every rounding.
    agree(found, exact(named, pools[kinds], g, fixed), 1e-3 if few or size <= (1, 2) else 1e-5)
    assert found["y"].is_contiguous(memory_format=layout)


# ---------------------------------------------------------------------------------------------
# Types of 16 bits.


@pytest.fixture(scope="module")
def plain(kernels: Kernels, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """The kernels as code for the oldest processors, which convert nothing by themselves."""
    made = tmp_path_factory.mktemp("plain") / "plain.so"
    command = [*module._compiler(), *module._FLAGS, "-O0", *module._SHARED, str(module.SOURCE)]
    subprocess.run([*command, "-o", str(made), "-lm"], check=True)
    library = ctypes.CDLL(str(made))
    module._declare(library)
    return Kernels(library, "", "")


def made_of(dtype: torch.dtype, bits: Tensor) -> Tensor:
    """One map of these bits, less one: not whole vectors."""
    return bits.view(dtype)[:-1].view(1, 1, 1, -1)


def scaled_by(kernels: Kernels, x: Tensor, scales: Tensor) -> Tensor:
    """x * scales, one for each channel, as the kernels round it."""
    zeros = torch.zeros_like(scales)
    return kernels.output(x, torch.stack([zeros, scales, zeros]), None, False)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_every_value_of_16_bits_is_read_and_written(
    kernels: Kernels, plain: Kernels, dtype: torch.dtype
) -> None:
    x = made_of(dtype, torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16))
    for chosen in (kernels, plain):
        found = scaled_by(chosen, x, torch.ones(1, 1))
        assert torch.equal(found.isnan(), x.isnan())
        # Adding the shift of 0 takes the sign of a zero, and nothing else.
        assert torch.equal(found.nan_to_num(7), x.nan_to_num(7))
        assert torch.equal(found.isinf(), x.isinf())


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("pixels", [1, 17], ids=["rows", "map"])
def test_rounding_is_to_nearest_even(
    kernels: Kernels, plain: Kernels, dtype: torch.dtype, pixels: int
) -> None:
    """As PyTorch rounds any float: halfway, subnormal, too large, infinite and NaN."""
    every = torch.randint(-(2**31), 2**31 - 1, (40_000,), generator=torch.manual_seed(0))
    floats = every.to(torch.int32).view(torch.float32)
    if dtype is torch.float16:  # most floats are 0 or infinite there
        floats = torch.cat([floats, torch.ldexp(floats.frexp()[0], every % 46 - 28)])
    halfway = made_of(dtype, torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16))
    halfway = halfway.float().flatten()
    floats = torch.cat([floats, (halfway[1:] + halfway[:-1]) / 2, halfway])
    x = torch.ones(1, len(floats), 1, pixels, dtype=dtype)
    expected = floats.to(dtype).view(1, -1, 1, 1).expand_as(x)
    for chosen in (kernels, plain):
        found = scaled_by(chosen, x, floats.view(1, -1))
        assert torch.equal(found.isnan(), expected.isnan())
        assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("kind", ["batch", "groups", "batch and map", "fixed and map"])
def test_an_output_with_its_residual_is_rounded_once(
    counted: Counted, kind: str, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    """The exact result, rounded, but for a value in hundreds between two roundings; and gradients
    that are no worse than twice those of PyTorch's operations."""
    pools: tuple[Pool | None, ...] = {
        "batch": (Pool(batch=True),),
        "groups": (Pool(groups=4),),
        "batch and map": (Pool(batch=True), Pool(groups=20)),
        "fixed and map": (None, Pool(groups=20)),
    }[kind]
    fixed = (draw(20, seed=21).float(), 0.5 + draw(20, seed=22).float().square())
    fixed_or_none = fixed if None in pools else None
    named = inputs((4, 20, 9, 15), layout, gate=len(pools) > 1)
    named["residual"] = draw(4, 20, 9, 15, seed=7)
    for name in ("x", "residual"):
        named[name] = named[name].detach().to(dtype).contiguous(memory_format=layout)
        named[name].requires_grad_()
    g = draw(4, 20, 9, 15, seed=6).to(dtype).contiguous(memory_format=layout)
    truth = followed(named, pools, g, fixed_or_none)
    found = step(named, pools, g, fixed_or_none)
    assert counted.calls["forward"] == counted.calls["backward"] == 1
    with computed_by(None):
        theirs = step(named, pools, g, fixed_or_none)
    rounded = truth.pop("y").to(dtype)
    assert (found["y"] != rounded).double().mean() < 0.01
    assert (theirs["y"] != rounded).double().mean() > 0.05  # after the layer, and after the sum
    for name, expected in truth.items():
        given = named.get(name, fixed[0])
        assert found[name].dtype is given.dtype
        # Of the last digit of the largest one, where PyTorch's is exact by luck.
        least = torch.finfo(given.dtype).eps / 2 * expected.abs().max().item()
        worst = (theirs[name].double() - expected).abs().max().item()
        within(found[name].double(), expected, 2 * max(worst, least), name)


def followed(
    named: dict[str, Tensor], pools: tuple[Pool | None, ...], g: Tensor, fixed: Any
) -> dict[str, Tensor]:
    """:func:`exact` with the sum and the ReLU."""
    wide = {name: t.detach().double().requires_grad_() for name, t in named.items()}
    if fixed is not None:
        fixed = tuple(t.double() for t in fixed)
    y, mean, var = definition(
        wide["x"], wide["weight"], wide["bias"], wide.get("gate"), fixed, pools, EPS
    )
    y = (y + wide["residual"]).relu()
    grads = torch.autograd.grad(y, list(wide.values()), g.double())
    return {"y": y.detach(), "mean": mean.detach(), "var": var.detach(),
            **dict(zip(wide, grads, strict=True))}  # fmt: skip


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_a_layer_whose_parameters_have_16_bits(counted: Counted, dtype: torch.dtype) -> None:
    layer = scramble(BatchInstanceNorm2d(6)).to(dtype)
    x = draw(3, 6, 4, 5).to(dtype).requires_grad_()
    outcomes = []
    for kernels in (counted, None):
        own = scramble(BatchInstanceNorm2d(6)).to(dtype)
        own.load_state_dict(layer.state_dict())
        with computed_by(kernels):  # type: ignore[arg-type]
            y = own(x)
            grads = torch.autograd.grad(y, [x, *own.parameters()], torch.ones_like(y))
            answers = own.eval()(x)
        outcomes.append([y, *grads, *own.buffers(), answers])
    for found, expected in zip(*outcomes, strict=True):
        assert found.dtype is expected.dtype
        unit = torch.finfo(dtype).eps * max(1.0, expected.abs().max().item())
        within(found.double(), expected.double(), unit, str(found.shape))
    assert counted.calls == {"forward": 2, "output": 0, "backward": 1, "add_relu": 0}


# ---------------------------------------------------------------------------------------------
# Bits.

BITS = {
    "batch": "bd7c88d58e02eeb2",
    "groups": "5ac480ae27ce17f1",
    "batch and map": "18623c495fc7725c",
    "fixed and map": "2b5bdb3d623ea8ab",
}
"""SHA-256, shortened, of results that were computed before the kernels knew other types."""


def integers(*shape: int, seed: int) -> Tensor:
    """Floats in [-2, 2) that are the same everywhere."""
    order = torch.arange(1, 1 + math.prod(shape)) * (2654435761 + 2 * seed) % 2**32
    return (order.div(2**8, rounding_mode="floor").float() / 2**22 - 2).view(shape)


@pytest.mark.parametrize("kind", BITS)
def test_float32_has_the_bits_that_it_had(kernels: Kernels, kind: str) -> None:
    """A run that is continued, or made again, is the same run."""
    digest = hashlib.sha256()
    for shape in ((3, 20, 9, 15), (2, 16, 8, 8), (4, 6, 1, 3)):
        channels = shape[1]
        pools: tuple[Pool | None, ...] = {
            "batch": (Pool(batch=True),),
            "groups": (Pool(groups=2),),
            "batch and map": (Pool(batch=True), Pool(groups=channels)),
            "fixed and map": (None, Pool(groups=channels)),
        }[kind]
        named = {name: integers(channels, seed=i) for i, name in enumerate(("weight", "bias"))}
        if len(pools) > 1:
            named["gate"] = (integers(channels, seed=3) + 2) / 4
        fixed = (integers(channels, seed=4), 0.5 + integers(channels, seed=5).square())
        for layout in LAYOUTS:
            for name in ("x", "residual"):
                named[name] = integers(*shape, seed=len(name)).contiguous(memory_format=layout)
            leaves = {name: named[name].clone().requires_grad_() for name in sorted(named)}
            g = integers(*shape, seed=9).contiguous(memory_format=layout)
            with computed_by(kernels):
                found = step(leaves, pools, g, fixed if None in pools else None)
            for name in sorted(found):
                digest.update(found[name].detach().contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == BITS[kind]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_gradients_hold_far_from_zero(
    counted: Counted, layout: torch.memory_format, offset: float
) -> None:
    """Where each map has its own mean, float32 alone has no digits left for the deviations."""
    for pools in ((Pool(groups=20),), (Pool(batch=True), Pool(groups=20)), (Pool(groups=4),)):
        named = inputs((4, 20, 9, 15), layout, gate=len(pools) > 1)
        named["x"] = (named["x"].detach() + offset).requires_grad_()
        g = draw(4, 20, 9, 15, seed=6).float().contiguous(memory_format=layout)
        truth = exact(named, pools, g)
        kept = torch.finfo(torch.float32).eps * offset  # backward has its means in float32
        agree(step(named, pools, g), truth, 4e-6 + kept)
        within(step(named, pools, g)["y"], truth["y"], 4e-6 * truth["y"].abs().max().item(), "y")
    assert counted.calls["backward"] == 6


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
# The channels of the larger one are too many for the cache, and taken a few at a time.
@pytest.mark.parametrize("shape", [(7, 20, 9, 15), (9, 5, 61, 67)], ids=str)
@pytest.mark.parametrize("mixed", [True, False], ids=["batch and map", "batch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_number_of_threads_changes_no_bit(
    kernels: Kernels,
    layout: torch.memory_format,
    shape: tuple[int, ...],
    mixed: bool,
    dtype: torch.dtype,
) -> None:
    pools = (Pool(batch=True), Pool(groups=shape[1]))[: 1 + mixed]
    named = inputs(shape, layout, gate=mixed)
    named["x"] = named["x"].detach().to(dtype).requires_grad_()
    named["residual"] = draw(*shape, seed=7).to(dtype).requires_grad_()
    g = draw(*shape, seed=6).to(dtype).contiguous(memory_format=layout)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with computed_by(kernels):
                found.append(step(named, pools, g))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(other[name], t) for name, t in found[0].items())
    del named["residual"]
    with computed_by(kernels):
        agree(step(named, pools, g), exact(named, pools, g), max(4e-6, torch.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_another_processor_changes_no_bit(
    kernels: Kernels, plain: Kernels, dtype: torch.dtype
) -> None:
    """Nothing is contracted or reordered, so code for the oldest processors gives the same."""
    for layout in LAYOUTS:
        named = inputs((5, 20, 9, 15), layout, gate=True)
        named["x"] = named["x"].detach().to(dtype).requires_grad_()
        named["residual"] = draw(5, 20, 9, 15, seed=7).to(dtype).requires_grad_()
        g = draw(5, 20, 9, 15, seed=6).to(dtype).contiguous(memory_format=layout)
        found = []
        for chosen in (kernels, plain):
            with computed_by(chosen):
                found.append(step(named, (Pool(batch=True), Pool(groups=20)), g))
        assert all(torch.equal(found[1][name], t) for name, t in found[0].items())


@pytest.mark.parametrize("kind", [BatchNorm2d, BatchInstanceNorm2d])
@pytest.mark.parametrize("tracked", ["all", "no count", "float64", "average", "own way"])
def test_running_statistics_move_as_without_kernels(
    counted: Counted, kind: type[BatchNorm2d], tracked: str
) -> None:
    for momentum, dtype in ((0.0, TYPES[0]), (0.1, TYPES[1]), (0.7, TYPES[0]), (1.0, TYPES[2])):
        layers = []
        for _ in range(2):
            layer = scramble(Slow(6) if tracked == "own way" else kind(6, momentum=momentum))
            layer.momentum = None if tracked == "average" else momentum
            if tracked == "no count":
                layer.num_batches_tracked = None
            if tracked == "float64":
                layer.running_mean = layer.running_mean.double()
                layer.running_var = layer.running_var.double()
            layers.append(layer)
        x = draw(3, 6, 4, 5).to(dtype)
        layers[0](x)
        with computed_by(None):
            layers[1](x)
        for (name, ours), (_, theirs) in zip(*(m.named_buffers() for m in layers), strict=True):
            assert ours.dtype == theirs.dtype
            within(ours.double(), theirs.double(), 1e-6, name)
    assert counted.calls["forward"] == 4


class Slow(BatchNorm2d):
    """A layer of one's own, which moves half as far."""

    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        super()._track(x, (mean.flatten() + self.running_mean) / 2, var)


def test_a_buffer_that_a_kernel_moved_has_changed_for_autograd(counted: Counted) -> None:
    for name in ("running_mean", "running_var"):
        layer = BatchNorm2d(6)
        weight = torch.ones(6, requires_grad=True)
        product = (weight * getattr(layer, name)).sum()
        versions = [buffer._version for buffer in layer.buffers()]
        layer(draw(3, 6, 4, 5).float())
        assert [buffer._version for buffer in layer.buffers()] == [v + 1 for v in versions]
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.backward()
    assert counted.calls["forward"] == 2


# ---------------------------------------------------------------------------------------------
# What is left to PyTorch.


def test_layers_use_operations_of_torch_unless_asked() -> None:
    assert in_use() is None


STRANGE: dict[str, Callable[[Tensor], Tensor]] = {
    "float64": lambda x: x.double(),
    "every second column": lambda x: x[:, :, :, ::2],
    "every second channel": lambda x: x[:, ::2].repeat_interleave(2, 1).transpose(2, 3),
    "one image several times": lambda x: x[:1].expand_as(x),
    "no images": lambda x: x[:0],
}


@pytest.mark.parametrize("kind", STRANGE)
def test_inputs_that_kernels_do_not_know(counted: Counted, kind: str) -> None:
    layer = scramble(GroupNorm2d(6, groups=2))
    if kind == "float64":
        layer.double()
    x = STRANGE[kind](inputs((3, 6, 4, 6), gate=False)["x"].detach()).requires_grad_()
    y = layer(x)
    g = torch.ones_like(y)
    found = torch.autograd.grad(y, [x, *layer.parameters()], g)
    with computed_by(None):
        expected = layer(x)
        grads = torch.autograd.grad(expected, [x, *layer.parameters()], g)
    assert torch.equal(y, expected)
    assert all(torch.equal(a, b) for a, b in zip(found, grads, strict=True))
    assert counted.calls["forward"] == 0


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_in_any_layout(counted: Counted, layout: torch.memory_format) -> None:
    """Expanded, transposed, in the other layout: what comes back is the gradient."""
    named = inputs((3, 6, 4, 4), layout, gate=False)
    pools = (Pool(batch=True),)
    whole = draw(3, 6, 4, 4, seed=6).float()
    for g in (
        whole,
        whole.contiguous(memory_format=torch.channels_last),
        whole.transpose(2, 3),
        whole[:1, :1, :1, :1].expand(3, 6, 4, 4),
        draw(3, 6, 8, 8, seed=6).float()[:, :, ::2, ::2],
    ):
        found = step(named, pools, g)
        agree(found, exact(named, pools, g))
        assert found["x"].is_contiguous(memory_format=layout)
    assert counted.calls["backward"] == 5


@pytest.mark.parametrize("part", ["weight", "bias", "gate", "running_mean"])
def test_parts_of_a_wrong_size_are_never_read(counted: Counted, part: str) -> None:
    """A kernel would read past their end; PyTorch's operations say what is wrong."""
    layer = BatchInstanceNorm2d(6).eval()
    if part == "running_mean":
        layer.running_mean = torch.zeros(5)
    else:
        setattr(layer, part, torch.nn.Parameter(torch.ones(5)))
    with pytest.raises(RuntimeError, match="must match the size"):
        layer(draw(3, 6, 4, 5).float())
    assert counted.calls["forward"] == 0


def test_whatever_follows_every_operation_sees_them(counted: Counted) -> None:
    with FlopCounterMode(display=False):
        GroupNorm2d(6, groups=2)(draw(3, 6, 4, 5).float())
    assert counted.calls["forward"] == 0


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_compilers_and_transforms_get_operations(counted: Counted) -> None:
    """A kernel is invisible to whoever records, batches or differentiates operations."""
    x = draw(4, 3, 6, 4, 5).float()

    def functional(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        held = {name: t.clone() for name, t in state.items()}
        return torch.func.functional_call(layer, held, x), held

    layer = scramble(BatchNorm2d(6))
    start = {name: t.detach().clone() for name, t in layer.state_dict().items()}
    stacked = {name: torch.stack([t] * 4) for name, t in start.items()}
    outcomes = []
    for kernels in (counted, None):
        layer.load_state_dict(start)
        torch._dynamo.reset()
        with computed_by(kernels):  # type: ignore[arg-type]
            compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)(x[0])
            moved = layer.running_mean.clone()
            several, state = torch.func.vmap(functional, in_dims=(0, 0))(stacked, x)
            traced = torch.jit.trace(layer, (x[0],), check_trace=False)
            layer.load_state_dict(start)
            traced(x[1])
        outcomes.append([compiled, moved, several, state["running_var"], layer.running_mean])
    assert not any(counted.calls.values())
    for found, expected in zip(*outcomes, strict=True):
        assert torch.equal(found, expected)


def test_a_kept_input_that_comes_back_otherwise(counted: Counted) -> None:
    """Hooks on what is kept for backward may give it back in another layout."""
    named = inputs((3, 6, 4, 5), gate=False)
    g = draw(3, 6, 4, 5, seed=6).float()
    pools = (Pool(groups=2),)
    turned = torch.autograd.graph.saved_tensors_hooks(
        lambda t: t, lambda t: t.repeat(1, 1, 1, 2)[..., : t.shape[3]] if t.dim() == 4 else t
    )
    with turned:
        found = step(named, pools, g)
    agree(found, exact(named, pools, g))
    assert (counted.calls["forward"], counted.calls["backward"]) == (1, 0)


# ---------------------------------------------------------------------------------------------
# How they are built.


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: Kernels) -> Iterator[Path]:
    """A cache of its own, a source that is quick to compile, and a compiler that writes down what
    it was asked; returns that list."""
    source = tmp_path / "kernels.c"
    source.write_text("".join(f"void normlab_{name}(void) {{}}\n" for name in KERNELS))
    monkeypatch.setattr(module, "SOURCE", source)
    asked = tmp_path / "asked"
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    load.cache_clear()
    yield asked
    load.cache_clear()


def compilations(asked: Path) -> int:
    return sum("-shared" in line for line in asked.read_text().splitlines())


def libraries(asked: Path) -> list[Path]:
    return sorted(asked.parent.glob("cache/kernels-*/*.so"))


def test_compiled_once(fresh: Path) -> None:
    first = load()
    load.cache_clear()
    assert load().source == first.source
    assert compilations(fresh) == 1
    (library,) = libraries(fresh)
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(library.stat().st_mode) == 0o600


def test_two_at_the_same_time_compile_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, second = fresh.parent / "gate", threading.Event()
    os.mkfifo(gate)
    compiler = fresh.parent / "compiler"
    script = compiler.read_text().replace("exec cc", f'[ "$1" = --version ] || cat {gate}\nexec cc')
    compiler.write_text(script)
    monkeypatch.setattr(module, "_waiting", second.set)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(load.__wrapped__)
        with gate.open("w"):  # which waits until the compiler has begun
            other = pool.submit(load.__wrapped__)
            assert second.wait(60)
        assert first.result().source == other.result().source
    assert compilations(fresh) == 1


@pytest.mark.parametrize("installed", [True, False])
def test_no_window_opens_where_macos_has_no_compiler(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.delenv("CC")
    monkeypatch.setattr(module.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    asked: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[0])
        return subprocess.CompletedProcess(command, 0 if installed else 2, "/Library", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    if installed:
        assert module._compiler() == ["/usr/bin/cc"]
    else:
        with pytest.raises(KernelsUnavailableError, match=r"a C compiler .* was not found"):
            load()
    assert set(asked) == {"xcode-select"}


def test_a_damaged_library_is_made_again(fresh: Path) -> None:
    load()
    (library,) = libraries(fresh)
    # Another file at its place, since this process has the first one mapped.
    content = library.read_bytes()
    library.unlink()
    library.write_bytes(content[:-100])
    library.chmod(0o600)
    load.cache_clear()
    load()
    assert compilations(fresh) == 2
    (again,) = libraries(fresh)
    assert again.read_bytes() != content[:-100]


def test_another_source_or_compiler_is_another_library(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    module.SOURCE.write_bytes(module.SOURCE.read_bytes() + b"/* changed */\n")
    load.cache_clear()
    load()
    assert len(libraries(fresh)) == 2
    other = tmp_path / "other"
    other.write_bytes((tmp_path / "compiler").read_bytes())
    other.chmod(0o755)
    monkeypatch.setenv("CC", str(other))
    load.cache_clear()
    load()
    assert len(libraries(fresh)) == 3


def test_a_folder_that_others_may_write_to_is_refused(fresh: Path) -> None:
    load()
    (library,) = libraries(fresh)
    library.parent.chmod(0o777)
    load.cache_clear()
    with pytest.raises(KernelsUnavailableError, match="others may write to"):
        load()


def test_a_library_that_others_may_write_to_is_not_used(fresh: Path) -> None:
    load()
    (library,) = libraries(fresh)
    library.chmod(0o666)
    load.cache_clear()
    load()
    assert compilations(fresh) == 2
    assert stat.S_IMODE(libraries(fresh)[0].stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "compiler .*nowhere.* was not found"),
        ("exit 3", "does not work"),
        ('[ "$1" = --version ] && echo mine 1.0 && exit 0; echo "no such header" >&2; exit 1',
         "cannot compile them .no such header."),
    ],
    ids=["none", "broken", "fails"],
)  # fmt: skip
def test_without_a_compiler_the_reason_is_said(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, said: str
) -> None:
    compiler = fresh.parent / "nowhere"
    if script is not None:
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(KernelsUnavailableError, match=said):
        load()
    assert libraries(fresh) == []


def test_without_threads_of_openmp_it_still_compiles(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Apple's compiler, which refuses the option."""
    compiler = fresh.parent / "compiler"
    refuse = 'case "$*" in *-fopenmp*|*-march*) echo unknown option >&2; exit 1;; esac'
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {fresh}\n{refuse}\nexec cc "$@" -O0\n')
    monkeypatch.setattr(module, "SOURCE", Path(module.__file__).with_suffix(".c"))
    named = inputs((3, 6, 4, 5), gate=False)
    g = draw(3, 6, 4, 5, seed=6).float()
    with computed_by(load()):
        found = step(named, (Pool(groups=2),), g)
    agree(found, exact(named, (Pool(groups=2),), g))
    assert os.environ["CC"] == str(compiler)
