"""Outputs that are computed again in backward: the same bits from less memory, and whoever looks
finds what would be there otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from allocated import bytes_of
from normlab.models import ResNet
from normlab.norms import BatchNorm2d, GroupNorm2d, recompute
from normlab.norms._core import Pool, Then, normalize
from normlab.norms.fused import norm_relu
from normlab.norms.kernels import Kernels, computed_by
from normlab.norms.recompute import saving_memory

from .families import draw

NORMALIZING = ("bn", "in", "bin", "ln", "gn", "batch_renorm", "frozen_bn", "frn")
LAST = torch.channels_last
each_norm = pytest.mark.parametrize("norm", NORMALIZING)
each_shortcut = pytest.mark.parametrize("shortcut", ["A", "B"])


def network(norm: str = "gn", shortcut: Any = "A", **options: Any) -> ResNet:
    made = ResNet(options.pop("n", 2), 5, norm, shortcut, seed=0)
    return made.to(memory_format=LAST, **options)  # type: ignore[call-overload]


def images(batch: int = 4, size: int = 16, dtype: torch.dtype = torch.float32) -> Tensor:
    return draw(batch, 3, size, size, seed=1).to(dtype).contiguous(memory_format=LAST)


def saving(on: bool) -> AbstractContextManager[None]:
    return saving_memory() if on else nullcontext()


def state_of(model: nn.Module) -> dict[str, Tensor]:
    grads = {f"d {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {name: t.clone() for name, t in {**model.state_dict(), **grads}.items()}


def same_bits(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert set(one) == set(two)
    for name, values in one.items():
        assert torch.equal(values, two[name]), name


# ---------------------------------------------------------------------------------------------
# The same bits.


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("norm", [*NORMALIZING, "gn+ws", "frn_tlu"])
@each_shortcut
def test_training_has_the_same_bits(norm: str, shortcut: str) -> None:
    found = []
    for on in (False, True):
        model = network(norm, shortcut)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        logits = []
        for step in range(3):
            optimizer.zero_grad()
            for _ in range(1 + step % 2):  # gradients of several batches add up
                with saving(on):
                    logits.append(model(images() + step))
                    nn.functional.cross_entropy(logits[-1], torch.arange(4)).backward()
            optimizer.step()
        found.append({**state_of(model), **{f"logits {i}": t for i, t in enumerate(logits)}})
    same_bits(*found)
    assert found[0]["logits 0"].std() > 0


@pytest.mark.usefixtures("each_way")
@each_norm
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_have_the_same_bits(norm: str, dtype: torch.dtype) -> None:
    mixed = dtype == torch.bfloat16
    own = torch.float32 if mixed else dtype
    found, kept = [], []
    for on in (False, True):
        model = network(norm, "B").to(own)

        def loss(model: nn.Module = model) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                logits: Tensor = model(images(dtype=own))
            return logits.square().mean()

        held: list[Tensor] = []
        with saving(on):
            kept.append(bytes_of(lambda: held.append(loss()))[0])  # noqa: B023
            held.pop().backward()
        found.append(state_of(model))
    same_bits(*found)
    copies = (
        sum(p.numel() * 2 for p in model.parameters()) if mixed else 0
    )  # of weights, in 16 bits
    assert kept[1] - copies < 0.62 * (kept[0] - copies)


@pytest.mark.usefixtures("each_way")
def test_pools_about_0_have_the_same_bits() -> None:
    found = []
    for on in (False, True):
        x, residual = (draw(3, 8, 7, 5, seed=seed).float().requires_grad_() for seed in (1, 2))
        then, held = Then(residual, True), list[Tensor]()
        with saving_memory(held.append) if on else nullcontext():
            y = normalize(x, None, None, (Pool(groups=4, centred=False),), 1e-5, then=then)
            grads = torch.autograd.grad(y.square().sum(), [x, residual])
        assert all(t.data_ptr() != y.data_ptr() for t in held)
        assert any(t.data_ptr() == x.data_ptr() for t in held) == on
        found.append({"y": y.detach(), "x": grads[0], "residual": grads[1]})
    same_bits(*found)


@pytest.mark.usefixtures("each_way")
def test_layouts_shapes_and_modes() -> None:
    """A layer by itself, with residuals of any layout and shape, in training and evaluation."""
    x = draw(3, 8, 7, 5, seed=1).float()
    for layer in (BatchNorm2d(8), BatchNorm2d(8).eval(), GroupNorm2d(8, groups=2)):
        for layout in (torch.contiguous_format, LAST):
            for residual in (None, x.flip(0), x.contiguous(memory_format=LAST), x[:1, :, :1, :1]):
                found = []
                for on in (False, True):
                    leaf = x.contiguous(memory_format=layout).clone().requires_grad_()
                    added = None if residual is None else residual.clone().requires_grad_()
                    leaves = [t for t in (leaf, added, *layer.parameters()) if t is not None]
                    with saving(on):
                        y = norm_relu(layer, nn.ReLU(), leaf, added)
                        loss = (y.exp() * y).sum()  # saves y as it is, and as another's input
                        grads = torch.autograd.grad(loss, leaves)
                    found.append({"y": y, **{f"d{i}": d for i, d in enumerate(grads)}})
                same_bits(*found)


def test_a_long_chain_needs_no_deep_recursion() -> None:
    layer, x = GroupNorm2d(2, groups=1), draw(1, 2, 2, 2, seed=1).float()
    found = []
    for on in (False, True):
        leaf = x.clone().requires_grad_()
        with saving(on):
            y = leaf
            for _ in range(1200):
                y = norm_relu(layer, nn.ReLU(), y, y)
            found.append({"d": torch.autograd.grad(y.sum(), leaf)[0]})
    same_bits(*found)


# ---------------------------------------------------------------------------------------------
# Less memory.


@pytest.mark.usefixtures("each_way")
@each_norm
@each_shortcut
def test_at_most_six_tenths_are_kept(norm: str, shortcut: str) -> None:
    x = images(2, 32)
    kept, most = [], []
    for on in (False, True):
        model = network(norm, shortcut)
        held: list[Tensor] = []
        with saving(on):
            held.append(model(x).square().mean())
            held.pop().backward()  # gradients of parameters are there from now on
            kept.append(bytes_of(lambda: held.append(model(x).square().mean()))[0])  # noqa: B023
            held.clear()
            step = bytes_of(lambda: model(x).square().mean().backward())  # noqa: B023
        most.append(step[1])
        assert step[0] == 0
    assert kept[1] <= 0.6 * kept[0]
    assert most[1] <= 0.8 * most[0]


def test_it_stays_so_in_deeper_networks(kernels: Kernels) -> None:
    """Of a stage no block's output is kept, however many there are."""
    with computed_by(kernels):
        kept, most = [], []
        for on in (False, True):
            model, x, held = network("bn", n=6), images(2, 32), []
            with saving(on):
                model(x).square().mean().backward()
                kept.append(bytes_of(lambda: held.append(model(x).square().mean()))[0])  # noqa: B023
                held.clear()
                most.append(bytes_of(lambda: model(x).square().mean().backward())[1])  # noqa: B023
    assert kept[1] <= 0.54 * kept[0]
    assert most[1] <= 0.62 * most[0]


