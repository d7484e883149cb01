"""Runs of any network, and runs that start from trained weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.models import load_model
from normlab.runs import RunConfig, identity
from normlab.studies.same_function import compare_functions
from normlab.training import (
    build,
    check_factory,
    code_of_run,
    started,
    train,
    train_mode,
)
from normlab.training.network import shapes_at_sites
from normlab.training.optimizer import LayerAwareOptimizer

FACTORY = """
import torch
from torch import nn

def build(classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes),
    )

class Viewing(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(in_channels, 4, 3, 1, 1), nn.BatchNorm2d(4)
        self.fc = nn.Linear(256, classes)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).view(len(x), -1))

class Pair(Viewing):
    def forward(self, x):
        return super().forward(x), x

class Auxiliary(Viewing):
    def forward(self, x):
        return (super().forward(x), x) if self.training else super().forward(x)

ONE = build(10, 1)

def again(classes, in_channels):
    return ONE

GENERATOR = torch.Generator().manual_seed(0)

def drawing(classes, in_channels):
    made = build(classes, in_channels)
    nn.init.normal_(made[0].weight, generator=GENERATOR)
    return made

def other_eps(classes, in_channels):
    made = build(classes, in_channels)
    made[1].eps, made[1].momentum = 1e-2, 0.01
    return made

def relu_first(classes, in_channels):
    return nn.Sequential(nn.ReLU(), *build(classes, in_channels))

def backbone(classes, in_channels):
    made = build(classes, in_channels)
    for part in made[:2]:
        part.requires_grad_(False)
    return made

def strided(classes, in_channels):
    return nn.Sequential(*build(classes, in_channels)[:6], nn.Conv2d(12, 12, 9), nn.Flatten())
"""


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig("digits", limit_per_class=20))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with factories, in the working folder."""
    monkeypatch.chdir(tmp_path)
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(FACTORY)
    return name


def config(here: str, **settings: Any) -> RunConfig:
    return RunConfig(**{"model": f"{here}:build", "norm": "as_is", "epochs": 1, **settings})


