"""Methods that put different things at different places: exact relations of their layers, and what
stands where in a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from normlab.models import ModelInfo, ResNet, check_sites, load_model, save_model
from normlab.norms import (
    BatchNorm2d,
    DivisiveNorm2d,
    GlobalResponseNorm2d,
    GroupNorm2d,
    InstanceBatchNorm2d,
    InstanceNorm2d,
    LayerNormCHW,
    LocalResponseNorm2d,
    ProxyGroupNorm2d,
    make_norm,
)
from normlab.norms.methods.grn import ReLUGlobalResponseNorm2d
from normlab.norms.methods.lrn import ReLULocalResponseNorm2d

from .checks import GRADIENT, TIGHT, backward, close
from .families import MODES, draw, same_state, scramble

CHANNELS = 6
PLACES = ("ibn_a", "ibn_b", "grn", "lrn", "divisive", "proxy_gn")
each_mode = pytest.mark.parametrize("training", MODES.values(), ids=MODES)


def example(seed: int = 0, channels: int = CHANNELS) -> Tensor:
    return draw(3, channels, 4, 5, seed=seed) + draw(3, channels, 1, 1, seed=90)


# ---------------------------------------------------------------------------------------------
# IBN-Net.


@each_mode
def test_the_halves_of_ibn_a_are_instance_and_batch_norm(training: bool) -> None:
    """Output, gradients and running statistics; with five channels the second half has three."""
    layer = scramble(InstanceBatchNorm2d(5)).double().train(training)
    by_map, by_batch = InstanceNorm2d(2).double(), BatchNorm2d(3).double().train(training)
    state = layer.state_dict()
    by_map.load_state_dict({name: state[name][:2] for name in ("weight", "bias")})
    by_batch.load_state_dict({n: t if "_" in n else t[2:] for n, t in state.items()})
    for seed in range(3):
        x, g = example(seed, 5), draw(3, 5, 4, 5, seed=9)
        ours = backward(layer, x, g)
        parts = [backward(by_map, x[:, :2], g[:, :2]), backward(by_batch, x[:, 2:], g[:, 2:])]
        for name, found in ours.items():
            expected = torch.cat([part[name] for part in parts], 1 if name == "x" else 0)
            close(found, expected, GRADIENT, f"gradient of {name}")
        close(layer(x), torch.cat((by_map(x[:, :2]), by_batch(x[:, 2:])), 1), TIGHT, "output")
    for name, t in by_batch.named_buffers():
        assert torch.equal(t, layer.get_buffer(name)), name


@pytest.mark.parametrize("channel", [1, 4])
def test_a_nan_stays_in_its_half(channel: int) -> None:
    """In its map, or in its channel of the batch."""
    layer = scramble(InstanceBatchNorm2d(CHANNELS))
    x = example().float()
    x[1, channel, 2, 3] = torch.nan
    x.requires_grad_()
    expected = torch.zeros(x.shape, dtype=torch.bool)
    expected[1 if channel < 3 else slice(None), channel] = True
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(y.isnan(), expected)
    assert torch.equal(x.grad.isnan(), expected)
    assert layer.running_mean is not None
    assert torch.equal(layer.running_mean.isnan(), torch.arange(3, 6) == channel)


def test_channels_of_a_half_have_no_order() -> None:
    layer = scramble(InstanceBatchNorm2d(CHANNELS)).double().eval()
    x, order = example(), torch.tensor([2, 0, 1, 5, 3, 4])
    y = layer(x)
    state = {n: t[order] for n, t in layer.state_dict().items() if t.shape == (CHANNELS,)}
    running = {n: layer.get_buffer(n)[[2, 0, 1]] for n in ("running_mean", "running_var")}
    layer.load_state_dict({**layer.state_dict(), **state, **running})
    close(layer(x[:, order]), y[:, order], TIGHT, "output")


def test_one_channel_has_no_halves() -> None:
    with pytest.raises(ValueError, match="at least two channels"):
        InstanceBatchNorm2d(1)


# ---------------------------------------------------------------------------------------------
# Local response normalization.


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([1, 3, 5, 9, 15]),
    alpha=st.floats(0, 2),
    beta=st.floats(0, 2),
    k=st.floats(0.1, 3),
)
def test_torch_weighs_alpha_by_the_mean(size: int, alpha: float, beta: float, k: float) -> None:
    ours = LocalResponseNorm2d(CHANNELS, size, alpha, beta, k)
    theirs = nn.LocalResponseNorm(size, size * alpha, beta, k)
    x, g = example(), draw(3, CHANNELS, 4, 5, seed=9)
    close(ours(x), theirs(x), TIGHT, "output")
    close(backward(ours, x, g)["x"], backward(theirs, x, g)["x"], GRADIENT, "gradient")


def test_a_nan_reaches_the_neighbours_of_its_channel() -> None:
    x = example().float()
    x[1, 1, 2, 3] = torch.nan
    expected = torch.zeros(x.shape, dtype=torch.bool)
    expected[1, :4, 2, 3] = True  # channels 0 to 3, of six
    assert torch.equal(LocalResponseNorm2d(CHANNELS)(x).isnan(), expected)
    assert torch.equal(ReLULocalResponseNorm2d(CHANNELS)(x).isnan(), expected)


def test_images_and_reversed_channels_are_treated_alike() -> None:
    layer, x = LocalResponseNorm2d(CHANNELS, alpha=1.0), example()
    close(layer(x[[2, 0, 1]]), layer(x)[[2, 0, 1]], TIGHT, "permuted images")
    close(layer(x.flip(1)), layer(x).flip(1), TIGHT, "reversed channels")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("size=4", "size must be an odd whole number of at least 1, got 4"),
        ("size=true", "size must be an odd whole number"),
        ("size=5.0", "size must be an odd whole number"),
        ("alpha=-1", "alpha must be a number of at least 0, got -1"),
        ("alpha=nan", "alpha must be a number of at least 0"),
        ("beta=true", "beta must be a number of at least 0"),
        ("k=0", "k must be a number above 0, got 0"),
        ("k=some", "k must be a number above 0, got 'some'"),
    ],
)
def test_constants_that_are_refused(options: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_norm(f"lrn:{options}", CHANNELS)


# ---------------------------------------------------------------------------------------------
# Global response normalization.


def test_global_response_norm_starts_as_the_identity() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16):
        x = 100 * example().to(dtype)
        assert torch.equal(GlobalResponseNorm2d(CHANNELS)(x), x)
        assert torch.equal(ReLUGlobalResponseNorm2d(CHANNELS)(x), x.relu())
    layer = scramble(GlobalResponseNorm2d(CHANNELS))
    layer.reset_parameters()
    assert torch.equal(layer(x.float()), x.float())


def test_shares_know_no_scale_and_have_the_mean_one() -> None:
    layer = scramble(GlobalResponseNorm2d(CHANNELS, eps=0.0)).double()
    nn.init.zeros_(layer.bias)
    x = example()
    close(layer(30 * x), 30 * layer(x), TIGHT * 30, "output of the scaled input")
    nn.init.ones_(layer.weight)
    shares = (layer(x) / x - 1)[:, :, 0, 0]
    close(shares.mean(1), torch.ones(3), TIGHT, "mean share of an image")
    alone = GlobalResponseNorm2d(1, eps=0.0).double()
    nn.init.constant_(alone.weight, 0.5)
    close(alone(x[:, :1]), 1.5 * x[:, :1], TIGHT, "one channel has all")


def test_channels_that_are_all_zero_have_gradients() -> None:
    """After a ReLU some are; the derivative of their norm has no direction."""
    layer = scramble(ReLUGlobalResponseNorm2d(CHANNELS)).double()
    x = example()
    x[:, 2] = -1.0
    x[1] = -1.0
    for name, gradient in backward(layer, x, draw(*x.shape, seed=9)).items():
        assert bool(gradient.isfinite().all()), name


# ---------------------------------------------------------------------------------------------
# Divisive normalization.


def test_a_window_of_the_whole_image_is_layer_norm() -> None:
    """With sigma in place of eps; from every pixel, nine pixels reach across five."""
    ours = scramble(DivisiveNorm2d(CHANNELS, window=9)).double()
    theirs = LayerNormCHW(CHANNELS, eps=ours.sigma.item() ** 2).double()
    theirs.load_state_dict({name: ours.state_dict()[name] for name in ("weight", "bias")})
    x, g = example(), draw(3, CHANNELS, 4, 5, seed=9)
    close(ours(x), theirs(x), TIGHT, "output")
    found, expected = backward(ours, x, g), backward(theirs, x, g)
    for name, gradient in expected.items():
        close(found[name], gradient, GRADIENT, f"gradient of {name}")


def test_a_window_of_one_pixel_is_layer_norm_over_channels() -> None:
    layer = DivisiveNorm2d(CHANNELS, window=1, smoothing=0.3).double()
    x = example()
    y = F.layer_norm(x.movedim(1, -1), (CHANNELS,), eps=layer.sigma.item() ** 2).movedim(-1, 1)
    close(layer(x), y, TIGHT, "output")


def test_a_nan_reaches_two_windows_of_its_own_image() -> None:
    """Means of a window of three, of values less the means of such windows: two pixels away."""
    layer = scramble(DivisiveNorm2d(CHANNELS, window=3))
    x = draw(2, CHANNELS, 8, 9, seed=1).float()
    x[1, 2, 3, 4] = torch.nan
    expected = torch.zeros(x.shape, dtype=torch.bool)
    expected[1, :, 1:6, 2:7] = True
    assert torch.equal(layer(x).isnan(), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("window=4", "window must be an odd whole number of at least 1, got 4"),
        ("window=0", "window must be an odd whole number"),
        ("window=true", "window must be an odd whole number"),
        ("smoothing=-1", "smoothing must be a number of at least 0, got -1"),
        ("smoothing=nan", "smoothing must be a number of at least 0"),
    ],
)
def test_windows_that_are_refused(options: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_norm(f"divisive:{options}", CHANNELS)


# ---------------------------------------------------------------------------------------------
# Proxy-normalized activations.


def test_with_a_proxy_that_never_fires_it_is_group_norm_and_relu() -> None:
    """A constant below 0 has mean and variance 0 after the ReLU; an eps of 1 divides by 1."""
    layer = scramble(ProxyGroupNorm2d(16, groups=4, proxy_eps=1.0)).double()
    with torch.no_grad():
        layer.proxy_scale.fill_(-1.0)
        layer.proxy_mean.copy_(-(layer.bias.abs() + 1) / layer.weight)
    gn = GroupNorm2d(16, groups=4).double()
    gn.load_state_dict({name: layer.state_dict()[name] for name in ("weight", "bias")})
    x = example(channels=16)
    close(layer(x), gn(x).relu(), TIGHT, "output")


def test_a_channel_that_is_its_proxy_gets_mean_zero() -> None:
    """Maps of the 200 quantiles in some order, one group a channel: what follows the ReLU has the
    proxy's moments, so the output has mean 0 and variance v / (v + proxy_eps)."""
    at = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    quantiles = torch.special.ndtri(at)
    layer = scramble(ProxyGroupNorm2d(4, groups=4, eps=0.0)).double()
    with torch.no_grad():  # group norm gives the quantiles the variance 1
        layer.proxy_scale.fill_(1 / quantiles.square().mean().sqrt().item() - 1)
        layer.proxy_mean.zero_()
    generator = torch.Generator().manual_seed(0)
    x = torch.stack([quantiles[torch.randperm(200, generator=generator)] for _ in range(4)])
    y = layer(3 * x.view(1, 4, 10, 20) + 7)
    gn = GroupNorm2d(4, groups=4, eps=0.0).double()
    gn.load_state_dict({name: layer.state_dict()[name] for name in ("weight", "bias")})
    v = gn(x.view(1, 4, 10, 20)).relu().var((0, 2, 3), correction=0)
    close(y.mean((0, 2, 3)), torch.zeros(4), TIGHT, "mean")
    close(y.var((0, 2, 3), correction=0), v / (v + 0.03), TIGHT, "variance")


