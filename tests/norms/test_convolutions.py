"""Every check on the convolution of every method that has one of its own; each planted mistake is
found; and what tools do with such a convolution."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from normlab.norms import CATALOG, parse_norm

from .checks import close
from .convolutions import (
    CHECKS,
    CONVOLUTIONS,
    MISTAKES,
    Convolution,
    Mistake,
    as_function,
    effective,
    image,
    planted,
    scrambled,
)

each = pytest.mark.parametrize("convolution", CONVOLUTIONS.values(), ids=CONVOLUTIONS)


@each
@pytest.mark.parametrize("name", CHECKS)
def test_convolution(convolution: Convolution, name: str) -> None:
    CHECKS[name](convolution, convolution.kind)


@pytest.mark.parametrize(
    ("mistake", "convolution", "name"),
    [
        pytest.param(one, convolution, name, id=f"{convolution.name}-{one.plant.__name__}-{name}")
        for one, convolution in planted()
        for name in one.caught_by
    ],
)
def test_mistake_is_caught(mistake: Mistake, convolution: Convolution, name: str) -> None:
    with pytest.raises(AssertionError):
        CHECKS[name](convolution, mistake.applied_to(convolution))


def test_every_check_has_caught_something() -> None:
    assert {name for mistake in MISTAKES for name in mistake.caught_by} == set(CHECKS)
    names = [mistake.plant.__name__ for mistake in MISTAKES]
    assert len(names) == len(set(names))


@each
def test_every_convolution_has_at_least_four_mistakes_of_its_own(convolution: Convolution) -> None:
    own = [m for m in MISTAKES if set(m.methods) <= {convolution.name, "ws", "gn+ws"}]
    assert sum(convolution.name in mistake.methods for mistake in own) >= 4


def test_convolutions_are_those_of_the_methods() -> None:
    """Every method with filters of its own is tried here, and says what its filters are."""
    for spec in CATALOG.values():
        ours = spec.parts.convolution is not nn.Conv2d
        assert (spec.name in CONVOLUTIONS) == ours
        assert ours or not spec.filters
        assert bool(spec.filters) == hasattr(spec.parts.convolution, "effective_weight")


@each
def test_compiled_and_exported(convolution: Convolution) -> None:
    layer = scrambled(convolution.make())
    x = image().float().requires_grad_()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    found, expected = (torch.autograd.grad(f(x).square().sum(), [x, *layer.parameters()])
                       for f in (compiled, layer))  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-5, "gradient of the compiled convolution")
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(layer, (image().float(),), dynamic_shapes=({0: batch},))
    x = image(images=3, seed=4).float()
    close(program.module()(x), layer(x), 1e-5, "output of the exported convolution")


@each
def test_as_tools_use_it(convolution: Convolution) -> None:
    """One node of torch.fx; torch.func; pickle; a device without memory."""
    layer = scrambled(convolution.make()).double()
    net = nn.Sequential(layer, nn.ReLU())
    traced = torch.fx.symbolic_trace(net)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1"]
    x = image()
    assert torch.equal(traced(x), net(x))
    with pytest.raises(torch.fx.proxy.TraceError, match="Trace the network"):
        torch.fx.symbolic_trace(layer)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))
    f, (_, *values) = as_function(layer, x)
    found = torch.func.grad(lambda values: f(x, *values).square().sum())(tuple(values))
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-12, "gradient by torch.func")
    made = convolution.make(device="meta")
    assert made(torch.empty(2, 4, 5, 6, device="meta")).shape == (2, 6, 5, 6)
    assert isinstance(layer, nn.Conv2d)


def test_options_reach_the_convolution() -> None:
    made = parse_norm("gn+ws:weight_eps=0.5:groups=4").convolution(16, 16, 3)
    assert made.weight_eps == 0.5
    assert effective(made).std() < 0.2
    with pytest.raises(ValueError, match="weight_eps must be a number above 0, got -1"):
        parse_norm("gn+ws:weight_eps=-1").check_parts(16)
    with pytest.raises(ValueError, match="alpha must be a number above 0, got 0"):
        parse_norm("scaled_ws:alpha=0").make(16)