# ---------------------------------------------------------------------------------------------
# What may happen to a graph.


@pytest.mark.usefixtures("each_way")
def test_a_graph_may_be_used_twice_and_holds_no_more_afterwards() -> None:
    found = []
    for on in (False, True):
        model = network("bn")
        with saving(on):
            loss = model(images()).square().mean()
            more, _ = bytes_of(lambda: loss.backward(retain_graph=True))  # noqa: B023
            first = state_of(model)
            model.zero_grad()
            loss.backward(retain_graph=True)
            same_bits(first, state_of(model))
        assert more == of_gradients(model)
        model.zero_grad()
        loss.backward()  # after the block
        found.append(state_of(model))
        same_bits(first, found[-1])
    same_bits(*found)


def of_gradients(model: nn.Module) -> int:
    return sum(p.grad.numel() * 4 for p in model.parameters() if p.grad is not None)


def test_what_a_backward_pass_computed_goes_when_it_fails() -> None:
    model = network("gn")
    held: list[Tensor] = []
    failed: list[int] = []

    def fail(_: Tensor) -> None:
        failed.append(0)
        raise RuntimeError("stop here")

    def failing() -> None:
        with suppress(RuntimeError), saving_memory():
            features: list[Tensor] = []
            handle = model.stages[0].register_forward_hook(lambda *told: features.append(told[2]))
            held.append(model(images()).square().mean())
            handle.remove()
            features.pop().register_hook(fail)
            held[0].backward(retain_graph=True)

    with saving_memory():
        kept, _ = bytes_of(lambda: held.append(model(images()).square().mean()))
    held.clear()
    there, _ = bytes_of(failing)
    assert there == kept + of_gradients(model)
    assert failed