def test_the_first_proxy_has_the_moments_of_a_rectified_gaussian() -> None:
    """1 / sqrt(2 pi) and 1/2 - 1 / (2 pi), as far as 200 quantiles tell; a value of group norm
    at 0 becomes minus the mean over the root of the variance and 0.03."""
    layer = ProxyGroupNorm2d(8).double()
    x = draw(1, 8, 1, 1).expand(1, 8, 3, 4).contiguous()  # one value a group: xhat is 0
    y = layer(x)
    pi = torch.pi
    expected = -((2 * pi) ** -0.5) / (0.5 - 0.5 / pi + 0.03) ** 0.5
    close(y, torch.full_like(y, expected), 0.01, "output")


def test_a_large_shift_costs_the_variance_of_a_proxy_nothing() -> None:
    """Far above 0 the ReLU does nothing: the proxy has the variance of its slope, at 1e4 too."""
    layer = ProxyGroupNorm2d(8)
    gaussian = torch.special.ndtri((torch.arange(200.0) + 0.5) / 200)
    nn.init.constant_(layer.bias, 1e4)
    mean, var = layer._proxy_moments(gaussian)
    close(var, gaussian.square().mean().expand(1, 8, 1, 1), 1e-6, "variance")
    close(mean, torch.full((1, 8, 1, 1), 1e4), 1e-6, "mean")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("groups=3", "groups must divide the 16 channels, got 3"),
        ("groups=4:channels_per_group=4", "Give groups or channels_per_group, not both"),
        ("proxy_eps=-0.1", "proxy_eps must be a number of at least 0, got -0.1"),
        ("proxy_eps=true", "proxy_eps must be a number of at least 0"),
    ],
)
def test_proxies_that_are_refused(options: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_norm(f"proxy_gn:{options}", 16)


# ---------------------------------------------------------------------------------------------
# What stands where.


def names_of(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if type(module) is kind]


def test_instance_norm_stands_where_ibn_net_has_it() -> None:
    a = ResNet(2, 5, norm="ibn_a", shortcut="B", seed=0)
    assert names_of(a, InstanceBatchNorm2d) == [
        f"stages.{stage}.{block}.norm1" for stage in (0, 1) for block in (0, 1)
    ]
    assert len(names_of(a, BatchNorm2d)) == 13 - 4 + 2
    assert not names_of(a, InstanceNorm2d)
    b = ResNet(2, 5, norm="ibn_b", shortcut="B", seed=0)
    assert names_of(b, InstanceNorm2d) == [
        "norm0",
        "stages.0.1.after_sum",
        "stages.1.1.after_sum",
    ]
    assert len(names_of(b, BatchNorm2d)) == 12 + 2


def test_the_last_sum_of_early_stages_is_normalized_before_its_relu() -> None:
    model = ResNet(1, 5, norm="ibn_b", seed=0)
    seen: dict[str, Tensor] = {}
    for name in ("stages.0.0.after_sum", "stages.0.0.relu2"):
        model.get_submodule(name).register_forward_hook(
            lambda _, x, y, name=name: seen.update({name: y})
        )
    model(draw(2, 3, 8, 8).float())
    y = seen["stages.0.0.after_sum"]
    close(y.mean((2, 3)), torch.zeros(2, 16), 1e-5, "mean of a map")
    assert torch.equal(seen["stages.0.0.relu2"], y.relu())


@pytest.mark.parametrize(
    ("norm", "layers", "activations", "bias"),
    [
        (
            "grn",
            ["LayerNorm2d"] * 4,
            ["ReLU", "ReLUGlobalResponseNorm2d", "ReLU"],
            False,
        ),
        (
            "lrn",
            ["NoNorm2d"] * 4,
            ["ReLULocalResponseNorm2d", "ReLULocalResponseNorm2d", "ReLU"],
            True,
        ),
        ("divisive", ["DivisiveNorm2d"] * 4, ["ReLU"] * 3, False),
        (
            "proxy_gn",
            ["ProxyGroupNorm2d", "ProxyGroupNorm2d", "GroupNorm2d", "GroupNorm2d"],
            ["Identity", "Identity", "ReLU"],
            False,
        ),
    ],
)
def test_what_stands_around_each_convolution(
    norm: str, layers: list[str], activations: list[str], bias: bool
) -> None:
    """Layers of the stem, of a block's convolutions and of a shortcut; activations of the first
    three."""
    model = ResNet(1, 5, norm=norm, shortcut="B", seed=0)
    block = "stages.1.0."
    found = [
        type(model.get_submodule(name)).__name__
        for name in ("norm0", f"{block}norm1", f"{block}norm2", f"{block}projection.norm")
    ]
    assert found == layers
    found = [
        type(model.get_submodule(name)).__name__
        for name in ("relu", f"{block}relu1", f"{block}relu2")
    ]
    assert found == activations
    assert (model.conv.bias is not None) == bias


def test_options_reach_every_part() -> None:
    ibn = ResNet(1, 5, norm="ibn_b:eps=0.5:momentum=0.3", seed=0)
    assert {ibn.norm0.eps, ibn.get_submodule("stages.0.0.norm1").eps} == {0.5}
    assert ibn.get_submodule("stages.0.0.norm1").momentum == 0.3
    lrn = ResNet(1, 5, norm="lrn:size=3:k=1", seed=0)
    assert (lrn.relu.size, lrn.relu.k) == (3, 1.0)
    proxy = ResNet(1, 5, norm="proxy_gn:groups=4:proxy_eps=0.1", seed=0)
    assert {proxy.norm0.groups, proxy.get_submodule("stages.0.0.norm2").groups} == {4}
    assert proxy.norm0.proxy_eps == 0.1


@pytest.mark.parametrize("norm", PLACES)
def test_a_network_trains_and_comes_back_from_its_file(norm: str, tmp_path: Path) -> None:
    info = ModelInfo(1, ("a", "b", "c"), norm, "B", 3, 8, (0.5,) * 3, (0.25,) * 3)
    model = info.build(seed=0)
    check_sites(model, norm)
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


@pytest.mark.parametrize(
    ("norm", "path", "other"),
    [
        ("ibn_a", "stages.0.0.norm1", BatchNorm2d(16)),
        ("ibn_a", "stages.2.0.norm1", InstanceBatchNorm2d(64)),
        ("ibn_b", "norm0", BatchNorm2d(16)),
        ("ibn_b", "stages.1.0.after_sum", None),
        ("ibn_b", "stages.1.0.after_sum", InstanceNorm2d(32, eps=0.1)),
        ("grn", "stages.0.0.relu1", nn.ReLU()),
        ("grn", "stages.0.0.norm1", GlobalResponseNorm2d(16)),
        ("lrn", "relu", nn.ReLU()),
        ("lrn", "stages.0.0.relu1", ReLULocalResponseNorm2d(16, size=3)),
        ("divisive", "stages.0.0.norm2", DivisiveNorm2d(16, window=3)),
        ("proxy_gn", "relu", nn.ReLU()),
        ("proxy_gn", "stages.0.0.norm2", ProxyGroupNorm2d(16)),
    ],
)
def test_a_part_that_is_missing_or_exchanged_is_refused(
    norm: str, path: str, other: nn.Module | None
) -> None:
    model = ResNet(1, 5, norm=norm, seed=0)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, other)
    with pytest.raises(ValueError, match=r"but the arm|would not compare"):
        check_sites(model, norm)


@pytest.mark.parametrize("norm", PLACES)
def test_in_a_network_without_places_the_layer_follows_each_convolution(norm: str) -> None:
    bias = norm == "lrn"
    conv = nn.Conv2d(3, 8, 3, bias=bias)
    found = check_sites(nn.Sequential(conv, make_norm(norm, 8), nn.ReLU()), norm)
    assert [site.name for site in found] == ["1"]
    layer = make_norm(norm, 8).double()
    again = same_state(make_norm(norm, 8), scramble(layer))
    assert torch.equal(again(example(channels=8)), layer(example(channels=8)))
