"""What looks wrong with the normalization of a network: that it is found, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import CHANNELS, NETWORKS, Head, images, trained
from normlab.conversion import freeze
from normlab.errors import InputError
from normlab.models import Concern, ResNet, concerns
from normlab.models.concerns import KINDS
from normlab.norms import CATALOG

SIZE = 12
DEFAULTS = {"plain": {"eps", "useless bias"}, "U": {"useless bias"}, "shared": {"useless bias"},
            "fused": {"useless bias"}}  # fmt: skip
"""What is true of these networks as they are."""


def kinds(model: nn.Module, size: int | None = SIZE) -> set[str]:
    return {one.kind for one in concerns(model, size)}


def only(model: nn.Module, size: int | None = SIZE) -> Concern:
    (found,) = concerns(model, size)
    return found


def sound() -> nn.Sequential:
    """A trained network of three layers with nothing to say about."""
    return trained(
        lambda: nn.Sequential(
            nn.Conv2d(CHANNELS, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Head(8),
        )
    )  # type: ignore[return-value]  # fmt: skip


@pytest.mark.parametrize("kind", NETWORKS)
def test_nothing_is_said_of_networks_that_are_sound(kind: str) -> None:
    expected = DEFAULTS.get(kind, set())
    assert kinds(NETWORKS[kind]()) == expected
    assert kinds(trained(NETWORKS[kind])) == expected
    assert not concerns(sound(), SIZE)


@pytest.mark.parametrize("norm", CATALOG)
def test_nothing_is_said_of_a_method_that_is_as_it_should_be(norm: str) -> None:
    model = ResNet(1, 3, norm, "B", seed=0)
    assert not concerns(model, 16)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        F.cross_entropy(model(x), torch.arange(6) % 3).backward()
        optimizer.step()
    assert not concerns(model.eval(), 16)


@torch.no_grad()
def _broken(index: int, name: str, change: Callable[[Tensor], object]) -> nn.Module:
    model = sound()
    change(getattr(model[index], name))
    return model


def _with(index: int, layer: nn.Module) -> nn.Module:
    model = sound()
    model[index] = layer.eval()
    return model


def _set(**attributes: object) -> nn.Module:
    model = sound()
    for name, value in attributes.items():
        setattr(model[4], name, value)
    return model


BROKEN: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "NaN": (lambda: _broken(4, "running_var", lambda v: v[0].fill_(torch.nan)),
            "not finite", r"^1 tensor has values that are not finite: 4\.running_var\."),
    "negative": (lambda: _broken(4, "running_var", lambda v: v[:2].neg_()),
                 "variance", r"are negative in 2 channels of 8 in 4\."),
    "zero": (lambda: _broken(1, "running_var", lambda v: v[0].zero_()),
             "variance", r"are exactly 0 in 1 channel of 8 in 1\."),
    "huge": (lambda: _broken(1, "running_var", lambda v: v[0].fill_(1e9)),
             "variance", r"are above 1e\+08 in 1 channel of 8 in 1\."),
    "never updated": (lambda: _broken(4, "running_mean", lambda _: None).apply(
        lambda m: m.reset_running_stats() if isinstance(m, nn.BatchNorm2d) else None),
        "never updated", r"^3 layers of 3 with running statistics have those of a new layer"),
    "training": (lambda: _set(training=True), "mode",
                 r"in evaluation mode, but 1 layer of 3 with .* is in training mode: 4\."),
    "untracked": (lambda: _with(4, nn.BatchNorm2d(8, track_running_stats=False)),
                  "untracked", r"^1 batch norm has no running statistics .*: 4\."),
    "momentum": (lambda: _set(momentum=0.0), "momentum",
                 r"^1 normalization layer has momentum 0: 4\. Their running statistics never"),
    "average": (lambda: _set(momentum=None), "momentum", r"has momentum None: 4\. .*plain average"),
    "mix": (lambda: _with(4, nn.GroupNorm(2, 8)), "mix",
            r"^The network has 2 batch norm and 1 group norm \(4\)\."),
    "eps": (lambda: _set(eps=1e-3), "eps",
            r"same eps: 2 of 3 have 1e-05, unlike 4 \(0\.001\)\."),
    "all scales": (lambda: _broken(4, "weight", lambda w: w.zero_()), "zero weights",
                   r"^1 normalization layer has a scale of 0 in every channel.*: 4\."),
    "some scales": (lambda: _broken(4, "weight", lambda w: w[:3].zero_()), "zero weights",
                    r"^Scales are exactly 0 in 3 channels of 8 in 4\."),
    "bias": (lambda: _with(3, nn.Conv2d(8, 8, 3)), "useless bias",
             r"^1 convolution has a bias and is followed by .*: 3\."),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_found_alone_and_named(case: str) -> None:
    make, kind, words = BROKEN[case]
    for size in (None, SIZE):
        found = only(make(), size)
        assert found.kind == kind
        assert re.search(words, str(found)), str(found)
        for part in (found.found, found.means, found.advice):
            assert part[0].isupper() or part[0].isdigit()
            assert part.endswith(".")
        assert kind in KINDS


def test_layers_in_evaluation_mode_in_training_and_frozen_ones() -> None:
    model = sound().train()
    model[1].eval()
    found = only(model)
    assert (found.kind, found.sites) == ("mode", ("1",))
    assert "1 layer of 3 with running statistics is in evaluation mode: 1." in found.found
    part = sound().train()
    part[1] = freeze(nn.Sequential(part[1]))[0]
    found = only(part)
    assert (found.kind, found.sites) == ("frozen", ("1",))
    assert found.found == "1 of 3 batch norms are frozen: 1."
    assert not concerns(freeze(sound()).train(), SIZE)


def test_scales_and_statistics_of_a_new_network_are_as_they_should_be() -> None:
    model = NETWORKS["residual"]()
    nn.init.zeros_(model.layers[1].bn.weight)  # a trick, before training
    assert not concerns(model, SIZE)
    model(images(4))
    assert kinds(model) == {"zero weights"}


def test_what_an_image_shows_of_the_maps() -> None:
    # One position and one channel in a group leave a value less itself.
    def network(layer: nn.Module) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(CHANNELS, 8, 4, 4), nn.Conv2d(8, 8, 3, bias=False), layer, Head(8)
        )

    assert not concerns(network(nn.GroupNorm(4, 8)), SIZE)
    assert kinds(network(nn.GroupNorm(8, 8)), 4 * 4) == {"groups of one"}
    assert kinds(network(nn.GroupNorm(8, 8)), SIZE) == {"groups of one", "constant"}
    found = only(network(nn.InstanceNorm2d(8)), SIZE)  # PyTorch's stops with an error there
    assert (found.kind, found.sites) == ("constant", ("2",))
    assert "With images of 12 pixels, 1 layer has one value for each mean" in found.found
    assert not concerns(network(nn.InstanceNorm2d(8)), 16)
    with pytest.raises(InputError, match=r"does not take an image of shape \(1, 3, 4, 4\)"):
        concerns(network(nn.BatchNorm2d(8)), 4)
    with pytest.raises(InputError, match="no convolution"):
        concerns(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 4)


class Forked(nn.Module):
    """Normalization follows a convolution, whose output something else may take as well."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv, self.bn, self.head, self.way = (
            nn.Conv2d(CHANNELS, 8, 3), nn.BatchNorm2d(8), Head(8), way)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        x = self.conv(x)
        if self.way == "relu":
            x.relu_()
        y = self.bn(x)
        if self.way == "skip":
            y = y + x
        return {"out": self.head(y)} if self.way == "dict" else self.head(y)


