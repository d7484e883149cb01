"""Networks by name, with an arm's layer in the place of every normalization."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from networks import CHANNELS, CLASSES, NETWORKS, images
from normlab import foreign
from normlab.errors import InputError
from normlab.models import (
    ModelInfo,
    NormActivation,
    build_network,
    check_method,
    check_sites,
    classifier_of,
    load_model,
    norm_layers,
    other_parts,
    parse_network,
    save_model,
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

def pointwise(classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(4, classes, 1), nn.Flatten(),
    )

class Own(nn.Conv2d):
    pass

def subclass(classes):
    made = pointwise(classes)
    made[0] = Own(3, 4, 3, bias=False)
    return made

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


@pytest.mark.parametrize(
    "norm", ["frn_tlu", "evonorm_s0", "evonorm_s0:groups=48", "ibn_a", "fixup"]
)
def test_methods_of_several_places_are_refused_in_other_networks(norm: str) -> None:
    with pytest.raises(InputError, match=r"only known for the network resnet6n2.*as_is, "):
        check_method(norm)


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("timm", "torchvision"):
        monkeypatch.delitem(sys.modules, package, raising=False)
        with pytest.raises(InputError, match=rf"needs the package {package}.*pip install "):
            build_network(parse_network(f"{package}:resnet18"), "bn", 4, 3, 0)
    # A file of that name in the working folder is not the package.
    (tmp_path / "timm.py").write_text("import pathlib\npathlib.Path('imported').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with pytest.raises(InputError, match="needs the package timm"):
        build_network(parse_network("timm:resnet18"), "bn", 4, 3, 0)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "timm.py").rename(tmp_path / "elsewhere/timm.py")
    with pytest.raises(InputError, match="is not an installed package"):
        build_network(parse_network("timm:resnet18"), "bn", 4, 3, 0)
    assert not (tmp_path / "imported").exists()


class Library:
    """A stand-in for a library of networks, which remembers how it was called."""

    __version__ = "1.0"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[dict[str, Any]] = []
        monkeypatch.setattr(foreign, "load_library", lambda package: self)

    @property
    def models(self) -> Library:
        return self

    def is_model(self, name: str) -> bool:
        return name == "tiny"

    def list_models(self, module: object = None) -> list[str]:
        return ["tiny"] if module in (None, self) else []

    def create_model(self, network: str, **given: Any) -> nn.Module:
        self.called.append({"network": network, **given})
        width = given.get("width", 4)
        return nn.Sequential(
            nn.Conv2d(given.get("in_chans", 3), width, 1), nn.BatchNorm2d(width),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, given["num_classes"]),
        )  # fmt: skip

    get_model = create_model


def test_networks_of_timm_are_made_without_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    model = build_network(parse_network("timm:tiny:width=6"), "gn:groups=3", 5, 1, 0)
    assert library.called == [
        {"network": "tiny", "pretrained": False, "num_classes": 5, "in_chans": 1, "width": 6}
    ]
    assert check_sites(model, "gn:groups=3")[0].channels == 6
    with pytest.raises(InputError, match=r"has no network 'tin' \(did you mean tiny\?\)"):
        build_network(parse_network("timm:tin"), "bn", 5, 1, 0)


def test_networks_of_torchvision_take_colour_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch)
    build_network(parse_network("torchvision:tiny"), "bn", 5, 3, 0)
    assert library.called == [{"network": "tiny", "weights": None, "num_classes": 5}]
    with pytest.raises(InputError, match="3 channels, and these have 1"):
        build_network(parse_network("torchvision:tiny"), "bn", 5, 1, 0)
    with pytest.raises(InputError, match="no network 'fcn_tiny' for classification"):
        build_network(parse_network("torchvision:fcn_tiny"), "bn", 5, 3, 0)


@pytest.mark.parametrize("name", ["timm:Layer", "torchvision:Layer"])
def test_a_layer_is_no_network_of_a_library(name: str, tmp_path: Path) -> None:
    info = ModelInfo(1, ("a", "b"), name, "A", 3, 8, (0.5,) * 3, (0.2,) * 3)
    save_model(
        tmp_path / "m", replace(info, norm="bn"), replace(info, norm="bn").build(0).state_dict()
    )
    described = json.loads((tmp_path / "m/model.json").read_text())
    described.pop("sha256", None)
    (tmp_path / "m/model.json").write_text(json.dumps({**described, "norm": name, "files": {}}))
    with pytest.raises(InputError, match=rf"has the layer {name}.*--trust"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("option", ["drop_path_rate=0.1", "init_weights=false"])
def test_options_that_only_sound_like_weights_are_taken(option: str) -> None:
    assert parse_network(f"timm:tiny:{option}").options


def test_filters_become_the_methods_or_the_arm_is_refused(own: str) -> None:
    model = build_network(parse_network(f"{own}:pointwise"), "gn+ws:groups=2", 3, 3, 0)
    assert type(model.get_submodule("4")) is nn.Conv2d
    assert [part.name for part in other_parts(model)] == ["0"]
    check_sites(model, "gn+ws:groups=2")
    model[0] = nn.Conv2d(3, 4, 3, bias=False)  # type: ignore[operator]
    with pytest.raises(ValueError, match="0 is a plain convolution, but the arm"):
        check_sites(model, "gn+ws:groups=2")
    with pytest.raises(InputError, match="filters of convolutions, but 0 is Own"):
        build_network(parse_network(f"{own}:subclass"), "gn+ws:groups=2", 3, 3, 0)


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
