"""The exact relations of methods with normalized weights, and of those without normalization; and
what each makes of a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.models import ResNet, check_sites
from normlab.models.resnet import Block
from normlab.norms import (
    CATALOG,
    DynamicErf2d,
    DynamicTanh2d,
    FixupBias2d,
    FixupConv2d,
    FixupScale2d,
    HeStandardizedConv2d,
    NoNorm2d,
    ScaledSkipInit2d,
    ScaledStandardizedConv2d,
    SkipInit2d,
    StandardizedConv2d,
    WeightNormConv2d,
    parse_norm,
)
from normlab.norms.methods.scaled_ws import RELU_GAIN
from normlab.runs import RunConfig
from normlab.training.optimizer import LayerAwareOptimizer

from .checks import TIGHT, backward, close
from .convolutions import CONVOLUTIONS, WEIGHT_SIDE, effective, image, scrambled
from .families import draw, scramble

METHODS = ("weight_norm", "ws", "gn+ws", "scaled_ws", "fixup", "skipinit", "dyt", "derf")
each_method = pytest.mark.parametrize("norm", METHODS)
numbers = st.floats(0.1, 10)
SEVERAL = settings(max_examples=15, deadline=None, derandomize=True)


def made(kind: type[nn.Conv2d], weight: Tensor, **options: Any) -> nn.Conv2d:
    """A convolution in float64 with this weight, drawn as a network draws it."""
    outputs, inputs, *size = weight.shape
    layer = kind(inputs, outputs, size, padding=1, **options).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        if isinstance(layer, WeightNormConv2d):
            layer.weight_drawn()
    return layer


def standardized(*shape: int, seed: int = 0) -> Tensor:
    weight = draw(*shape, seed=seed)
    var, mean = torch.var_mean(weight, (1, 2, 3), correction=0, keepdim=True)
    return (weight - mean) / var.sqrt()


# ---------------------------------------------------------------------------------------------
# Filters.


@pytest.mark.parametrize("name", WEIGHT_SIDE)
def test_a_trained_convolution_is_a_plain_one_with_its_effective_weight(name: str) -> None:
    layer = scrambled(CONVOLUTIONS[name].make(stride=2)).double()
    plain = nn.Conv2d(4, 6, 3, stride=2, padding=1).double()
    with torch.no_grad():
        plain.weight.copy_(layer.effective_weight())
        plain.bias.copy_(layer.bias)
    x, g = image(), draw(2, 6, 3, 3, seed=9)
    assert torch.equal(layer(x), plain(x))
    ours, theirs = backward(layer, x, g), backward(plain, x, g)
    assert torch.equal(ours["x"], theirs["x"])
    assert torch.equal(ours["bias"], theirs["bias"])


def test_standardized_filters_stay_as_they_are() -> None:
    """Less eps, which can be told exactly: the spread is 1."""
    weight = standardized(6, 4, 3, 3)
    close(effective(made(StandardizedConv2d, weight)), weight / (1 + 1e-5), TIGHT, "filters")
    layer = made(StandardizedConv2d, weight, weight_eps=1e-300)
    close(effective(layer), weight, TIGHT, "filters without eps")
    plain = made(nn.Conv2d, weight)
    plain.load_state_dict(layer.state_dict())
    close(layer(image()), plain(image()), TIGHT * 100, "output")


@SEVERAL
@given(factor=numbers, shift=st.floats(-10, 10), eps=st.floats(1e-8, 1e-2))
def test_standardization_forgets_mean_and_scale(factor: float, shift: float, eps: float) -> None:
    """Exactly so with an eps that is scaled too."""
    weight = draw(6, 4, 3, 3)
    for kind in (StandardizedConv2d, HeStandardizedConv2d, ScaledStandardizedConv2d):
        scale = factor**2 if kind is ScaledStandardizedConv2d else factor
        one = made(kind, weight, weight_eps=eps)
        other = made(kind, factor * weight + shift, weight_eps=scale * eps)
        close(effective(other), effective(one), TIGHT * 100, kind.__name__)


@SEVERAL
@given(factor=numbers)
def test_a_direction_has_no_length(factor: float) -> None:
    one, other = (made(WeightNormConv2d, t * draw(6, 4, 3, 3)) for t in (1, factor))
    close(other.gain, factor * one.gain, TIGHT * 10, "the gain at the start")
    with torch.no_grad():
        other.gain.copy_(one.gain)
    close(effective(other), effective(one), TIGHT * 10, "filters")


def test_moments_of_filters_are_exact() -> None:
    weight = draw(6, 4, 3, 3) + 3
    n, var = 36, torch.var(weight, (1, 2, 3), correction=0)
    shrunk = var.sqrt() / (var.sqrt() + 0.5)
    for kind, options, spread in (
        (StandardizedConv2d, {"weight_eps": 0.5}, shrunk),
        (HeStandardizedConv2d, {"weight_eps": 0.5}, (2 / n) ** 0.5 * shrunk),
        (ScaledStandardizedConv2d, {}, RELU_GAIN / n**0.5 * torch.ones_like(var)),
    ):
        found = effective(made(kind, weight, **options))
        close(found.mean((1, 2, 3)), torch.zeros(6), TIGHT, "mean")
        close(torch.std(found, (1, 2, 3), correction=0), spread, TIGHT, kind.__name__)


def test_the_gain_of_relu_keeps_its_variance() -> None:
    """By numerical integration of the normal density: what passed a ReLU has variance 1 after."""
    z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    passed = RELU_GAIN * z.clamp_min(0)
    mean = torch.trapezoid(passed * density, z)
    var = torch.trapezoid((passed - mean).square() * density, z)
    assert var.item() == pytest.approx(1, rel=1e-7)


def test_the_bias_of_the_input_is_one_of_the_output_away_from_the_border() -> None:
    layer = scrambled(FixupConv2d(4, 6, 3, padding=1)).double()
    x = image()
    plain = F.conv2d(x, layer.weight, layer.bias, padding=1)
    added = layer.input_bias * layer.weight.sum((1, 2, 3)).view(1, -1, 1, 1)
    found = layer(x) - plain
    close(found[:, :, 1:-1, 1:-1], added.expand(2, 6, 3, 4), TIGHT * 10, "inside")
    assert (found - added)[:, :, 0].abs().min() > 1e-3, "padding stays zero"


# ---------------------------------------------------------------------------------------------
# Functions of single values.


@SEVERAL
@given(alpha=numbers)
def test_dynamic_tanh_of_small_values_is_affine(alpha: float) -> None:
    """tanh z = z - z^3 / 3 + ..., so what is missing is of third order."""
    layer = scramble(DynamicTanh2d(6, alpha_init=alpha)).double()
    nn.init.constant_(layer.alpha, alpha)
    x = draw(2, 6, 3, 3).clamp(-3, 3)
    weight, bias = (t.view(1, -1, 1, 1) for t in (layer.weight, layer.bias))
    for size in (1e-2, 1e-3):
        z = alpha * size * x
        bound = (weight * z**3 / 3).abs().max().item()
        error = (layer(size * x) - (weight * z + bias)).abs().max().item()
        assert error <= bound * (1 + 1e-6) + 1e-15


def test_dynamic_tanh_is_odd_but_for_its_bias_and_so_is_dynamic_erf_without_shift() -> None:
    x = draw(2, 6, 3, 3)
    for kind in (DynamicTanh2d, DynamicErf2d):
        layer = scramble(kind(6)).double()
        if kind is DynamicErf2d:
            nn.init.zeros_(layer.shift)
        bias = layer.bias.view(1, -1, 1, 1)
        close(layer(-x) - bias, -(layer(x) - bias), TIGHT, kind.__name__)
    nn.init.constant_(layer.shift, 0.3)
    assert (layer(-x) + layer(x) - 2 * bias).abs().max() > 0.1


def test_dynamic_erf_is_the_share_of_a_normal_below_a_value() -> None:
    """erf(z) = 2 P(Z < sqrt(2) z) - 1, the relation that its paper names."""
    layer = scramble(DynamicErf2d(6)).double()
    x = draw(2, 6, 3, 3)
    share = torch.special.ndtr(math.sqrt(2) * (layer.alpha * x + layer.shift))
    weight, bias = (t.view(1, -1, 1, 1) for t in (layer.weight, layer.bias))
    close(layer(x), weight * (2 * share - 1) + bias, TIGHT * 10, "output")


# PyTorch's own modules use what it deprecates, when forward mode is first imported.
@pytest.mark.filterwarnings("ignore:.torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("kind", [DynamicTanh2d, DynamicErf2d])
def test_every_way_to_a_derivative_is_the_same(kind: type[nn.Module]) -> None:
    """Backward in few passes, torch.func, forward mode, several gradients at once; and some of the
    parameters alone."""
    layer = scramble(kind(6)).double()
    x, g, tangent = (draw(2, 6, 3, 3, seed=seed) for seed in (0, 9, 5))
    expected = backward(layer, x, g)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def f(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(layer, parameters, (x,))
        return y

    found, d_x = torch.func.grad(lambda *given: (g * f(*given)).sum(), (0, 1))(parameters, x)
    for name, d in {**found, "x": d_x}.items():
        close(d, expected[name], TIGHT * 10, f"{name} by torch.func")
    batch = torch.stack([g, 2 * g])
    leaf = x.clone().requires_grad_()
    at_once = torch.autograd.grad(
        layer(leaf), [leaf, *layer.parameters()], batch, is_grads_batched=True
    )
    for d, name in zip(at_once, expected, strict=True):
        close(d, torch.stack([expected[name], 2 * expected[name]]), TIGHT * 10, f"{name} at once")
    _, along = torch.func.jvp(lambda x: f(parameters, x), (x,), (tangent,))
    close((g * along).sum(), (expected["x"] * tangent).sum(), TIGHT * 100, "forward mode")
    for name, p in layer.named_parameters():
        for other in layer.parameters():
            other.requires_grad_(other is p)
        (alone,) = torch.autograd.grad(layer(x), p, g)
        close(alone, expected[name], TIGHT * 10, f"{name} alone")
    bare = kind(6, affine=False).double()
    close(bare(x), kind(6).double()(x), TIGHT, "without weight and bias")
    y = bare(x)
    y.relu_()
    y.sum().backward()


def test_a_closed_branch_gives_zeros_and_an_open_one_is_scaled() -> None:
    x = draw(2, 6, 3, 3)
    for layer, factor in ((SkipInit2d(6), 1.0), (ScaledSkipInit2d(6, alpha=0.5), 0.5)):
        layer.double()
        assert not layer(x).any()
        nn.init.constant_(layer.scale, 3.0)
        close(layer(x), 3 * factor * x, TIGHT, "output")


# ---------------------------------------------------------------------------------------------
# Networks.


def test_weight_normalization_starts_as_plain_convolutions() -> None:
    """Bit by bit: the gain is the length, and their quotient 1."""
    x = draw(2, 3, 9, 9).float()
    ours, plain = ResNet(1, 5, "weight_norm", "B", seed=3), ResNet(1, 5, "none", "B", seed=3)
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.conv.gain, torch.linalg.vector_norm(plain.conv.weight, dim=(1, 2, 3)))


@pytest.mark.parametrize("norm", ["fixup", "skipinit", "scaled_ws"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_blocks_start_as_their_shortcut(norm: str, shortcut: Any) -> None:
    model = ResNet(2, 5, norm, shortcut, seed=1)
    seen = []
    for module in model.modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda block, x, y: seen.append((block, x[0], y)))
    model(draw(2, 3, 12, 12).float())
    assert len(seen) == 6
    for block, x, y in seen:
        assert torch.equal(y, block._short(x).relu())
        assert block.norm1(block.conv1(x)).abs().max() > 0, "the branch itself is not closed"


def test_fixup_draws_as_its_paper_says() -> None:
    """A network of six blocks: the first convolution of a block by 6 ** -0.5; last and classifier
    0; all other weights those of every arm."""
    ours, plain = (ResNet(2, 5, norm, "B", seed=4) for norm in ("fixup", "none"))
    weights = dict(plain.named_parameters())
    for name, p in ours.named_parameters():
        if name.endswith(("conv2.weight", "fc.weight", "bias")):
            assert not p.any(), name
        elif name.endswith("conv1.weight"):
            torch.testing.assert_close(p, weights[name] / math.sqrt(6), rtol=1e-6, atol=0)
        elif name.endswith("conv.weight"):
            assert torch.equal(p, weights[name]), name
        else:
            assert name.endswith("scale"), name
            assert p.tolist() == [1.0]


PLACES = {
    "weight_norm": (WeightNormConv2d, NoNorm2d, NoNorm2d, NoNorm2d),
    "ws": (HeStandardizedConv2d, NoNorm2d, NoNorm2d, NoNorm2d),
    "gn+ws": (StandardizedConv2d, *[CATALOG["gn"].layer] * 3),
    "scaled_ws": (ScaledStandardizedConv2d, NoNorm2d, ScaledSkipInit2d, NoNorm2d),
    "fixup": (FixupConv2d, FixupBias2d, FixupScale2d, NoNorm2d),
    "skipinit": (nn.Conv2d, NoNorm2d, SkipInit2d, NoNorm2d),
    "dyt": (nn.Conv2d, *[DynamicTanh2d] * 3),
    "derf": (nn.Conv2d, *[DynamicErf2d] * 3),
}


@each_method
def test_a_network_has_its_parts_trains_and_is_what_it_was_when_loaded(
    norm: str, tmp_path: Path
) -> None:
    model = ResNet(1, 5, norm, "B", seed=0)
    check_sites(model, norm)
    convolution, inner, last, shortcut = PLACES[norm]
    found = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [type(m) for m in found] == [convolution] * 9
    block = model.stages[1][0]
    after = model.norm0, block.norm1, block.norm2, block.projection.norm
    assert [type(m) for m in after] == [inner, inner, last, shortcut]

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = LayerAwareOptimizer(model, RunConfig(norm=norm, lr=0.1))
    x, target = draw(8, 3, 8, 8).float(), torch.arange(8) % 5
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    # What a closed branch holds is moved as soon as it is open, after a step or two.
    for name, p in model.named_parameters():
        assert not torch.equal(p, before[name]), f"{name} does not learn"

    torch.save(model.state_dict(), tmp_path / "weights.pt")
    loaded = ResNet(1, 5, norm, "B", seed=9)
    loaded.load_state_dict(torch.load(tmp_path / "weights.pt"), strict=True)
    assert torch.equal(loaded.eval()(x), model.eval()(x))


def _broken(model: ResNet, norm: str) -> list[tuple[str, nn.Module]]:
    """A convolution of another method, and layers of another place."""
    plain = nn.Conv2d(16, 16, 3, padding=1, bias=CATALOG[norm].conv_bias)
    broken: list[tuple[str, nn.Module]] = [("norm2", nn.Identity())]
    if CATALOG[norm].parts.convolution is not nn.Conv2d:
        broken.append(("conv1", plain))
    if type(model.norm0) is not type(model.stages[0][0].norm2):
        broken += [("norm1", model.stages[0][0].norm2), ("norm2", model.norm0)]
    return broken


@each_method
def test_a_network_with_another_part_is_refused(norm: str) -> None:
    whole = ResNet(1, 5, norm, seed=0)
    for name, part in _broken(whole, norm):
        model = ResNet(1, 5, norm, seed=0)
        setattr(model.stages[0][0], name, part)
        with pytest.raises(ValueError, match="but the arm"):
            check_sites(model, norm)


def test_a_network_with_other_options_of_its_convolutions_is_refused() -> None:
    for norm, other in (("gn+ws", "gn+ws:weight_eps=1e-3"), ("scaled_ws", "scaled_ws:alpha=0.5")):
        with pytest.raises(ValueError, match="but the arm"):
            check_sites(ResNet(1, 5, norm, seed=0), other)


def test_needs_reach_the_optimizer() -> None:
    """Scalars of Fixup at a tenth of the rate; NF-ResNet clips its convolutions alone."""
    fixup = ResNet(1, 5, "fixup", seed=0)
    optimizer = LayerAwareOptimizer(fixup, RunConfig(norm="fixup", lr=1.0))
    rates = {id(p): g["lr"] for g in optimizer.inner.param_groups for p in g["params"]}
    for name, p in fixup.named_parameters():
        slow = name.endswith(("input_bias", "scale")) or "norm" in name
        assert rates[id(p)] == (0.1 if slow else 1.0), name
    assert sum(rate == 0.1 for rate in rates.values()) == 7 + 4 + 3 * 2

    scaled = ResNet(1, 5, "scaled_ws", seed=0)
    optimizer = LayerAwareOptimizer(scaled, RunConfig(norm="scaled_ws"))
    clipped = {id(p): share for p, share in optimizer.unit_clips}
    for name, p in scaled.named_parameters():
        inside = not name.startswith("fc") and not name.endswith("scale")
        assert clipped.get(id(p)) == (0.01 if inside else None), name


def test_a_network_of_plain_convolutions_with_the_effective_weights_is_the_same() -> None:
    """What a conversion makes of a trained network."""
    for norm, like in (("weight_norm", "none"), ("ws", "none"), ("gn+ws", "gn")):
        model, plain = ResNet(1, 5, norm, "B", seed=0), ResNet(1, 5, like, "B", seed=1)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * draw(*p.shape, seed=p.numel()).float())
        state = {k: v for k, v in model.state_dict().items() if not k.endswith(".gain")}
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                state[f"{name}.weight"] = effective(module)
        plain.load_state_dict(state, strict=True)
        x = draw(2, 3, 8, 8).float()
        assert torch.equal(model(x), plain(x)), norm
        assert parse_norm(norm).conv_bias == parse_norm(like).conv_bias