def test_a_bias_is_useless_only_where_nothing_else_sees_it() -> None:
    for way, useless in (("", True), ("dict", True), ("relu", False), ("skip", False)):
        model = Forked(way)
        assert (kinds(model) == {"useless bias"}) is useless, way
        assert not concerns(model)  # the modules alone do not say who takes what
        gradient = torch.autograd.grad(
            sum(v.square().sum() for v in ([model(images(4))] if way != "dict"
                                           else model(images(4)).values())),
            model.conv.bias,
        )[0]  # fmt: skip
        assert (gradient.abs().max() < 1e-3) == useless, way


def test_layers_of_other_inputs_are_listed_and_the_network_is_left_alone() -> None:
    model = nn.Sequential(sound(), nn.Unflatten(1, (1, 4)), nn.Flatten(), nn.LayerNorm(4))
    model.train()
    model[0].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    found = concerns(model, SIZE)
    assert [one.kind for one in found] == ["mode", "other layers"]
    assert found[1].found == (
        "1 LayerNorm is no normalization that can be exchanged: 3. It normalizes the last axes of "
        "its input, not images (N, C, H, W)."
    )
    assert [module.training for module in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_a_mix_in_our_own_network_is_what_its_method_does_not_put_there() -> None:
    model = ResNet(1, 3, "ibn_a", seed=0)
    assert not concerns(model)
    model.stages[0][0].norm1 = nn.GroupNorm(2, 16)
    assert kinds(model, 16) == {"mix"}
