"""Compiled and exported layers agree with eager mode, for batches of any size."""

from __future__ import annotations

import copy
import operator
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from .checks import close
from .families import FAMILIES, MODES, SEVEN, Family, draw, scramble

each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
# A layer without state has one graph for both modes.
each_graph = pytest.mark.parametrize(
    ("family", "training"),
    [
        pytest.param(family, training, id=f"{name}-{mode}")
        for name, family in FAMILIES.items()
        for mode, training in MODES.items()
        if training or family.spec.buffers
    ],
)

# float32 in another order of operations: a few units in the last place.
FORWARD, BACKWARD = 4e-6, 2e-5

COMPILERS = (os.environ.get("CXX"), "c++", "g++", "clang++")
needs_compiler = pytest.mark.skipif(
    not any(name and shutil.which(name) for name in COMPILERS),
    reason="the default backend of torch.compile needs a C++ compiler on a CPU; none was found "
    f"({', '.join(name for name in COMPILERS if name)})",
)


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def _own_compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No kernel of an earlier run: what is tested is what this code compiles to."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("inductor")
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield folder


def used_layer(family: Family, training: bool) -> nn.Module:
    """A layer whose parameters and running statistics are those after some steps of training."""
    layer = scramble(family.make())
    for seed in range(3):
        layer(example(family, seed=seed) * 2 + 1)
    return layer.train(training)


def example(family: Family, images: int = 3, seed: int = 0) -> Tensor:
    return draw(images, family.channels, 4, 5, seed=seed).float()


def assert_same_step(
    found: Callable[..., Any], layer: nn.Module, eager: nn.Module, *inputs: Tensor
) -> None:
    """One forward and backward: output, gradients and buffers."""
    images = len(inputs[0])
    ours, theirs = (made if isinstance(made, tuple) else (made,)
                    for made in (found(*inputs), eager(*inputs)))  # fmt: skip
    for y, z in zip(ours, theirs, strict=True):
        close(y, z, FORWARD, f"output for {images} images")
        assert y.is_contiguous() == z.is_contiguous()
    for name, t in eager.named_buffers():
        close(layer.get_buffer(name), t, FORWARD, name)
    if not any(y.requires_grad for y in (*ours, *theirs)):
        return
    gs = [draw(*y.shape, seed=9).float() for y in ours]
    found_ones = torch.autograd.grad(ours, [*inputs, *layer.parameters()], gs)
    expected = torch.autograd.grad(theirs, [*inputs, *eager.parameters()], gs)
    names = [*(f"input {i}" for i in range(len(inputs))), *dict(layer.named_parameters())]
    for name, a, b in zip(names, found_ones, expected, strict=True):
        close(a, b, BACKWARD, f"gradient of {name} for {images} images")


@each_graph
def test_whole_graph_with_a_dynamic_batch(family: Family, training: bool) -> None:
    layer = used_layer(family, training)
    eager = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = example(family).requires_grad_()
    torch._dynamo.mark_dynamic(x, 0)  # an error if the size of the batch is built in
    assert_same_step(compiled, layer, eager, x)
    with torch.compiler.set_stance("fail_on_recompile"):
        for images in (5, 2, 8):
            x = example(family, images, seed=images).requires_grad_()
            assert_same_step(compiled, layer, eager, x)
    # One image is a graph of its own, as sizes of 1 always are. Only its capture is another: what
    # the backend makes of the operations has been seen.
    captured = torch.compile(layer, backend="eager", fullgraph=True)
    assert_same_step(captured, layer, eager, example(family, 1, seed=11).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_whole_graph_keeps_type_and_memory_format(dtype: torch.dtype) -> None:
    """Of all layers side by side, in one graph."""
    # Types take the same way, but for the one of the statistics.
    names = FAMILIES if dtype == torch.bfloat16 else SEVEN
    families = [FAMILIES[name] for name in names]
    layers = SideBySide({family.name: used_layer(family, True) for family in families})
    if dtype == torch.float64:
        layers.double()
    eager = copy.deepcopy(layers)
    compiled = torch.compile(layers, backend="aot_eager", fullgraph=True)
    inputs = [
        example(family).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
        for family in families
    ]
    for family, y, z in zip(families, compiled(*inputs), eager(*inputs), strict=True):
        assert y.dtype == dtype, family.name
        assert y.is_contiguous(memory_format=torch.channels_last), family.name
        close(y, z, 2 * torch.finfo(dtype).eps, f"output of {family.name}")


@needs_compiler
# PyTorch's own modules use what it deprecates, when the default backend is first imported.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.usefixtures("_own_compile_cache")
def test_default_backend() -> None:
    """Machine code for one shape; the tests above are about the graph, this is about kernels. The
    compiler is started once, for all layers side by side."""
    families = [FAMILIES[name] for name in SEVEN if FAMILIES[name].normalizes]
    layers = SideBySide({family.name: used_layer(family, True) for family in families})
    eager = copy.deepcopy(layers)
    compiled = torch.compile(layers, fullgraph=True, dynamic=False)
    for seed in (5, 6):
        inputs = [example(family, seed=seed).requires_grad_() for family in families]
        assert_same_step(compiled, layers, eager, *inputs)


class SideBySide(nn.ModuleDict):
    """Layers that have nothing to do with each other."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer, x in zip(self.values(), inputs, strict=True))


@each_graph
def test_export_with_a_dynamic_batch(family: Family, training: bool) -> None:
    layer = used_layer(family, training)
    eager = copy.deepcopy(layer)
    before = {name: t.clone() for name, t in layer.named_buffers()}
    batch = torch.export.Dim("batch", max=1024)
    program = torch.export.export(layer, (example(family),), dynamic_shapes=({0: batch},))
    exported = program.module()
    for images in (2, 3, 7):
        x = example(family, images, seed=images)
        close(exported(x), eager(x), FORWARD, f"output for {images} images")
    state = dict(exported.named_buffers())
    for name, t in eager.named_buffers():
        close(state[name], t, FORWARD, name)
    moved = [n for n, t in eager.named_buffers() if not torch.equal(t, before[n])]
    moves = training and family.spec.momentum
    assert moved == (list(family.spec.buffers) if moves else [])


@each_family
def test_exported_graph_is_made_of_plain_operations(family: Family) -> None:
    """No Python function is left in it, so that it can be saved and run elsewhere."""
    program = torch.export.export(used_layer(family, False), (example(family),))
    targets = {n.target for n in program.graph.nodes if n.op == "call_function"}
    targets.discard(operator.getitem)  # of an operation with several outputs
    assert all(isinstance(t, torch._ops.OpOverload) for t in targets)
