"""A layer with the sum and the ReLU after it in one pass: the same as one after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from normlab.models import ResNet
from normlab.norms import CATALOG, FilterResponseNorm2d, GroupNorm2d, NoNorm2d
from normlab.norms.fused import is_computed_again, norm_relu
from normlab.norms.kernels import Kernels, computed_by

from .checks import within
from .families import FAMILIES, MODES, SEVEN, Family, draw, scramble

LAYOUTS = (torch.contiguous_format, torch.channels_last)
OURS = [family for family in FAMILIES.values() if family.compiled]
each_family = pytest.mark.parametrize("family", [FAMILIES[n] for n in SEVEN], ids=lambda f: f.name)
each_residual = pytest.mark.parametrize("residual", ["none", "alike", "other layout", "spread"])


class Doubled(nn.Module):
    """A layer of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def inputs(family: Family, layout: torch.memory_format, residual: str) -> list[Tensor]:
    x = draw(3, family.channels, 7, 5, seed=1).float().contiguous(memory_format=layout)
    other = LAYOUTS[layout is LAYOUTS[0]]
    added = {
        "none": None,
        "alike": draw(*x.shape, seed=2).float().contiguous(memory_format=layout),
        "other layout": draw(*x.shape, seed=2).float().contiguous(memory_format=other),
        "spread": draw(1, family.channels, 1, 1, seed=2).float(),
    }[residual]
    return [t.requires_grad_() for t in (x, added) if t is not None]


def gradients(
    layer: nn.Module, values: list[Tensor], kernels: Kernels | None, *, twice: bool = False
) -> dict[str, Tensor]:
    """Output, first derivatives and, where asked, derivatives of a function of those."""
    leaves = [*values, *layer.parameters()]
    with computed_by(kernels):
        y = norm_relu(layer, nn.ReLU(), *values)
        g = draw(*y.shape, seed=3).to(y.dtype)
        first = torch.autograd.grad(y, leaves, g, create_graph=twice)
        found = {"y": y, **{f"d{i}": d for i, d in enumerate(first)}}
        if twice:
            total = sum((d * draw(*d.shape, seed=9 + i).to(d)).sum() for i, d in enumerate(first))
            again = [torch.zeros_like(t) for t in leaves]
            if total.requires_grad:  # the identity is linear
                again = torch.autograd.grad(
                    total, leaves, allow_unused=True, materialize_grads=True
                )
            found |= {f"again {i}": d for i, d in enumerate(again)}
    return found


