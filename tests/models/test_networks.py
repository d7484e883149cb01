"""Networks by name, with an arm's layer in the place of every normalization."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from networks import CHANNELS, CLASSES, NETWORKS, images
from normlab.errors import InputError
from normlab.models import (
    ModelInfo,
    NormActivation,
    build_network,
    check_method,
    check_sites,
    classifier_of,
    norm_layers,
    other_parts,
    parse_network,
    sites,
)
from normlab.norms import BatchNorm2d, GroupNorm2d
from normlab.studies import Request, make_plan

FACTORIES = {
    "plain": "plain", "residual": "Residual", "inverted bottleneck": "InvertedBottleneck",
    "dense": "Dense", "U": "Shaped", "shared": "Shared", "fused": "fused",
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", NETWORKS)
OWN = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(channels))

    def forward(self, x):
        return x + self.shift.view(1, -1, 1, 1)

def factory(classes, in_channels, width=6):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )

def by_field(num_classes=1000, in_chans=3):
    return factory(num_classes, in_chans)

def by_anything(**given):
    return factory(given["num_classes"], given["in_chans"])

def by_nothing():
    return factory(4, 3)

def without():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def failing(classes):
    raise RuntimeError("no such thing")

def no_module(classes):
    return {"classes": classes}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with networks and a layer."""
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return name


def made(kind: str, norm: str, seed: int = 0) -> nn.Module:
    choice = parse_network(f"networks:{FACTORIES[kind]}")
    return build_network(choice, norm, CLASSES, CHANNELS, seed)


@kinds
@pytest.mark.parametrize("norm", ["bn", "gn:groups=auto", "ln", "none", "gn+ws:groups=auto"])
def test_every_site_of_every_kind_of_network_carries_the_arms_layer(kind: str, norm: str) -> None:
    left, model = made(kind, "as_is"), made(kind, norm)
    expected = [path for one in norm_layers(left) for path in one.paths]
    found = check_sites(model, norm)
    # A fused layer has become a normalization and its activation.
    assert [site.name.removesuffix(".norm") for site in found] == expected
    assert not any(type(module) is nn.BatchNorm2d for module in model.modules())
    y = model.eval()(images(2))
    assert y.shape == (2, CLASSES)
    assert bool(y.isfinite().all())


@kinds
def test_arms_of_a_seed_have_the_same_other_weights(kind: str) -> None:
    first, second = made(kind, "bn", 3), made(kind, "gn:groups=auto", 3)
    other = made(kind, "bn", 4)
    at_sites = tuple(f"{site.name}." for site in sites(first))
    names = [name for name, _ in first.named_parameters() if not name.startswith(at_sites)]
    mine, theirs, others = (dict(one.named_parameters()) for one in (first, second, other))
    assert names
    assert all(torch.equal(mine[name], theirs[name]) for name in names)
    assert not all(torch.equal(mine[name], others[name]) for name in names)


def test_as_is_is_what_the_factory_makes_and_leaves_the_generator_alone() -> None:
    state = torch.get_rng_state()
    model = made("residual", "as_is")
    assert torch.equal(torch.get_rng_state(), state)
    assert {site.layer for site in check_sites(model, "as_is")} == {"BatchNorm2d"}
    assert all(type(m) is nn.BatchNorm2d for m in map(model.get_submodule, _paths(model)))


def test_what_arms_ask_of_convolutions_is_there() -> None:
    assert all(
        module.bias is not None
        for module in made("residual", "none").modules()
        if isinstance(module, nn.Conv2d)
    )
    standardized = made("residual", "gn+ws:groups=auto")
    parts = other_parts(standardized)
    convolutions = [m for m in standardized.modules() if isinstance(m, nn.Conv2d)]
    assert len(parts) == len(convolutions) == 3
    assert {part.layer for part in parts} == {"StandardizedConv2d"}
    assert not other_parts(made("residual", "bn"))


def test_a_fused_layer_keeps_its_activation() -> None:
    model = made("fused", "bn")
    fused = model.get_submodule("1")
    assert isinstance(fused, NormActivation)
    assert isinstance(fused.act, nn.SiLU)
    assert type(fused.norm) is BatchNorm2d


def test_a_shared_layer_stays_shared() -> None:
    model = made("shared", "gn:groups=4")
    assert model.get_submodule("norm") is model.get_submodule("again.0")
    assert isinstance(model.get_submodule("norm"), GroupNorm2d)


def test_an_exchanged_site_is_found() -> None:
    model = made("residual", "gn:groups=4")
    model.layers[0].bn = nn.BatchNorm2d(8)  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match=r"site layers.0.bn has BatchNorm2d.*asks for GroupNorm2d"):
        check_sites(model, "gn:groups=4")
    model = made("residual", "gn:groups=4")
    model.head.more = nn.BatchNorm2d(8)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"normalization outside of the sites: head.more"):
        check_sites(model, "gn:groups=4")


def test_groups_that_do_not_divide_a_width_are_refused_with_what_divides_it() -> None:
    with pytest.raises(
        InputError, match=r"gn cannot stand at 4 \(12 channels\).*1, 2, 3, 4, 6, 12.*groups=auto"
    ):
        made("plain", "gn:groups=8")


def test_a_layer_of_ones_own_draws_from_seed_and_place(own: str) -> None:
    def shift(seed: int) -> torch.Tensor:
        model = build_network(parse_network(f"{own}:factory"), f"{own}:Layer", 4, 3, seed)
        check_sites(model, f"{own}:Layer")
        return model.get_submodule("1").shift  # type: ignore[return-value]

    assert torch.equal(shift(1), shift(1))
    assert not torch.equal(shift(1), shift(2))


