"""Making layers by name, what is refused, and whether the specs tell the truth."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from normlab.norms import (
    CATALOG,
    BatchInstanceNorm2d,
    BatchNorm2d,
    GroupNorm2d,
    InstanceNorm2d,
    LayerNormCHW,
    NoNorm2d,
    Norm2d,
    NormSpec,
    ParameterNeeds,
    make_norm,
    parse_norm,
)
from normlab.norms.describe import facts
from normlab.norms.methods import SPECS
from normlab.norms.places import options_of

CHANNELS = 16
each_spec = pytest.mark.parametrize("spec", CATALOG.values(), ids=CATALOG)


# ---------------------------------------------------------------------------------------------
# Names and options.


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("torch_bn", nn.BatchNorm2d),
        ("bn", BatchNorm2d),
        ("in", InstanceNorm2d),
        ("bin", BatchInstanceNorm2d),
        ("ln", LayerNormCHW),
        ("gn", GroupNorm2d),
        ("none", NoNorm2d),
    ],
)
def test_every_arm_is_made_by_name(name: str, layer: type[nn.Module]) -> None:
    assert type(make_norm(name, CHANNELS)) is layer
    assert type(parse_norm(name).make(CHANNELS)) is layer
    assert CATALOG[name].layer is layer


def test_the_catalogue_has_the_seven_arms() -> None:
    assert {"torch_bn", "bn", "in", "bin", "ln", "gn", "none"} <= set(CATALOG)
    assert len(CATALOG) == len(SPECS), "two specs have the same name"
    assert all(CATALOG[spec.name] is spec for spec in SPECS)
    with pytest.raises(TypeError):
        CATALOG["new"] = CATALOG["bn"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("gn", "gn", {}),
        ("gn:groups=4", "gn", {"groups": 4}),
        ("gn:channels_per_group=2:eps=1e-3", "gn", {"channels_per_group": 2, "eps": 1e-3}),
        ("bn:momentum=none", "bn", {"momentum": None}),
        ("bn:affine=False", "bn", {"affine": False}),
        ("in:affine=true", "in", {"affine": True}),
        ("own.layers:Scale", "own.layers:Scale", {}),
        (
            "own.layers:Scale:start=0.5:kind=soft",
            "own.layers:Scale",
            {"start": 0.5, "kind": "soft"},
        ),
        ("layers:Scale", "layers:Scale", {}),
    ],
)
def test_text_is_read(text: str, name: str, options: dict[str, object]) -> None:
    choice = parse_norm(text)
    assert choice.name == name
    assert dict(choice.options) == options
    for key, value in options.items():
        assert type(choice.options[key]) is type(value)


def test_options_reach_the_layer() -> None:
    assert make_norm("gn:groups=4", CHANNELS).groups == 4
    assert parse_norm("gn:groups=4").make(CHANNELS).groups == 4
    assert make_norm("gn", CHANNELS, channels_per_group=2).groups == 8
    assert make_norm("gn:groups=4", CHANNELS, groups=2).groups == 2, "the call has the last word"
    assert make_norm("bn:momentum=none", CHANNELS).momentum is None
    assert make_norm("bn:momentum=1:eps=0", CHANNELS).eps == 0.0
    assert make_norm("torch_bn:momentum=0.5", CHANNELS).momentum == 0.5
    assert make_norm("bin:affine=false", CHANNELS).weight is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gm", "unknown normalization 'gm' (did you mean gn?)"),
        ("BN", "(did you mean bn?)"),
        ("batchnorm", f"Known are {', '.join(CATALOG)}, or package.module:Class"),
        ("", "unknown normalization ''"),
        ("gm:groups=4", "unknown normalization 'gm' (did you mean gn?)"),
        ("gn:group=4", "gn has no option 'group' (did you mean groups?)"),
        ("in:momentum=0.1", "in has no option 'momentum'. Its options are eps, affine"),
        ("none:eps=1", "none has no option 'eps'. It has none"),
        ("torch_bn:device=cpu", "torch_bn has no option 'device'"),
        ("torch_bn:track_running_stats=false", "torch_bn has no option 'track_running_stats'"),
        ("gn:4", "cannot read '4' in the normalization 'gn:4'"),
        ("gn:groups=", "Write options as name:option=value, for example gn:groups=4"),
        ("gn:=4", "cannot read '=4'"),
        ("gn:groups=4:groups=2", "option 'groups' is given twice"),
        ("bn:affine=maybe", "affine of bn must be true or false, got 'maybe'"),
        ("torch_bn:affine=maybe", "affine of torch_bn must be true or false, got 'maybe'"),
        ("ws:weight_eps=0", "weight_eps must be a number above 0, got 0"),
        ("gn+ws:weight_eps=some", "weight_eps must be a number above 0, got 'some'"),
        ("bn:eps=small", "eps must be a number of at least 0, got 'small'"),
        ("bn:eps=-1", "eps must be a number of at least 0, got -1"),
        ("bn:eps=nan", "eps must be a number of at least 0"),
        ("bn:eps=inf", "eps must be a number of at least 0"),
        ("bn:momentum=2", "between 0 and 1"),
        ("bn:momentum=true", "between 0 and 1"),
        ("bin:momentum=nan", "between 0 and 1"),
        ("gn:groups=3", "groups must divide the 16 channels, got 3. Possible here: 1, 2, 4, 8, 16"),
        ("gn:groups=32", "groups must divide the 16 channels, got 32"),
        ("gn:groups=0", "groups must divide the 16 channels, got 0"),
        ("gn:groups=-4", "groups must divide the 16 channels, got -4"),
        ("gn:groups=4.0", "groups must divide the 16 channels, got 4.0"),
        ("gn:groups=true", "groups must divide the 16 channels, got True"),
        ("gn:channels_per_group=5", "channels_per_group must divide the 16 channels, got 5"),
        ("gn:groups=4:channels_per_group=4", "Give groups or channels_per_group, not both"),
        ("absent.module:Layer", "cannot import 'absent.module'"),
        ("torch.nn:NoSuchLayer", "'torch.nn' has no 'NoSuchLayer'"),
        ("torch.nn.functional:relu", "must be a subclass of torch.nn.Module, got <function relu"),
        (".relative:Layer", "cannot read 'Layer'"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_norm(text, CHANNELS)
    assert said in str(caught.value)


def test_eight_groups_do_not_fit_every_width() -> None:
    with pytest.raises(ValueError, match="groups must divide the 12 channels, got 8"):
        make_norm("gn", 12)


@pytest.mark.parametrize(
    "layer", [s.layer for s in CATALOG.values() if issubclass(s.layer, Norm2d)]
)
@pytest.mark.parametrize("channels", [0, -1, 2.0, True, "16", None])
def test_channels_are_a_whole_number(layer: type[nn.Module], channels: object) -> None:
    with pytest.raises(ValueError, match="channels must be a whole number of at least 1"):
        layer(channels)


@pytest.mark.parametrize("affine", ["no", 0, 1, None])
def test_affine_is_true_or_false(affine: object) -> None:
    with pytest.raises(ValueError, match="affine must be True or False"):
        BatchNorm2d(CHANNELS, affine=affine)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------
# A layer of your own.

OWN = """
from torch import nn
from normlab.norms import ParameterNeeds

