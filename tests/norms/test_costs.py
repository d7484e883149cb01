"""What a layer with the sum and the ReLU after it costs: calls, and bytes kept for backward. A call
takes a few microseconds however small the tensor is, and a network has dozens of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normlab.models import ResNet
from normlab.norms import CATALOG
from normlab.norms.fused import norm_relu
from normlab.norms.kernels import computed_by
from normlab.norms.recompute import saving_memory
from normlab.training.memory import kept_for_backward

from .conftest import Counted
from .families import draw

N, C, SIDE = 4, 16, 8
MAP, SET = 4 * C, 4 * N
"""Bytes of one value for each channel, and for each image."""


@dataclass(frozen=True)
class Costs:
    """Operations of PyTorch forward and backward, compiled and not, and bytes of statistics."""

    compiled: tuple[int, int]
    torch: tuple[int, int]
    statistics: int


COSTS = {
    "bn": Costs((2, 4), (58, 43), 2 * MAP),
    "in": Costs((2, 4), (33, 41), 2 * C * SET),
    "bin": Costs((2, 5), (74, 74), 2 * MAP + 2 * C * SET),
    "ln": Costs((2, 4), (39, 45), 2 * SET),
    "gn": Costs((2, 4), (42, 49), 2 * 8 * SET),
    "none": Costs((1, 1), (2, 1), 0),
    "torch_bn": Costs((3, 2), (4, 2), 2 * MAP),
}


def operations(call: Callable[[], Any]) -> int:
    """How many operations of PyTorch were called, without those that they call themselves."""
    with torch.autograd.profiler.profile() as profile:
        call()
    called = [event for event in profile.function_events or () if is_operation(event)]
    return sum(not is_operation(event.cpu_parent) for event in called)


def is_operation(event: Any) -> bool:
    return event is not None and event.name.startswith("aten::")


def leaves(dtype: torch.dtype) -> list[Tensor]:
    """The input and what is added, as a network in channels_last has them."""
    drawn = [draw(N, C, SIDE, SIDE, seed=seed).to(dtype) for seed in (1, 2)]
    return [t.contiguous(memory_format=torch.channels_last).requires_grad_() for t in drawn]


@pytest.mark.parametrize(
    ("compiled", "dtype"),
    [(True, torch.float32), (True, torch.bfloat16), (False, torch.float32)],
    ids=["compiled", "compiled-bfloat16", "torch"],
)
@pytest.mark.parametrize("name", COSTS)
def test_no_more_calls_and_no_more_bytes(
    counted: Counted, name: str, compiled: bool, dtype: torch.dtype
) -> None:
    layer, both, costs = CATALOG[name].layer(C), leaves(dtype), COSTS[name]
    g = draw(N, C, SIDE, SIDE, seed=3).to(dtype).contiguous(memory_format=torch.channels_last)

    def step() -> Tensor:
        return norm_relu(layer, nn.ReLU(), *both)

    with computed_by(counted if compiled else None):  # type: ignore[arg-type]
        y = step()
        torch.autograd.grad(y, [*both, *layer.parameters()], g)  # what is made at the first call
        counted.calls = dict.fromkeys(counted.calls, 0)
        forward = operations(step)
        y = step()
        backward = operations(lambda: torch.autograd.grad(y, [*both, *layer.parameters()], g))
        kept = kept_for_backward(layer, step)
    allowed = costs.compiled if compiled else costs.torch
    assert (forward <= allowed[0], backward <= allowed[1]) == (True, True), (forward, backward)
    # The input, where a gradient needs it, the output, and the statistics.
    inputs = both[0].nbytes * (name != "none")
    outputs = y.nbytes
    assert kept <= inputs + outputs + costs.statistics
    ours = name not in ("none", "torch_bn")
    # Forward was called three times: to count, for backward, and to weigh what is kept.
    expected = {
        "forward": 3 * ours, "output": 0, "backward": 1 * ours, "add_relu": 3 * (not ours)
    }  # fmt: skip
    assert counted.calls == (expected if compiled else dict.fromkeys(counted.calls, 0))


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "autocast"])
def test_one_call_for_each_site_of_a_network(counted: Counted, name: str, mixed: bool) -> None:
    model = ResNet(1, 5, name, seed=0)
    images = draw(4, 3, 16, 16, seed=1).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = model(images)
    logits.square().mean().backward()
    sites, sums = 7, 3
    ours = name not in ("none", "torch_bn")
    assert counted.calls == (
        {"forward": sites, "output": 0, "backward": sites, "add_relu": 0}
        if ours
        else {"forward": 0, "output": 0, "backward": 0, "add_relu": sums}
    )


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_an_output_that_was_not_kept_is_computed_once(counted: Counted, shortcut: Any) -> None:
    n = 3
    model = ResNet(n, 5, "bn", shortcut, seed=0)
    images = draw(4, 3, 16, 16, seed=1).float().contiguous(memory_format=torch.channels_last)
    with saving_memory():
        model(images).square().mean().backward()
    sites = 6 * n + 1 + 2 * (shortcut == "B")
    assert counted.calls == {"forward": sites, "output": sites, "backward": sites, "add_relu": 0}