@pytest.mark.parametrize("factory", ["factory", "by_field", "by_anything"])
def test_factories_get_classes_and_channels_by_their_own_names(own: str, factory: str) -> None:
    model = build_network(parse_network(f"{own}:{factory}"), "bn", 7, 1, 0)
    assert model.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_options_reach_the_factory(own: str) -> None:
    model = build_network(parse_network(f"{own}:factory:width=10"), "bn", 2, 3, 0)
    assert check_sites(model, "bn")[0].channels == 10


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("without", "has no normalization layer of images"),
        ("failing", "could not be made for 4 classes and 3 channels: .*no such thing"),
        ("no_module", "must return a torch.nn.Module, got dict"),
        ("missing", "has no 'missing' that could be called"),
        ("factory:depth=3", "could not be made.*depth"),
    ],
)
def test_factories_that_make_no_network_are_refused(own: str, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_network(parse_network(f"{own}:{name}"), "bn", 4, 3, 0)


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="Cannot import 'nowhere_at_all'"):
        build_network(parse_network("nowhere_at_all:build"), "bn", 4, 3, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resnet6n", r"did you mean resnet6n2\?"),
        ("resnet6n2:n=3", "takes no options here.*--n"),
        ("a.b:", "model is"),
        ("a b:c", "model is"),
        ("a:b c", "no name in Python"),
        ("a:b:width", "Cannot read 'width'"),
        ("a:b:w=1:w=2", "'w' is given twice"),
        ("timm:resnet18:pretrained=true", "is about trained weights.*--weights"),
        ("timm:resnet18:checkpoint_path=x.pth", "is about trained weights"),
        ("torchvision:resnet18:weights=DEFAULT", "is about trained weights"),
        ("timm:resnet18:act_layer=../x", "letters, digits"),
    ],
)
def test_names_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_network(text)


@pytest.mark.parametrize("norm", ["frn_tlu", "evonorm_s0", "ibn_a", "fixup", "scaled_ws"])
def test_methods_of_several_places_are_refused_in_other_networks(norm: str) -> None:
    with pytest.raises(InputError, match=r"only known for the network resnet6n2.*as_is, "):
        check_method(norm)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"needs the package timm.*pip install "):
        build_network(parse_network("timm:resnet18"), "bn", 4, 3, 0)


def _library(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> list[dict[str, Any]]:
    """A stand-in for a library of networks, and how it was called."""
    called: list[dict[str, Any]] = []

    def create(network: str, **given: Any) -> nn.Module:
        called.append({"network": network, **given})
        width = given.get("width", 4)
        inputs, classes = given.get("in_chans", 3), given["num_classes"]
        return nn.Sequential(
            nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(width, classes),
        )  # fmt: skip

    module = ModuleType(name)
    vars(module).update({key: create if value is create_it else value
                         for key, value in content.items()})  # fmt: skip
    monkeypatch.setitem(sys.modules, name, module)
    return called


create_it = SimpleNamespace()


def test_networks_of_timm_are_made_without_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    called = _library(
        monkeypatch, "timm", __version__="1.0", create_model=create_it,
        is_model=lambda name: name == "tiny", list_models=lambda: ["tiny"],
    )  # fmt: skip
    model = build_network(parse_network("timm:tiny:width=6"), "gn:groups=3", 5, 1, 0)
    assert called == [
        {"network": "tiny", "pretrained": False, "num_classes": 5, "in_chans": 1, "width": 6}
    ]
    assert check_sites(model, "gn:groups=3")[0].channels == 6
    with pytest.raises(InputError, match=r"has no network 'tin' \(did you mean tiny\?\)"):
        build_network(parse_network("timm:tin"), "bn", 5, 1, 0)


def test_networks_of_torchvision_take_colour_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    called = _library(
        monkeypatch, "torchvision.models", get_model=create_it, list_models=lambda: ["tiny"]
    )
    build_network(parse_network("torchvision:tiny"), "bn", 5, 3, 0)
    assert called == [{"network": "tiny", "weights": None, "num_classes": 5}]
    with pytest.raises(InputError, match="3 channels, and these have 1"):
        build_network(parse_network("torchvision:tiny"), "bn", 5, 1, 0)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()), "1"),
        (lambda: nn.Sequential(nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "0"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 5)), ""),
    ],
)
def test_the_classifier_is_the_last_linear_layer(
    make: Callable[[], nn.Module], expected: str
) -> None:
    assert classifier_of(make(), 3) == expected


def test_a_description_builds_its_network_again() -> None:
    info = ModelInfo(
        2, tuple("abcd"), "gn:groups=4", "A", 3, 8, (0.5,) * 3, (0.2,) * 3,
        model="networks:Residual",
    )  # fmt: skip
    again = made("residual", "gn:groups=4", 5).state_dict()
    assert all(torch.equal(t, again[name]) for name, t in info.build(5).state_dict().items())
    assert info.said == "networks:Residual"
    assert not info.ours


def _paths(model: nn.Module) -> list[str]:
    return [site.name for site in sites(model)]


def test_all_stands_for_the_methods_that_can_be_in_every_network(own: str) -> None:
    plan = make_plan(Request.of("norms", arms="all", model=f"{own}:factory"))
    assert {"bn", "gn", "frn", "gn+ws", "none"} <= set(plan.arms)
    assert not {"frn_tlu", "fixup", "ibn_a"} & set(plan.arms)