def _state(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_model(folder, trust=True).state_dict()


def test_a_run_of_a_network_says_what_it_is_and_is_loaded_again(
    here: str, digits: DataSet, tmp_path: Path
) -> None:
    record = train(config(here, norm="gn:groups=4"), digits, tmp_path / "r")
    assert record["status"] == "complete"
    assert [site["name"] for site in record["sites"]] == ["1", "4"]
    assert list(record["code"]) == [f"{here}.py"]
    assert record["network_origin"] == str(tmp_path)
    described = json.loads((tmp_path / "r" / "model.json").read_text())
    assert described["model"] == f"{here}:build"
    assert described["card"]["network"] == f"{here}:build"
    assert "layers" not in described["card"]
    with pytest.raises(InputError, match=rf"is the network {here}:build.*{here}\.py.*--trust"):
        load_model(tmp_path / "r")
    model = load_model(tmp_path / "r", trust=True)
    assert type(model[1]).__name__ == "GroupNorm2d"  # type: ignore[index]
    # Edited code is another network.
    (tmp_path / f"{here}.py").write_text(FACTORY + "\n# edited\n")
    with pytest.raises(InputError, match=rf"The code of {here}:build has changed"):
        load_model(tmp_path / "r", trust=True)


def test_the_same_run_of_a_network_has_the_same_bits(
    here: str, digits: DataSet, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        train(config(here, norm="bn"), digits, tmp_path / name)
    first, second = (_state(tmp_path / name) for name in ("a", "b"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_our_batch_norm_trains_a_network_as_its_own_does(
    here: str, digits: DataSet, tmp_path: Path
) -> None:
    for norm in ("as_is", "bn"):
        train(config(here, norm=norm), digits, tmp_path / norm)
    first, second = (_state(tmp_path / norm) for norm in ("as_is", "bn"))
    assert first.keys() == second.keys()
    assert all(torch.allclose(v.float(), second[n].float(), atol=1e-4) for n, v in first.items())


def test_a_network_that_needs_contiguous_maps_gets_them(
    here: str, digits: DataSet, tmp_path: Path
) -> None:
    record = train(config(here, model=f"{here}:Viewing", norm="bn"), digits, tmp_path / "r")
    assert record["status"] == "complete"
    assert any("contiguous" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("Pair", r"must give logits of shape \(2, 10\).*got tuple"),
        ("Auxiliary", "2 images in training, got tuple.*Auxiliary outputs"),
        ("strided", "--image-size"),
    ],
)
def test_networks_that_do_not_fit_the_data_are_refused(
    here: str, digits: DataSet, factory: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        build(config(here, model=f"{here}:{factory}"), digits)


def test_shapes_at_sites_are_those_of_the_network(here: str, digits: DataSet) -> None:
    assert shapes_at_sites(config(here), digits) == {8: (8, 8), 12: (4, 4)}
    assert shapes_at_sites(RunConfig(), digits) == {16: (8, 8), 32: (4, 4), 64: (2, 2)}


def test_a_start_has_what_the_weights_had(here: str, digits: DataSet, tmp_path: Path) -> None:
    before = train(config(here, epochs=3, lr=0.1), digits, tmp_path / "pre")
    known = before["metrics"]["val"]
    for norm in ("as_is", "bn", "frozen_bn"):
        record = train(
            config(here, norm=norm, weights=str(tmp_path / "pre"), lr=1e-6), digits, tmp_path / norm
        )
        start = record["start"]
        assert start["norm"] == "as_is"
        assert start["loaded"] == 1
        for found in (start["original"], start["val"]):
            assert found["accuracy"] == known["accuracy"]
            assert found["loss"] == pytest.approx(known["loss"], abs=1e-5)
        assert start.get("how", "exact") == "exact"
        assert record["metrics"]["val"]["accuracy"] == pytest.approx(known["accuracy"], abs=0.02)
        assert any("100 % of the parameters" in note for note in record["notes"])


def test_starts_differ_and_are_judged(here: str, digits: DataSet, tmp_path: Path) -> None:
    train(config(here, epochs=6, lr=0.1), digits, tmp_path / "pre")
    found = {}
    for how in ("distilled", "matched", "fresh"):
        record = train(
            config(here, norm="gn:groups=4", weights=str(tmp_path / "pre"), start=how),
            digits,
            tmp_path / how,
        )
        assert record["start"]["how"] == how
        found[how] = record["start"]["val"]["loss"]
    assert found["distilled"] < found["matched"] < found["fresh"]


def test_a_run_from_weights_resumes_to_the_same_bits(
    here: str, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from normlab import stopping
    from normlab.training import run as module

    train(config(here), digits, tmp_path / "pre")
    asked = config(here, norm="gn:groups=4", weights=str(tmp_path / "pre"), epochs=2)
    whole = train(asked, digits, tmp_path / "whole")
    step, steps = module.train_step, []

    def stop_at_third(*args: Any, **named: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            monkeypatch.setattr(module.Group, "asked", lambda self: 2)
        return step(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_step", stop_at_third)
        with pytest.raises((stopping.Stopped, KeyboardInterrupt)):
            train(asked, digits, tmp_path / "parted")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    parted = train(asked, digits, tmp_path / "parted")
    assert parted["start"] == whole["start"]
    first, second = (_state(tmp_path / name) for name in ("whole", "parted"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_weights_count_by_content_in_the_identity(
    here: str, digits: DataSet, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        train(config(here), digits, tmp_path / name)
    asked = [config(here, weights=str(tmp_path / name)) for name in ("a", "b")]
    named = [identity(one, "data", code_of_run(one)) for one in asked]
    assert named[0] == named[1]
    train(config(here, seed=1), digits, tmp_path / "c")
    other = replace(asked[0], weights=str(tmp_path / "c"))
    assert identity(other, "data", code_of_run(other)) != named[0]
    by_seed = replace(asked[0], weights=str(tmp_path / "{seed}"), seed=7)
    assert by_seed.weights_file == str(tmp_path / "7")


def test_frozen_parts_keep_every_bit(here: str, digits: DataSet, tmp_path: Path) -> None:
    train(config(here), digits, tmp_path / "pre")
    train(
        config(here, weights=str(tmp_path / "pre"), freeze_to="2", lr=0.1), digits, tmp_path / "ft"
    )
    before, after = _state(tmp_path / "pre"), _state(tmp_path / "ft")
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.num_batches_tracked"} <= same
    assert not {"3.weight", "4.running_mean", "8.weight"} & same


def test_freezing_says_what_there_is(here: str, digits: DataSet) -> None:
    with pytest.raises(InputError, match=r"freeze_to is 'layer1', which is no module.*parts are 0"):
        build(config(here, freeze_to="layer1"), digits)
    with pytest.raises(InputError, match="nothing would be kept"):
        build(config(here, model=f"{here}:relu_first", freeze_to="0"), digits)
    with pytest.raises(InputError, match="leaves no parameter to train"):
        build(config(here, freeze_to="8"), digits)
    built = build(config(here, freeze_to="1"), digits)
    assert any(said.startswith("3 of 8 parameters") for said in built.notes)
    model = built.model
    train_mode(model)
    assert [module.training for module in model] == [False, False, *[True] * 7]  # type: ignore[union-attr]


def test_the_classifier_has_a_rate_of_its_own(here: str, digits: DataSet) -> None:
    asked = config(here, lr=0.01, head_lr=0.1)
    built = build(asked, digits)
    optimizer = LayerAwareOptimizer(built.model, asked, built.classifier)
    optimizer.set_lr(0.005)
    head = {id(p) for p in built.model.get_submodule("8").parameters()}
    for group in optimizer.inner.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(0.05 if id(parameter) in head else 0.005)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"norm": "as_is"}, "as_is leaves a network as it is"),
        ({"model": "a:b", "n": 3}, "n is of the model resnet6n2 alone"),
        ({"start": "fresh"}, "start needs weights"),
        ({"weights_least": 0.5}, "weights_least needs weights"),
        ({"head_lr": 0.0}, "head_lr must be > 0"),
        ({"weights_least": 1.5, "weights": "w"}, r"weights_least must be in \[0, 1\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        RunConfig(**settings)


def test_our_network_starts_from_its_own_models(digits: DataSet, tmp_path: Path) -> None:
    train(RunConfig(n=1, epochs=1), digits, tmp_path / "pre")
    for norm in ("as_is", "gn:groups=4"):
        asked = RunConfig(n=1, norm=norm, weights=str(tmp_path / "pre"))
        built = started(asked, digits)
        assert built.loaded is not None
        assert built.loaded.share == 1
        assert built.info.norm == ("bn" if norm == "as_is" else norm)
        assert isinstance(built.model, nn.Module)


@pytest.mark.parametrize(
    ("factory", "said"),
    [("again", "has returned before"), ("drawing", r"another network each time \(0\.weight\)")],
)
def test_a_factory_that_would_mix_arms_is_refused(
    here: str, digits: DataSet, factory: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        check_factory(config(here, model=f"{here}:{factory}"), digits)
    check_factory(config(here), digits)


@pytest.mark.parametrize("norm", ["bn", "torch_bn", "frozen_bn", "none"])
def test_an_arm_starts_exactly_where_the_network_has_another_eps(
    here: str, digits: DataSet, tmp_path: Path, norm: str
) -> None:
    named = {"model": f"{here}:other_eps"}
    before = train(config(here, epochs=3, lr=0.1, **named), digits, tmp_path / "pre")
    asked = config(here, norm=norm, weights=str(tmp_path / "pre"), lr=1e-6, **named)
    record = train(asked, digits, tmp_path / "ft")
    assert record["start"]["how"] == "exact"
    known = before["metrics"]["val"]["loss"]
    assert record["start"]["val"]["loss"] == pytest.approx(known, abs=1e-4)
    assert type(load_model(tmp_path / "ft", trust=True)).__name__ == "Sequential"


def test_what_moves_no_number_does_not_count(here: str) -> None:
    base = config(here, weights="w")
    assert identity(base, "d", {}) == identity(replace(base, weights_least=0.5), "d", {})
    assert identity(base, "d", {}) == identity(replace(base, start="fresh"), "d", {})
    other = replace(base, norm="bn")
    assert identity(other, "d", {}) != identity(replace(other, start="fresh"), "d", {})


def test_the_same_function_is_compared_with_a_rate_of_the_classifier(digits: DataSet) -> None:
    arms = [RunConfig(n=1, norm=norm, head_lr=0.1) for norm in ("torch_bn", "bn")]
    found = compare_functions(("torch_bn", arms[0]), ("bn", arms[1]), digits, steps=2)
    assert not found.mismatch
    assert found.steps == 2


def test_what_a_factory_keeps_from_training_is_said(here: str, digits: DataSet) -> None:
    built = build(config(here, model=f"{here}:backbone", norm="gn:groups=4"), digits)
    (said,) = built.notes
    assert said.startswith("3 of 8 parameters")
    assert "as its factory made them" in said


def test_layers_are_distilled_before_they_are_frozen(
    here: str, digits: DataSet, tmp_path: Path
) -> None:
    train(config(here, epochs=6, lr=0.1), digits, tmp_path / "pre")
    asked = config(here, norm="gn:groups=4", weights=str(tmp_path / "pre"))
    free, kept = (started(replace(asked, freeze_to=to), digits).model for to in (None, "2"))
    weights = [one.get_parameter("1.weight") for one in (free, kept)]
    assert torch.equal(*weights)
    assert [one.requires_grad for one in weights] == [True, False]