def agree(found: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    assert set(found) == set(truth)
    for name, expected in truth.items():
        within(found[name], expected, 2e-5 * max(1.0, expected.abs().max().item()), name)


@each_family
@each_residual
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_in_one_pass_as_one_after_the_other(
    kernels: Kernels, family: Family, residual: str, layout: torch.memory_format, mode: str
) -> None:
    layer = scramble(family.make()).train(MODES[mode])
    exact = copy.deepcopy(layer).double()
    values = inputs(family, layout, residual)
    wide = [t.detach().double().requires_grad_() for t in values]
    truth = gradients(exact, wide, None, twice=True)
    first = {name: t for name, t in truth.items() if not name.startswith("again")}
    found = gradients(layer, values, kernels)
    agree(found, first)
    assert found["y"].is_contiguous(memory_format=layout)
    agree(gradients(layer, values, kernels, twice=True), truth)
    assert [d.shape for d in found.values()] == [d.shape for d in first.values()]


@pytest.mark.parametrize("family", OURS, ids=lambda f: f.name)
def test_one_pass_is_what_runs(kernels: Kernels, family: Family) -> None:
    """Without it nothing would be faster: no operation of the sum or the ReLU is left."""
    values = inputs(family, torch.channels_last, "alike")
    with computed_by(kernels):
        y = norm_relu(family.make(), nn.ReLU(), *values)
    assert type(y.grad_fn).__name__ == "_LeanBackward"


@pytest.mark.parametrize("layer", [NoNorm2d(6), nn.BatchNorm2d(6), Doubled()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_arm_has_less_but_for_its_layer(
    kernels: Kernels, layer: nn.Module, dtype: torch.dtype
) -> None:
    """PyTorch's layer and one of one's own remain as they are; sum and ReLU are one pass."""
    values = [draw(3, 6, 7, 5, seed=seed).to(dtype).requires_grad_() for seed in (1, 2)]
    found = []
    for chosen in (kernels, None):
        own = copy.deepcopy(layer)
        with computed_by(chosen):
            y = norm_relu(own, nn.ReLU(), *values)
            grads = torch.autograd.grad(y, values, draw(*y.shape, seed=3).to(dtype))
        found.append([y, *grads, *own.state_dict().values()])
        assert (type(y.grad_fn).__name__ == "_AddReLUBackward") == (chosen is kernels)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_nan_passes_and_nothing_negative_does(
    kernels: Kernels, family: Family, dtype: torch.dtype
) -> None:
    layer = family.make().eval()
    x = torch.zeros(1, family.channels, 4, 4, dtype=dtype)
    residual = torch.linspace(-1, 1, x.numel()).view_as(x).to(dtype)
    residual[0, 0, 0, 0] = torch.nan
    outcomes = []
    for chosen in (kernels, None):
        leaf = residual.clone().requires_grad_()
        with computed_by(chosen):
            y = norm_relu(layer, nn.ReLU(), x, leaf)
            outcomes.append((y, *torch.autograd.grad(y, leaf, torch.ones_like(y))))
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    assert int(outcomes[0][0].isnan().sum()) == 1


class Loud(GroupNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_whoever_wants_to_see_a_module_sees_it(kernels: Kernels) -> None:
    (x,) = inputs(FAMILIES["gn"], torch.channels_last, "none")
    channels = x.shape[1]
    seen: list[Any] = []
    for part in (0, 1):
        for way in ("register_forward_hook", "register_forward_pre_hook",
                    "register_full_backward_hook", "register_full_backward_pre_hook"):  # fmt: skip
            pair = (GroupNorm2d(channels), nn.ReLU())
            getattr(pair[part], way)(lambda *told: seen.append(told))
            before = len(seen)
            with computed_by(kernels):
                norm_relu(*pair, x).sum().backward()
            assert len(seen) == before + 1, (part, way)
    handle = nn.modules.module.register_module_forward_hook(lambda *told: seen.append(told))
    try:
        with computed_by(kernels):
            norm_relu(GroupNorm2d(channels), nn.ReLU(), x)
    finally:
        handle.remove()
    assert len(seen) == 10
    with computed_by(kernels):
        loud = norm_relu(Loud(channels), nn.ReLU(), x)
        limited = norm_relu(GroupNorm2d(channels), nn.Hardtanh(-0.5, 0.5), x)
        within(loud, 2 * norm_relu(GroupNorm2d(channels), nn.ReLU(), x), 1e-6, "another forward")
    assert limited.min().item() == -0.5


def test_an_eps_that_is_learned_goes_past_the_kernels(kernels: Kernels) -> None:
    learned, fixed = FilterResponseNorm2d(4, learned_eps=True), FilterResponseNorm2d(4)
    assert [is_computed_again(layer) for layer in (learned, fixed)] == [False, True]
    x, residual = (draw(2, 4, 5, 5, seed=seed).float() for seed in (1, 2))
    with computed_by(kernels):
        y = norm_relu(learned, nn.ReLU(), x, residual)
    torch.testing.assert_close(y, (learned(x) + residual).relu())
    y.sum().backward()
    assert learned.extra_eps.grad.item() != 0


def test_input_that_the_layer_refuses_is_refused(kernels: Kernels) -> None:
    x = torch.zeros(2, 3, 4, 4)
    with computed_by(kernels):
        for layer in (NoNorm2d(4), GroupNorm2d(4, groups=2)):
            with pytest.raises(ValueError, match="was made for 4 channels"):
                norm_relu(layer, nn.ReLU(), x, x)


@pytest.mark.parametrize("norm", CATALOG)
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_network_is_the_same(kernels: Kernels, norm: str, shortcut: Any) -> None:
    images = draw(4, 3, 16, 16, seed=1).float().contiguous(memory_format=torch.channels_last)
    found = []
    for chosen, dtype in ((kernels, torch.float32), (None, torch.float64)):
        model = ResNet(1, 5, norm, shortcut, seed=0).to(dtype)
        with computed_by(chosen):
            logits = model(images.to(dtype))
            logits.square().mean().backward()
            state = {name: t.double() for name, t in model.state_dict().items()}
            grads = {f"d {n}": p.grad for n, p in model.named_parameters()}
            answers = model.eval()(images.to(dtype))
        found.append({"logits": logits, "answers": answers, **state, **grads})
    for name, expected in found[1].items():
        limit = 1e-4 * max(1.0, expected.abs().max().item())
        within(found[0][name], expected, limit, name)