def test_a_graph_that_is_dropped_leaves_nothing() -> None:
    """Values are kept without the graph that made them, which would hold itself."""
    model, x = network("gn"), images()
    with saving_memory():
        model(x).exp().sum()
        left, _ = bytes_of(lambda: model(x).exp().sum())
    assert left == 0


def test_part_of_a_graph() -> None:
    """Gradients of some weights only: what comes before them is not run."""
    found = []
    for on in (False, True):
        model = network("in")
        wanted = [model.stages[2][1].conv2.weight, model.stages[1][0].conv1.weight]
        with saving(on):
            loss = model(images()).square().mean()
            grads = torch.autograd.grad(loss, wanted)
        found.append(dict(zip("ab", grads, strict=True)))
    same_bits(*found)


@pytest.mark.usefixtures("each_way")
@each_norm
def test_second_derivatives(norm: str) -> None:
    found = []
    for on in (False, True):
        model, x = network(norm, n=1), images(2, 8).requires_grad_()
        with saving(on):
            (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
            slope.square().sum().backward()
        found.append({"dx": slope.detach(), **state_of(model)})
    same_bits(*found)
    assert found[0]["dx"].any()


@pytest.mark.parametrize("changed", ["x", "residual", "weight"])
def test_values_changed_in_place_are_no_longer_used(changed: str) -> None:
    layer = GroupNorm2d(4, groups=2)
    leaf = draw(2, 4, 3, 3, seed=1).float().requires_grad_()
    with saving_memory():
        values = {"x": leaf * 1, "residual": leaf * 2, "weight": layer.weight}
        y = norm_relu(layer, nn.ReLU(), values["x"], values["residual"])
        loss = (y * y).sum()
        with torch.no_grad():
            values[changed].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


# ---------------------------------------------------------------------------------------------
# Nothing else is taken for an output.


def test_what_only_lies_where_an_output_lay_is_kept_as_it_is() -> None:
    layer, leaf = GroupNorm2d(4, groups=2), draw(2, 4, 3, 3, seed=1).float().requires_grad_()

    def changed(y: Tensor) -> Tensor:
        with torch.no_grad():
            y.add_(1)  # of a detached one: autograd need not know
        return y.square()

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "part": lambda y: y[:, :2] * y[:, 2:],
        "turned": lambda y: y.transpose(2, 3) * y,
        "first": lambda y: y[:1].exp(),
        "detached": lambda y: leaf * y.detach(),
        "changed": lambda y: leaf * changed(y.detach().clone()),
    }
    for name, way in ways.items():
        grads = []
        for on in (False, True):
            with saving(on):
                y = way(norm_relu(layer, nn.ReLU(), leaf))
                grads.append(torch.autograd.grad(y.sum(), leaf)[0])
        assert torch.equal(*grads), name


