"""The exact relations among methods with statistics of the batch, and their networks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from normlab.models import ModelInfo, ResNet, check_sites, load_model, save_model
from normlab.models.shapes import Kind, state_parts
from normlab.norms import (
    CATALOG,
    BatchNorm2d,
    BatchRenorm2d,
    FrozenBatchNorm2d,
    GhostBatchNorm2d,
    SyncBatchNorm2d,
    make_norm,
)

from .checks import TIGHT, close, saved_bytes
from .families import draw, scramble
from .test_relations import CHANNELS, assert_equal_layers, example, share_parameters

pytestmark = pytest.mark.usefixtures("each_way")


def assert_same_buffers(a: nn.Module, b: nn.Module) -> None:
    for (name, one), two in zip(a.named_buffers(), b.buffers(), strict=True):
        close(one, two, TIGHT, name)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_synchronized_batch_norm_in_one_process_is_batch_norm(training: bool) -> None:
    a = scramble(SyncBatchNorm2d(CHANNELS)).train(training)
    b = BatchNorm2d(CHANNELS).train(training)
    share_parameters(a, b)
    x, g = example().float(), draw(3, CHANNELS, 4, 5, seed=9).float()
    found = [torch.autograd.grad(layer(leaf), leaf, g)[0] for layer in (a, b)
             for leaf in [x.clone().requires_grad_()]]  # fmt: skip
    assert torch.equal(*found)
    assert all(map(torch.equal, a.buffers(), b.buffers()))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_frozen_batch_norm_is_batch_norm_in_evaluation_in_every_mode(training: bool) -> None:
    trained = scramble(BatchNorm2d(CHANNELS, eps=1e-3)).double().eval()
    frozen = FrozenBatchNorm2d.from_batch_norm(trained).train(training)
    assert not list(frozen.parameters())
    before = {name: t.clone() for name, t in frozen.state_dict().items()}
    assert_equal_layers(trained, frozen, example())
    assert all(torch.equal(t, before[name]) for name, t in frozen.state_dict().items())
    bare = scramble(BatchNorm2d(CHANNELS, affine=False)).double().eval()
    close(FrozenBatchNorm2d.from_batch_norm(bare)(example()), bare(example()), TIGHT, "bare")


def test_a_frozen_network_takes_the_state_of_a_trained_one() -> None:
    trained, frozen = ResNet(1, 5, norm="bn", seed=0), ResNet(1, 5, norm="frozen_bn", seed=1)
    x = draw(4, 3, 8, 8).float()
    trained(x)
    frozen.load_state_dict(trained.state_dict())
    for model in (trained.eval(), frozen):
        assert model.fc.weight.requires_grad
    assert torch.equal(frozen.train()(x), trained(x))
    again = {name: t.clone() for name, t in trained.state_dict().items()}
    frozen.load_state_dict(again)
    assert any(name.endswith("num_batches_tracked") for name in again), "a state dict is not ours"


@pytest.mark.parametrize(
    "layer",
    [nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False), nn.Identity()],
    ids=lambda layer: type(layer).__name__,
)
def test_only_batch_norm_with_statistics_can_be_frozen(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match="takes a layer of batch normalization that has running"):
        FrozenBatchNorm2d.from_batch_norm(layer)


# Ghost batch normalization -------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("momentum", [0.1, None], ids=str)
def test_ghost_batch_norm_with_one_chunk_is_batch_norm(
    training: bool, momentum: float | None
) -> None:
    a = scramble(GhostBatchNorm2d(CHANNELS, momentum=momentum, virtual_batch_size=3))
    b = BatchNorm2d(CHANNELS, momentum=momentum)
    share_parameters(a.double().train(training), b.double().train(training))
    assert_equal_layers(a, b, example())
    assert_same_buffers(a, b)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 11),
    size=st.integers(1, 12),
    momentum=st.sampled_from([0.0, 0.1, 0.7, 1.0, None]),
)
def test_ghost_batch_norm_is_batch_norm_on_one_chunk_after_the_other(
    images: int, size: int, momentum: float | None
) -> None:
    ghost = scramble(GhostBatchNorm2d(CHANNELS, momentum=momentum, virtual_batch_size=size))
    plain = BatchNorm2d(CHANNELS, momentum=momentum).double()
    share_parameters(ghost.double(), plain)
    x = example(images=images)
    chunks = -(-images // size)
    edges = [-(-i * images // chunks) for i in range(chunks + 1)]
    parts = [x[start:stop] for start, stop in itertools.pairwise(edges)]
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size
    close(ghost(x), torch.cat([plain(part) for part in parts]), TIGHT * 10, "output")
    assert_same_buffers(ghost, plain)


def test_a_chunk_of_one_value_is_refused_before_anything_is_counted() -> None:
    layer = GhostBatchNorm2d(CHANNELS, virtual_batch_size=2)
    with pytest.raises(ValueError, match="more than one value per channel in every chunk"):
        layer(torch.zeros(3, CHANNELS, 1, 1))
    assert layer.num_batches_tracked == 0
    assert layer(torch.randn(4, CHANNELS, 1, 1)).shape == (4, CHANNELS, 1, 1)


# Batch renormalization -----------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_batch_renorm_without_correction_is_batch_norm(training: bool) -> None:
    a = scramble(BatchRenorm2d(CHANNELS, r_max=1, d_max=0)).train(training)
    b = BatchNorm2d(CHANNELS).train(training)
    share_parameters(a, b)
    x = example().float()
    assert torch.equal(a(x), b(x))
    assert all(map(torch.equal, a.buffers(), b.buffers()))
    # Nearly so is not the same way of computing it, and must be the same function.
    c = BatchRenorm2d(CHANNELS, r_max=1 + 1e-15, d_max=0).double().train(training)
    share_parameters(b.double(), c)
    assert_equal_layers(b, c, example())


def test_batch_renorm_within_its_bounds_is_what_evaluation_makes() -> None:
    layer = BatchRenorm2d(CHANNELS, r_max=1e3, d_max=1e3)
    scramble(layer).double()
    x = example()
    expected = layer.eval()(x)
    close(layer.train()(x), expected, TIGHT * 10, "output")
    assert not torch.allclose(layer.eval()(x), expected), "training moves what evaluation uses"


def test_the_gradient_of_batch_renorm_is_that_of_batch_norm_with_a_corrected_weight() -> None:
    """And where both bounds are reached, r and d are constant in truth: there differences agree."""
    layer = scramble(BatchRenorm2d(CHANNELS)).double()
    with torch.no_grad():
        layer.running_mean.fill_(100.0)
        layer.running_var.fill_(25.0)  # r at 1/3, d at -5
    g = draw(2, CHANNELS, 2, 2, seed=9)

    def f(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        state = {name: t.clone() for name, t in layer.named_buffers()}
        state |= {"weight": weight, "bias": bias}
        return torch.func.functional_call(layer, state, (x,)) * g

    x = 0.1 * draw(2, CHANNELS, 2, 2, seed=3)
    values = [t.detach().clone().requires_grad_() for t in (x, layer.weight, layer.bias)]
    assert torch.autograd.gradcheck(f, values)
    assert torch.autograd.gradgradcheck(f, values, fast_mode=True)


def test_batch_renorm_keeps_two_more_numbers_per_channel_than_batch_norm() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = draw(4, CHANNELS, 8, 8).to(dtype).requires_grad_()
        renorm, plain = (saved_bytes(kind(CHANNELS), x) for kind in (BatchRenorm2d, BatchNorm2d))
        assert max(a - b for a, b in zip(renorm, plain, strict=True)) <= 4 * 4 * CHANNELS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r_max": 0.5}, "r_max must be a number of at least 1, got 0.5"),
        ({"r_max": float("nan")}, "r_max must be a number of at least"),
        ({"r_max": True}, "r_max must be a number of at least"),
        ({"d_max": -1}, "d_max must be a number of at least 0, got -1"),
        ({"d_max": "5"}, "d_max must be a number of at least"),
        ({"d_max": float("inf")}, "d_max must be a number of at least"),
        ({"r_max": 10**400}, "r_max must be a number of at least"),
    ],
    ids=str,
)
def test_bounds_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchRenorm2d(4, **options)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "16", None])
def test_chunks_have_a_whole_number_of_images(size: Any) -> None:
    with pytest.raises(ValueError, match="virtual_batch_size must be a whole number"):
        GhostBatchNorm2d(4, virtual_batch_size=size)


# Networks ------------------------------------------------------------------------------------

NAMES = ("sync_bn", "ghost_bn", "batch_renorm", "extended_bn", "frozen_bn", "iebn")


@pytest.mark.parametrize("norm", NAMES)
def test_a_network_trains_and_is_the_one_that_was_saved(norm: str, tmp_path: Path) -> None:
    kind = CATALOG[norm].layer
    info = ModelInfo(1, ("a", "b", "c", "d", "e"), norm, "B", 3, 16, (0.5,) * 3, (0.2,) * 3)
    model = info.build(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before = model.conv.weight.detach().clone()
    for seed in (1, 2):
        loss = nn.functional.cross_entropy(
            model(draw(6, 3, 16, 16, seed=seed).float()), torch.arange(6) % 5
        )
        assert bool(loss.isfinite())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not torch.equal(model.conv.weight, before)
    found = check_sites(model, norm)
    assert {site.layer for site in found} == {kind.__name__}
    assert len(found) == sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 9
    assert all(m.bias is None for m in model.modules() if isinstance(m, nn.Conv2d))
    parts = {part.name: str(part.kind) for part in state_parts(info)}
    state = {name: str(Kind.of(t)) for name, t in model.state_dict().items()}
    assert parts == state
    save_model(tmp_path / "model", info, model.state_dict())
    x = draw(3, 3, 16, 16, seed=4).float()
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model")(x), model.eval()(x))


@pytest.mark.parametrize("norm", NAMES)
def test_a_network_with_a_part_exchanged_or_missing_is_refused(norm: str) -> None:
    for other in (BatchNorm2d(16), nn.BatchNorm2d(16), make_norm("gn", 16)):
        model = ResNet(1, 5, norm=norm, seed=0)
        model.stages[0][0].norm1 = other
        with pytest.raises(ValueError, match=r"site stages\.0\.0\.norm1 has "):
            check_sites(model, norm)
    model = ResNet(1, 5, norm=norm, seed=0)
    del model.norm0
    with pytest.raises(ValueError, match="there are 1 modules, but the arm"):
        check_sites(model, norm)


def test_a_network_with_other_options_is_refused() -> None:
    for norm, other in (
        ("batch_renorm", "batch_renorm:r_max=2"),
        ("ghost_bn", "ghost_bn:virtual_batch_size=4"),
        ("frozen_bn", "frozen_bn:eps=0.001"),
    ):
        with pytest.raises(ValueError, match="would not compare what its name says"):
            check_sites(ResNet(1, 5, norm=other, seed=0), norm)
