"""A network without its normalization that computes the same, or a word on why there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import normlab
from networks import (
    CHANNELS,
    Dense,
    InvertedBottleneck,
    Residual,
    Shaped,
    Shared,
    fused,
    images,
    plain,
    trained,
)
from normlab import InputError
from normlab.conversion import Conversion
from normlab.models import ResNet, check_sites, norm_layers
from normlab.norms import NoNorm2d


def same(model: nn.Module) -> Conversion:
    """Convert, and compare in float64 here: not what the report says of itself."""
    made = normlab.convert(model, "none")
    assert made.exact
    wide = copy.deepcopy(model).double()
    exact = normlab.convert(wide, "none").model
    x = images(8, seed=1).double()
    with torch.no_grad():
        before, after = wide.eval()(x), exact.eval()(x)
    assert float((before - after).abs().max()) <= 1e-10 * max(1.0, float(before.abs().max()))
    assert float(before.std()) > 1e-4, "an output of constants shows nothing"
    return made


@pytest.mark.parametrize("make", [plain, Residual, InvertedBottleneck, fused])
def test_what_follows_a_convolution_becomes_part_of_it(make: Callable[[], nn.Module]) -> None:
    model = trained(make)
    before = copy.deepcopy(model.state_dict())
    made = same(model)
    old = {one.layer.num_features for one in norm_layers(model)}
    assert {type(one.layer) for one in norm_layers(made.model)} == {NoNorm2d}
    assert {one.channels for one in norm_layers(made.model)} == old
    assert not [name for name, _ in made.model.named_buffers()]
    assert all(site.exact and "NoNorm2d" in site.new for site in made.sites)
    assert str(made).splitlines()[-1].startswith("Exact in evaluation.")
    # The network that was given is as it was.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("norm", ["bn", "frozen_bn"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_residual_network_becomes_that_of_the_arm_none(norm: str, shortcut: str) -> None:
    model = ResNet(1, 4, norm, shortcut, seed=0)  # type: ignore[arg-type]
    made = same(trained(lambda: model)).model
    assert isinstance(made, ResNet)
    assert made.norm == "none"
    check_sites(made, "none")
    made.load_state_dict(ResNet(1, 4, "none", shortcut, seed=1).state_dict())  # type: ignore[arg-type]


def test_what_is_batch_norm_by_what_it_computes_is_folded_too() -> None:
    """A frozen one of another library, and a subclass."""

    class FrozenBatchNorm2d(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.rand(channels) + 0.5)

        def forward(self, x: Tensor) -> Tensor:
            scale = (self.running_var + 1e-5).rsqrt() * self.weight
            shift = self.bias - self.running_mean * scale
            return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

    derived = type("Derived", (nn.BatchNorm2d,), {})
    model = nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3), FrozenBatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), derived(6)
    )
    made = same(model)
    assert [site.paths for site in made.sites] == [("1",), ("4",)]
    assert "Derived" in made.sites[1].old


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Dense, r"parts\.norm 0 follows stem, whose output is also used by .*parts\.norm 1 does"),
        (Shaped, r"last\.0\.0 does not take the output of a convolution"),
        (Shared, r"norm is used 2 times.*between does not take"),
    ],
)
def test_sites_that_no_convolution_can_compute_are_named(
    make: Callable[[], nn.Module], said: str
) -> None:
    with pytest.raises(InputError, match=f"not all can be: {said}.*how='fresh'"):
        normlab.convert(trained(make), "none")


def test_what_is_not_fixed_or_is_watched_is_named() -> None:
    hooked = nn.BatchNorm2d(8)
    hooked.register_forward_hook(lambda *_: None)
    for layer, said in (
        (nn.GroupNorm(4, 8), "is no fixed scale and shift"),
        (nn.BatchNorm2d(8, track_running_stats=False), "has no running statistics"),
        (hooked, "has hooks"),
    ):
        model = nn.Sequential(nn.Conv2d(CHANNELS, 8, 3), layer, nn.ReLU())
        with pytest.raises(InputError, match=f"not all can be: 1 {said}"):
            normlab.convert(model, "none")


def test_a_weight_that_two_convolutions_share_is_not_parted() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    )
    model[3].weight = model[0].weight
    with pytest.raises(InputError, match="0 and 3 share a parameter"):
        normlab.convert(model, "none")


def test_fresh_leaves_out_what_cannot_be_folded() -> None:
    model = nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8), nn.Tanh()
    )
    made = normlab.convert(trained(lambda: model), "none", images(8), how="fresh")
    assert not made.exact
    assert [(site.paths, site.exact) for site in made.sites] == [(("1",), True), (("3",), False)]
    assert "BatchNorm2d" in made.sites[1].old
    assert {type(made.model[index]) for index in (1, 3)} == {NoNorm2d}


def test_modes_types_and_frozen_parameters_survive() -> None:
    model = trained(plain).double().train()
    model[0].weight.requires_grad_(False)
    model[1].eval()
    made = normlab.convert(model, "none").model
    assert [module.training for module in made[:2]] == [True, False]
    assert made[0].bias.dtype == torch.float64
    assert [made[at].bias.requires_grad for at in (0, 3)] == [False, True]


def test_a_network_that_decides_by_its_values_is_refused() -> None:
    """What is seen of a few images does not hold for the others."""

    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(CHANNELS, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y if float(x.abs().max()) > 50 else self.bn(y)

    x = images(8)
    x[7] = 100
    with pytest.raises(InputError, match="does not compute the same"):
        normlab.convert(trained(Deciding), "none", x)


def test_a_layer_in_a_list_of_python_is_folded() -> None:
    """Also by ``fold`` and ``freeze``, which left the old layer in the list."""

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(CHANNELS, 4, 3), nn.BatchNorm2d(4)
            self.steps = [self.conv, self.norm]

        def forward(self, x: Tensor) -> Tensor:
            for step in self.steps:
                x = step(x)
            return x

    model = trained(Listed)
    assert isinstance(same(model).model.steps[1], NoNorm2d)
    assert isinstance(normlab.fold(model, images(4)).model.steps[1], nn.Identity)
    frozen = normlab.freeze(model)
    assert frozen.steps[1] is frozen.norm