def test_an_output_that_a_hook_changes_in_place(kernels: Kernels) -> None:
    """What the next convolution reads is what is kept for it."""
    with computed_by(kernels):
        grads = []
        for on in (False, True):
            model = network("gn", n=1)
            convolution = model.stages[0][0].conv2
            # Without it autograd refuses: the layer's own output is changed.
            double = torch.Tensor.mul_ if on else torch.mul
            convolution.register_forward_pre_hook(
                lambda _, given, double=double: (double(given[0], 2),)
            )
            with saving(on):
                model(images()).square().mean().backward()
            grads.append(state_of(model))
    same_bits(*grads)


def test_memory_that_is_used_again() -> None:
    """An output that nobody needs any more: another tensor may get its place."""
    layer = GroupNorm2d(4, groups=2)
    again = 0
    # What the allocator gives depends on what ran before, so it is asked until it gives that place.
    for size in 5 * (4, 8, 16, 32, 64, 128):
        leaf = draw(2, 4, size, size, seed=1).float().requires_grad_()
        with saving_memory():
            y = norm_relu(layer, nn.ReLU(), leaf)
            place = y.data_ptr()
            del y
            kept = []
            other = torch.full_like(leaf, 3.0)
            while other.data_ptr() != place and len(kept) < 100:
                kept.append(other)
                other = torch.full_like(leaf, 3.0)
            again += other.data_ptr() == place
            (found,) = torch.autograd.grad((leaf * other).sum(), leaf)
        assert torch.equal(found, other)
    assert again


# ---------------------------------------------------------------------------------------------
# Whoever watches.


def test_hooks_see_what_they_saw() -> None:
    seen: list[list[Tensor]] = []
    for on in (False, True):
        model = network("bn", n=1)
        told: list[Tensor] = []
        for name, module in model.named_modules():
            if name.endswith(("norm1", "relu2", "conv2", "0")):
                module.register_forward_hook(lambda *given: told.append(given[2].detach().clone()))  # noqa: B023
                module.register_full_backward_hook(lambda *given: told.append(given[2][0].clone()))  # noqa: B023
        with saving(on):
            model(images()).square().mean().backward()
        seen.append(told)
    assert len(seen[0]) == len(seen[1]) > 20
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


def test_other_hooks_on_what_is_saved_come_first() -> None:
    """Checkpoints inside the block, and hooks of one's own."""
    found = []
    for on in (False, True):
        model = network("gn")
        told: list[Tensor] = []

        def pack(tensor: Tensor, told: list[Tensor] = told) -> Tensor:
            told.append(tensor)
            return tensor.detach()

        with saving(on):
            x = norm_relu(model.norm0, model.relu, model.conv(images()))
            x = checkpoint(model.stages[0], x, use_reentrant=False)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                x = model.stages[1](x)
            model.stages[2](x).square().mean().backward()
        found.append(state_of(model))
        assert told
    same_bits(*found)


def test_tensors_without_a_place_in_memory() -> None:
    leaf = draw(3, 3, seed=1).requires_grad_()
    with saving_memory():
        product = torch.sparse.mm(torch.eye(3, dtype=leaf.dtype).to_sparse(), leaf)
        assert torch.equal(torch.autograd.grad(product.sum(), leaf)[0], torch.ones_like(leaf))
        with FakeTensorMode():
            x = torch.zeros(2, 4, 3, 3, requires_grad=True)
            norm_relu(GroupNorm2d(4, groups=2), nn.ReLU(), x).sum().backward()
            assert x.grad is not None


def test_torch_func_and_evaluation_within_the_block() -> None:
    layer, x = BatchNorm2d(4).eval(), draw(2, 4, 3, 3, seed=1).float()
    with saving_memory():
        mapped = torch.func.vmap(lambda t: norm_relu(layer, nn.ReLU(), t[None]))(x)
        with torch.no_grad():
            plain = norm_relu(layer, nn.ReLU(), x)
        with torch.inference_mode():
            inferred = norm_relu(layer, nn.ReLU(), x)
    assert torch.equal(plain, inferred)
    assert torch.allclose(mapped[:, 0], plain, atol=1e-6)


@pytest.fixture(autouse=True)
def _all_is_as_before() -> Iterator[None]:
    yield
    assert not recompute.is_on()