class Scale(nn.Module):
    conv_bias = True
    optimizer_needs = {"gain": ParameterNeeds(lr_scale=2.0)}

    def __init__(self, channels, start=1.0, **more):
        super().__init__()
        self.channels, self.start, self.more = channels, start, more

    def forward(self, x):
        return x * self.start

class Strict(nn.Module):
    def __init__(self, channels, start):
        super().__init__()

class Broken:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working folder, under a name that no other test has imported."""
    name = f"own_layers_of_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(OWN)
    package = tmp_path / f"{name}_package"
    package.mkdir()
    (package / "inner.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return name


def test_a_layer_of_ones_own(own: str) -> None:
    path = list(sys.path)
    layer = make_norm(f"{own}:Scale:start=2", CHANNELS)
    assert type(layer).__name__ == "Scale"
    assert (layer.channels, layer.start) == (CHANNELS, 2)
    assert sys.path == path, "the search path is as before"
    choice = parse_norm(f"{own}_package.inner:Scale")
    assert choice.make(CHANNELS).start == 1.0
    assert choice.conv_bias is True
    assert parse_norm(f"{own}:Strict").conv_bias is False
    layer = make_norm(f"{own}:Scale", CHANNELS, anything=3)
    assert layer.more == {"anything": 3}, "**options take any option"
    torch_layer = make_norm("torch.nn:BatchNorm2d:eps=0.5", CHANNELS)
    assert type(torch_layer) is nn.BatchNorm2d
    assert torch_layer.eps == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{own}:Broken", "must be a subclass of torch.nn.Module"),
        ("{own}:Strict", "could not be made"),
        ("{own}:Strict:strat=1", "has no option 'strat' (did you mean start?)"),
        ("{own}:Absent", "has no 'Absent', which the arm"),
    ],
)
def test_mistakes_in_a_layer_of_ones_own(own: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_norm(text.format(own=own), CHANNELS)
    assert said in str(caught.value)


# ---------------------------------------------------------------------------------------------
# The specs against the layers.


@each_spec
def test_spec_agrees_with_its_layer(spec: NormSpec) -> None:
    layer = make_norm(spec.name, CHANNELS)
    assert tuple(dict(layer.named_buffers())) == spec.buffers
    assert bool(spec.running_variance) == bool(spec.momentum)
    assert bool(spec.momentum) == any("N" in axes for axes in spec.axes)
    assert spec.buffers or not spec.momentum
    assert not spec.variance or spec.eps_place
    assert spec.axes or spec.buffers or not spec.variance
    assert spec.evaluation
    assert spec.title
    assert spec.citation or not spec.axes
    shifts = any(word in spec.formula for word in ("mean", "xhat", "bias"))
    assert spec.conv_bias == (not shifts), "a bias is needed unless one is subtracted or added"
    assert parse_norm(spec.name).conv_bias is spec.conv_bias


@each_spec
def test_spec_lists_the_options(spec: NormSpec) -> None:
    """Each option listed is taken by a part, with the default that is listed."""
    listed: dict[str, object] = {}
    for part in (spec.layer, *spec.parts.classes()):
        signature = inspect.signature(part)
        for option, default in options_of(part).items():
            listed.setdefault(option, default)
            assert signature.parameters[option].default == default == spec.options[option]
            made = make_norm(spec.name, CHANNELS, **{option: default})
            assert repr(made) == repr(make_norm(spec.name, CHANNELS))
    assert listed == dict(spec.options)
    if issubclass(spec.layer, Norm2d):
        not_of_an_arm = {"channels", "device", "dtype", "track_running_stats"}
        signature = inspect.signature(spec.layer)
        assert set(options_of(spec.layer)) == set(signature.parameters) - not_of_an_arm
    if "momentum" in spec.options:
        assert spec.options["momentum"] == 0.1
    if "eps" in spec.options:
        of_their_papers = {"pixel_ln": 1e-6, "frn": 1e-6, "frn_tlu": 1e-6, "grn": 1e-6}
        assert spec.options["eps"] == of_their_papers.get(spec.name, 1e-5)


@each_spec
def test_spec_lists_what_parameters_need(spec: NormSpec) -> None:
    choice = parse_norm(spec.name)
    parts = [choice.convolution(CHANNELS, CHANNELS, 3), make_norm(spec.name, CHANNELS)]
    parameters = {name for part in parts for name, _ in part.named_parameters()}
    assert set(spec.optimizer_needs) <= parameters | {"bias"}
    if spec.name == "bin":
        assert dict(spec.optimizer_needs) == {
            "gate": ParameterNeeds(lr_scale=10.0, weight_decay=False, clamp=(0.0, 1.0))
        }
    assert all(isinstance(needs, ParameterNeeds) for needs in spec.optimizer_needs.values())


@pytest.mark.parametrize(
    ("name", "alone"), [("ibn_b", "bn"), ("gn+ws", "gn"), ("frn_tlu", "frn"), ("ws", "none")]
)
def test_what_a_method_is_by_its_layer_alone_is_said(name: str, alone: str) -> None:
    """Whoever makes its layer for a network of another kind gets no more than this."""
    assert repr(make_norm(name, CHANNELS)) == repr(make_norm(alone, CHANNELS))
    assert facts(CATALOG[name])["make_norm"] == f"the layer alone, as for {alone}"
    assert "make_norm" not in facts(CATALOG[alone])
    assert facts(CATALOG["ibn_a"])["make_norm"] == "the layer alone"


@each_spec
def test_twin_is_a_layer_of_torch(spec: NormSpec) -> None:
    if spec.twin is None:  # test_conformance asks for a reference of its own then
        return
    twin = spec.twin(CHANNELS)
    assert type(twin).__module__.startswith("torch.nn.")
    assert set(twin.state_dict()) == set(make_norm(spec.name, CHANNELS).state_dict())


@each_spec
def test_layer_prints_its_options(spec: NormSpec) -> None:
    if not issubclass(spec.layer, Norm2d):
        return
    layer = make_norm(spec.name, CHANNELS)
    text = repr(layer)
    assert text.startswith(f"{spec.layer.__name__}({CHANNELS}")
    for option in options_of(spec.layer):
        if option != "channels_per_group":  # said as groups
            assert f"{option}={getattr(layer, option)}" in text


@each_spec
def test_docstring_tells_source_shapes_and_errors(spec: NormSpec) -> None:
    if not issubclass(spec.layer, Norm2d):
        return
    text = inspect.getdoc(spec.layer) or ""
    for heading in ("Args:", "Shapes:", "Raises:"):
        assert heading in text, heading
    ours = [part for part in spec.parts.classes() if part.__module__.startswith("normlab.")]
    text += "".join(inspect.getdoc(part) or "" for part in ours)
    assert ("Source:" in text) == bool(spec.citation)
    for option in spec.options:
        assert f"{option}:" in text, f"option {option} is not documented"


# ---------------------------------------------------------------------------------------------
# Refused input and state that is not in the checks.


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        ("bn", (1, 16, 1, 1), "BatchNorm2d needs more than one value per channel when training"),
        ("bin", (4, 16, 1, 1), "BatchInstanceNorm2d needs more than one value per map"),
        ("in", (4, 16, 1, 1), "InstanceNorm2d needs more than one value per map"),
        ("gn:groups=16", (4, 16, 1, 1), "GroupNorm2d needs more than one value per group"),
        ("bn", (0, 16, 4, 4), "BatchNorm2d cannot train on an empty batch"),
        ("ln", (16, 4, 4), "LayerNormCHW expects input of shape (N, C, H, W), got 3 dimensions"),
        ("gn", (2, 8, 4, 4), "GroupNorm2d was made for 16 channels, got 8"),
    ],
)
def test_error_names_layer_and_shape(text: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make_norm(text, CHANNELS)(torch.zeros(shape))
    assert said in str(caught.value)
    assert str(shape) in str(caught.value)


def test_one_value_per_image_is_refused() -> None:
    with pytest.raises(ValueError, match="LayerNormCHW needs more than one value per image"):
        make_norm("ln", 1)(torch.zeros(3, 1, 1, 1))


def test_without_momentum_statistics_are_the_plain_average() -> None:
    """By hand: batches of constant maps 1, 2 and 6 have the mean 3; two maps a batch, 0 and 2."""
    layer = BatchNorm2d(1, momentum=None)
    for value in (1.0, 2.0, 6.0):
        layer(torch.full((1, 1, 2, 2), value))
    assert layer.running_mean.item() == 3.0
    assert layer.running_var.item() == 0.0
    assert layer.num_batches_tracked.item() == 3
    layer(torch.tensor([0.0, 2.0, 0.0, 2.0]).view(1, 1, 2, 2))
    assert layer.running_mean.item() == 2.5
    assert layer.running_var.item() == pytest.approx(4 / 3 / 4, rel=1e-6)


def test_running_variance_by_hand() -> None:
    """Values 0 and 2, twice: variance 1 normalizes, a tenth of the unbiased 4/3 is stored."""
    layer = BatchNorm2d(1, eps=0.0)
    y = layer(torch.tensor([0.0, 2.0, 0.0, 2.0]).view(1, 1, 2, 2))
    assert y.flatten().tolist() == [-1.0, 1.0, -1.0, 1.0]
    assert layer.running_mean.item() == pytest.approx(0.1)
    assert layer.running_var.item() == pytest.approx(0.9 + 0.1 * 4 / 3)
