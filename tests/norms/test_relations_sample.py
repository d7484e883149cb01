"""Methods that take statistics of each image, alone or beside the batch's: exact relations of their
layers, and what stands where in a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from normlab.models import ModelInfo, ResNet, check_sites, load_model, save_model
from normlab.models.shapes import state_parts
from normlab.models.state import packed
from normlab.norms import (
    BatchNorm2d,
    ChannelAffine2d,
    EvoNorm2dB0,
    EvoNorm2dS0,
    FilterResponseNorm2d,
    GroupNorm2d,
    InstanceNorm2d,
    LayerNorm2d,
    LayerNormCHW,
    PositionNorm2d,
    RMSNormCHW,
    SwitchableNorm2d,
    ThresholdedLinearUnit2d,
    make_norm,
)
from normlab.norms.synchronized import Division, pooled_over

from .checks import GRADIENT, TIGHT, backward, close
from .families import MODES, draw, scramble

CHANNELS = 6
ARMS = ("rms", "pixel_ln", "position", "frn", "frn_tlu", "evonorm_s0", "evonorm_b0", "switchable")
each_mode = pytest.mark.parametrize("training", MODES.values(), ids=MODES)
numbers = st.floats(1e-6, 10.0)


def example(seed: int = 0, channels: int = CHANNELS, images: int = 3) -> Tensor:
    return draw(images, channels, 4, 5, seed=seed) + draw(images, channels, 1, 1, seed=90)


def shared(a: nn.Module, b: nn.Module) -> nn.Module:
    """``b`` in float64 with what it has in common with ``a``, and its mode."""
    ours, theirs = a.state_dict(), b.state_dict()
    b.double().load_state_dict({name: ours.get(name, t) for name, t in theirs.items()})
    return b.train(a.training)


def assert_equal_layers(a: nn.Module, b: nn.Module, x: Tensor) -> None:
    """Same output and same gradients, wherever both have the parameter; same buffers after it."""
    g = draw(*x.shape, seed=9)
    ours, theirs = backward(a, x, g), backward(b, x, g)
    for name in ours.keys() & theirs.keys():
        close(ours[name], theirs[name], GRADIENT, f"gradient of {name}")
    close(a(x), b(x), TIGHT * 4, "output")
    buffers = dict(a.named_buffers())
    for name, t in b.named_buffers():
        if name in buffers:
            close(buffers[name], t, TIGHT, name)


# ---------------------------------------------------------------------------------------------
# Root mean squares.


@settings(max_examples=10, deadline=None, derandomize=True)
@given(eps=numbers, shift=st.floats(-3.0, 3.0))
def test_rms_of_a_centred_image_is_layer_norm(eps: float, shift: float) -> None:
    layer = scramble(RMSNormCHW(CHANNELS, eps=eps)).double()
    x = example() + shift
    other = shared(layer, LayerNormCHW(CHANNELS, eps=eps))
    close(layer(x - x.mean((1, 2, 3), keepdim=True)), other(x), TIGHT * 4, "output")


@settings(max_examples=10, deadline=None, derandomize=True)
@given(eps=numbers)
def test_frn_is_rms_of_each_map(eps: float) -> None:
    x = example()
    maps = RMSNormCHW(1, eps=eps).double()(x.reshape(-1, 1, 4, 5)).view_as(x)
    close(FilterResponseNorm2d(CHANNELS, eps=eps).double()(x), maps, TIGHT, "output")


def test_frn_without_eps_has_a_mean_square_of_one() -> None:
    y = FilterResponseNorm2d(CHANNELS, eps=0.0).double()(example())
    close(y.square().mean((2, 3)), torch.ones(3, CHANNELS).double(), TIGHT, "mean square")


def test_frn_of_centred_maps_is_instance_norm() -> None:
    layer = scramble(FilterResponseNorm2d(CHANNELS, eps=1e-5)).double()
    x = example()
    close(
        layer(x - x.mean((2, 3), keepdim=True)),
        shared(layer, InstanceNorm2d(CHANNELS))(x),
        TIGHT,
        "output",
    )


def test_a_learned_eps_counts_by_its_absolute_value() -> None:
    """Otherwise a step of the optimizer could make the root that of a negative number."""
    layer = FilterResponseNorm2d(CHANNELS, learned_eps=True).double()
    nn.init.constant_(layer.extra_eps, -0.5)
    x = 1e-3 * example()
    expected = FilterResponseNorm2d(CHANNELS, eps=0.5 + 1e-6).double()
    close(layer(x), expected(x), TIGHT, "output")
    layer.reset_parameters()
    assert layer.extra_eps.item() == pytest.approx(1e-4)


def test_a_tlu_at_zero_is_relu() -> None:
    """Also in its derivative where the input is 0, as it is behind another ReLU."""
    x, g = example().relu(), draw(3, CHANNELS, 4, 5, seed=9)
    x[0, 0, 0] = -1.0
    assert bool((x == 0).any())
    found = []
    for layer in (ThresholdedLinearUnit2d(CHANNELS).double(), nn.ReLU()):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        found.append((y, *torch.autograd.grad(y, leaf, g)))
    assert all(map(torch.equal, *found))


def test_frn_is_frn_tlu_until_a_threshold_moves() -> None:
    """The same layers and initial weights, and ReLU where the thresholds of the other are."""
    frn, other = (ResNet(1, 5, norm, "B", seed=0).double() for norm in ("frn", "frn_tlu"))
    x = draw(2, 3, 8, 8)
    close(frn(x), other(x), TIGHT, "output")
    assert {type(one) for one in frn.modules() if "Linear" in type(one).__name__} == {nn.Linear}
    nn.init.constant_(other.relu.tau, -1.0)
    assert (frn(x) - other(x)).abs().max() > 1e-3


def test_a_tlu_at_minus_infinity_leaves_the_layer_alone() -> None:
    layer, tlu = make_norm("frn_tlu", CHANNELS).double(), ThresholdedLinearUnit2d(CHANNELS)
    nn.init.constant_(tlu.tau, float("-inf"))
    x = example()
    assert torch.equal(tlu.double()(layer(x)), make_norm("frn", CHANNELS).double()(x))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(tau=st.floats(-2.0, 2.0))
def test_a_tlu_is_a_relu_between_two_shifts(tau: float) -> None:
    layer, x = ThresholdedLinearUnit2d(CHANNELS).double(), example()
    nn.init.constant_(layer.tau, tau)
    close(layer(x), (x - tau).relu() + tau, TIGHT, "output")


# ---------------------------------------------------------------------------------------------
# Each pixel.


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_pixel_ln_is_layer_norm_of_torch_on_a_permutation(
    memory_format: torch.memory_format,
) -> None:
    """With its state dict."""
    layer = scramble(LayerNorm2d(CHANNELS)).double()
    other = nn.LayerNorm(CHANNELS, eps=1e-6).double()
    other.load_state_dict(layer.state_dict(), strict=True)
    x = example().contiguous(memory_format=memory_format)
    expected = other(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    close(layer(x), expected, TIGHT, "output")


def test_on_one_pixel_pixel_ln_is_ln() -> None:
    layer = scramble(LayerNorm2d(CHANNELS, eps=1e-5)).double()
    assert_equal_layers(layer, shared(layer, LayerNormCHW(CHANNELS)), example()[:, :, :1, :1])


@settings(max_examples=10, deadline=None, derandomize=True)
@given(eps=numbers)
def test_position_is_pixel_ln_with_another_divisor(eps: float) -> None:
    x, share = example(), (CHANNELS - 1) / CHANNELS
    position = PositionNorm2d(CHANNELS, eps=eps).double()
    pixel = LayerNorm2d(CHANNELS, eps=eps * share).double()
    close(position(x), share**0.5 * pixel(x), TIGHT, "output")


@pytest.mark.parametrize("layer", [LayerNorm2d, PositionNorm2d])
def test_one_channel_has_no_spread(layer: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="more than one value per pixel"):
        layer(1)(torch.ones(2, 1, 3, 3))


# ---------------------------------------------------------------------------------------------
# Switchable normalization.


def switched(training: bool, mean: int, var: int) -> SwitchableNorm2d:
    """With the whole share of the mean on one kind of statistics, and that of the variance."""
    layer = scramble(SwitchableNorm2d(CHANNELS)).double().train(training)
    with torch.no_grad():
        layer.mean_weight.copy_(1000.0 * F.one_hot(torch.tensor(mean), 3))
        layer.var_weight.copy_(1000.0 * F.one_hot(torch.tensor(var), 3))
    return layer


@each_mode
@pytest.mark.parametrize(
    ("kind", "other"), [(0, InstanceNorm2d), (1, LayerNormCHW), (2, BatchNorm2d)]
)
def test_switchable_with_one_kind_is_in_ln_or_bn(
    training: bool, kind: int, other: type[nn.Module]
) -> None:
    layer = switched(training, kind, kind)
    assert_equal_layers(layer, shared(layer, other(CHANNELS)), example())


def test_switchable_has_a_mixture_for_each_of_mean_and_variance() -> None:
    x, layer = example(), switched(True, mean=1, var=0)
    var = x.var((2, 3), correction=0, keepdim=True)
    y = (x - x.mean((1, 2, 3), keepdim=True)) / torch.sqrt(var + layer.eps)
    expected = y * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    close(layer(x), expected, TIGHT, "output")


# ---------------------------------------------------------------------------------------------
# EvoNorm.


def in_groups(x: Tensor, groups: int) -> Tensor:
    """Each group centred."""
    cut = x.unflatten(1, (groups, -1))
    return (cut - cut.mean((2, 3, 4), keepdim=True)).flatten(1, 2)


@pytest.mark.parametrize(
    "options", [{"groups": 3}, {"channels_per_group": 2}, {"groups": 1}, {"groups": 6}], ids=str
)
def test_s0_of_centred_groups_is_group_norm_with_half_of_it_or_a_relu(
    options: dict[str, Any],
) -> None:
    """The gate is a half at v = 0, and an open or closed door at a large v."""
    layer = scramble(EvoNorm2dS0(CHANNELS, **options)).double()
    assert repr(layer) == repr(EvoNorm2dS0(CHANNELS, groups=layer.groups))
    x = in_groups(example(), layer.groups)
    nn.init.zeros_(layer.bias)
    nn.init.zeros_(layer.v)
    normalized = shared(layer, GroupNorm2d(CHANNELS, **options))
    close(layer(x), normalized(x) / 2, TIGHT, "output without a gate")
    nn.init.constant_(layer.v, 1e9)
    nn.init.ones_(layer.weight)
    normalized = shared(layer, normalized)
    close(layer(x), normalized(x).relu(), TIGHT, "output with a hard gate")


@each_mode
def test_b0_without_its_gate_is_batch_norm_of_centred_channels(training: bool) -> None:
    """Where no map spreads more than its channel, which holds where the channel's maps all spread
    alike. The stored variance is the biased one."""
    layer = scramble(EvoNorm2dB0(CHANNELS)).double().train(training)
    nn.init.zeros_(layer.v)
    maps = InstanceNorm2d(CHANNELS, eps=0.0, affine=False).double()(example())
    means = draw(3, CHANNELS, 1, 1, seed=4)
    x = maps + means - means.mean(0)
    layer.running_var.copy_(1 + layer.running_var)  # above that of the maps, which is 1
    other = shared(layer, BatchNorm2d(CHANNELS))
    other.running_mean.zero_()
    before = layer.running_var.clone()
    close(layer(x), other(x), TIGHT, "output")
    if training:
        biased = x.var((0, 2, 3), correction=0)
        close(layer.running_var, 0.9 * before + 0.1 * biased, TIGHT, "running variance")
    assert layer.running_mean is None


def test_b0_far_above_its_spread_is_one_over_v() -> None:
    """The gate takes over: y approaches 1 / v from below, as the output of a saturation."""
    layer = EvoNorm2dB0(CHANNELS).double()
    nn.init.constant_(layer.v, 4.0)
    x = example() * 1e-3 + 1e6
    close(layer(x), torch.full_like(x, 0.25), 1e-8, "output")


@pytest.mark.parametrize("norm", ["evonorm_b0", "switchable"])
def test_batch_statistics_are_those_of_all_processes(norm: str) -> None:
    """Two processes with one and with two images make what one process makes of the three."""
    x = example(channels=16)
    whole = scramble(make_norm(norm, 16)).double()
    expected, counts, sums = whole(x), (1, 2), {}

    def part(rank: int, others: Tensor | None) -> tuple[Tensor, nn.Module]:
        def total(own: Tensor) -> Tensor:
            sums[rank] = own
            return own if others is None else own + others

        layer = scramble(make_norm(norm, 16)).double()
        with pooled_over(Division(total, rank, counts)):
            return layer(torch.split(x, counts)[rank]), layer

    for rank in (0, 1):
        part(rank, None)  # what each puts into the sum
    own = dict(sums)
    parts = [part(rank, own[1 - rank]) for rank in (0, 1)]
    close(torch.cat([y for y, _ in parts]), expected, TIGHT * 4, "output")
    for _, layer in parts:
        for name, buffer in whole.named_buffers():
            close(layer.get_buffer(name), buffer, TIGHT, name)


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ("evonorm_s0:groups=16", (3, 16, 1, 1), "EvoNorm2dS0 needs more than one value per group"),
        ("evonorm_b0", (3, 16, 1, 1), "EvoNorm2dB0 needs more than one value per map"),
        ("switchable", (3, 16, 1, 1), "SwitchableNorm2d needs more than one value per map"),
        ("evonorm_b0", (0, 16, 2, 2), "EvoNorm2dB0 cannot train on an empty batch"),
    ],
)
def test_input_without_a_value_is_refused_before_state_changes(
    text: str, shape: tuple[int, ...], said: str
) -> None:
    layer = make_norm(text, 16)
    before = {name: t.clone() for name, t in layer.state_dict().items()}
    with pytest.raises(ValueError, match=said):
        layer(torch.ones(shape))
    assert all(torch.equal(t, before[name]) for name, t in layer.state_dict().items())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evonorm_s0:groups=5", "groups must divide the 16 channels, got 5"),
        ("evonorm_s0:groups=2:channels_per_group=8", "Give groups or channels_per_group, not both"),
        ("frn_tlu:learned_eps=maybe", "learned_eps of frn_tlu must be true or false, got 'maybe'"),
        ("frn_tlu:eps=-1", "eps must be a number of at least 0, got -1"),
        ("evonorm_b0:momentum=2", "between 0 and 1"),
        ("switchable:momentum=nan", "between 0 and 1"),
        ("position:eps=nan", "eps must be a number of at least 0"),
        ("rms:affine=maybe", "affine of rms must be true or false, got 'maybe'"),
    ],
)
def test_mistakes_in_options_are_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_norm(text, 16)


# ---------------------------------------------------------------------------------------------
# In a network.


@pytest.mark.parametrize("norm", ARMS)
def test_a_network_trains_and_comes_back_from_its_file(norm: str, tmp_path: Path) -> None:
    info = ModelInfo(1, ("a", "b", "c"), norm, "B", 3, 8, (0.5,) * 3, (0.25,) * 3)
    model = info.build(seed=0)
    check_sites(model, norm)
    expected = {name: tuple(t.shape) for name, t in packed(model.state_dict()).items()}
    assert {p.name: p.kind.shape for p in state_parts(info) if p.kind} == expected
    before = {name: t.clone() for name, t in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, target = draw(6, 3, 8, 8).float(), torch.arange(6) % 3
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()
    still = [name for name, t in model.state_dict().items() if torch.equal(t, before[name])]
    assert not still, "nothing has moved these"
    save_model(tmp_path / "seed-0", info, model.state_dict())
    loaded = load_model(tmp_path / "seed-0")
    check_sites(loaded, norm)
    assert torch.equal(loaded.eval()(x), model.eval()(x))


def kinds(model: nn.Module, kind: type[nn.Module]) -> set[str]:
    return {name for name, module in model.named_modules() if type(module) is kind}


def test_the_tlu_is_every_activation() -> None:
    model, plain = (ResNet(2, 5, norm, "B", seed=0) for norm in ("frn_tlu", "bn"))
    assert kinds(model, FilterResponseNorm2d) == kinds(plain, BatchNorm2d)
    assert kinds(model, ThresholdedLinearUnit2d) == kinds(plain, nn.ReLU)
    assert kinds(model, nn.ReLU) == set()


@pytest.mark.parametrize("norm", ["evonorm_b0", "evonorm_s0"])
def test_an_evonorm_is_normalization_and_activation_at_once(norm: str) -> None:
    """Before a sum and on a shortcut a scale and a shift are left of it, and ReLU follows sums."""
    model = ResNet(2, 5, norm, "B", seed=0)
    blocks = [f"stages.{stage}.{block}" for stage in range(3) for block in range(2)]
    layer = EvoNorm2dB0 if norm == "evonorm_b0" else EvoNorm2dS0
    assert kinds(model, layer) == {"norm0", *(f"{block}.norm1" for block in blocks)}
    assert kinds(model, nn.Identity) == {"relu", *(f"{block}.relu1" for block in blocks)}
    shortcuts = {f"stages.{stage}.0.projection.norm" for stage in (1, 2)}
    assert kinds(model, ChannelAffine2d) == {*(f"{block}.norm2" for block in blocks), *shortcuts}
    assert kinds(model, nn.ReLU) == {f"{block}.relu2" for block in blocks}


def test_options_reach_every_part() -> None:
    model = ResNet(1, 5, "evonorm_s0:affine=false:channels_per_group=4", seed=0)
    assert [m.groups for m in model.modules() if isinstance(m, EvoNorm2dS0)] == [4, 4, 8, 16]
    assert all(m.weight is None for m in model.modules() if isinstance(m, ChannelAffine2d))


@pytest.mark.parametrize(
    ("norm", "path", "other"),
    [
        ("rms", "norm0", LayerNormCHW(16)),
        ("pixel_ln", "norm0", PositionNorm2d(16, eps=1e-6)),
        ("position", "stages.0.0.norm1", PositionNorm2d(16, eps=1e-6)),
        ("switchable", "stages.1.0.norm2", BatchNorm2d(32)),
        ("frn_tlu", "relu", nn.ReLU()),
        ("frn_tlu", "stages.0.0.relu2", nn.Identity()),
        ("frn_tlu", "stages.2.0.norm1", FilterResponseNorm2d(64, learned_eps=True)),
        ("evonorm_s0", "stages.0.0.relu1", nn.ReLU()),
        ("evonorm_s0", "stages.0.0.norm2", EvoNorm2dS0(16)),
        ("evonorm_s0", "stages.0.0.norm1", EvoNorm2dS0(16, groups=4)),
        ("evonorm_b0", "stages.0.0.norm2", EvoNorm2dB0(16)),
        ("evonorm_b0", "stages.1.0.relu2", nn.Identity()),
    ],
)
def test_a_part_that_is_missing_or_exchanged_is_refused(
    norm: str, path: str, other: nn.Module
) -> None:
    model = ResNet(1, 5, norm=norm, seed=0)
    model.set_submodule(path, other)
    with pytest.raises(ValueError, match=f"site {path} has {type(other).__name__}"):
        check_sites(model, norm)
