"""A network asks its method for what stands at each place, for methods of a person's own too."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from normlab import compare, foreign
from normlab.errors import InputError
from normlab.models import ModelInfo, ResNet, check_sites, load_model, save_model
from normlab.models.shapes import state_parts
from normlab.models.state import packed

SOURCE = '''
import torch
from torch import nn
from normlab.norms import InstanceNorm2d, NoNorm2d, Parts


class Slope(nn.Module):
    """An activation with a slope for each channel."""

    def __init__(self, channels, start=0.25):
        super().__init__()
        self.start = start
        self.slope = nn.Parameter(torch.full((channels,), float(start)))

    def forward(self, x):
        return torch.where(x > 0, x, x * self.slope.view(1, -1, 1, 1))

    def extra_repr(self):
        return f"start={self.start}"


class Gained(nn.Conv2d):
    def __init__(self, *args, power=1.0, **named):
        super().__init__(*args, **named)
        self.power = power
        self.gain = nn.Parameter(torch.ones(self.out_channels))

    def weight_drawn(self):
        self.gain.copy_(self.weight.flatten(1).norm(dim=1) ** self.power)

    def forward(self, x):
        return super().forward(x) * self.gain.view(1, -1, 1, 1)


class Mine(NoNorm2d):
    conv_bias = True
    parts = Parts(
        convolution=Gained,
        layer=lambda place: InstanceNorm2d if place.position == "stem" else None,
        activation=lambda place: Slope if place.position == "inner" else nn.ReLU,
        after_sum=lambda place: InstanceNorm2d if place.stage == 1 else None,
        weights=lambda place: place.depth**-0.5 if place.position == "last" else 1.0,
        classifier=0.0,
    )


class Wrong(NoNorm2d):
    parts = "none"


class Counting(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x - x.mean(0)


class Mixing(NoNorm2d):
    parts = Parts(activation=lambda place: Counting)
'''


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "places_of_mine.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "places_of_mine:Mine"


def kinds(model: nn.Module, name: str) -> set[str]:
    return {n for n, m in model.named_modules() if type(m).__name__ == name}


def test_everything_stands_where_the_method_puts_it(arm: str) -> None:
    model, plain = ResNet(2, 5, arm, "B", seed=3), ResNet(2, 5, "none", "B", seed=3)
    check_sites(model, arm)
    assert kinds(model, "Conv2d") == set()
    assert kinds(model, "Gained") == kinds(plain, "Conv2d")
    blocks = [f"stages.{stage}.{block}" for stage in range(3) for block in range(2)]
    assert kinds(model, "Slope") == {f"{block}.relu1" for block in blocks}
    assert kinds(model, "ReLU") == {"relu", *(f"{block}.relu2" for block in blocks)}
    assert kinds(model, "InstanceNorm2d") == {"norm0", *(f"stages.1.{b}.after_sum" for b in (0, 1))}
    for name in kinds(model, "Gained"):
        mine, theirs = (m.get_submodule(name).weight for m in (model, plain))
        factor = 6**-0.5 if name.endswith("conv2") else 1.0
        assert torch.allclose(mine, factor * theirs, rtol=1e-6), name
        assert torch.allclose(model.get_submodule(name).gain, mine.flatten(1).norm(dim=1)), name
    assert not model.fc.weight.any()


def test_options_go_to_the_parts_that_take_them(arm: str) -> None:
    model = ResNet(1, 5, f"{arm}:start=0.5:power=2.0:eps=0.01", seed=3)
    assert model.stages[0][0].relu1.start == 0.5
    assert model.conv.power == 2.0
    assert model.norm0.eps == 0.01
    with pytest.raises(ValueError, match=r"no option 'strat' \(did you mean start\?\)"):
        ResNet(1, 5, f"{arm}:strat=0.5")


def test_a_part_that_cannot_be_made_is_found_before_anything_runs(arm: str) -> None:
    with pytest.raises(InputError, match="Slope of places_of_mine:Mine could not be made for 16"):
        compare(arms=f"none,{arm}:start=steep", epochs=1, seeds=1, dry_run=True)


def test_what_stands_after_the_sum_is_applied_to_the_sum(arm: str) -> None:
    block = ResNet(1, 5, arm, seed=3).eval().stages[1][0]
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    y = block.conv2(block.relu1(block.norm1(block.conv1(x))))
    expected = block.relu2(block.after_sum(y + block._short(x)))
    assert torch.equal(block(x), expected)


@pytest.mark.parametrize(
    ("place", "other"),
    [
        ("conv", nn.Conv2d(3, 16, 3, padding=1)),
        ("relu", nn.GELU()),
        ("norm0", nn.BatchNorm2d(16)),
        ("stages.0.0.relu1", nn.ReLU()),
        ("stages.1.0.after_sum", nn.Identity()),
        ("stages.1.0.relu2", nn.Identity()),
    ],
)
def test_a_part_that_is_not_the_methods_is_found(arm: str, place: str, other: nn.Module) -> None:
    model = ResNet(1, 5, arm, seed=3)
    model.set_submodule(place, other)
    with pytest.raises(ValueError, match=f"site {place} has {type(other).__name__}"):
        check_sites(model, arm)


def test_a_model_is_saved_and_loaded_with_all_its_parts(arm: str, tmp_path: Path) -> None:
    names = ("a", "b", "c", "d", "e")
    info = ModelInfo(2, names, arm, "B", 3, 16, (0.5,) * 3, (0.2,) * 3)
    model = info.build(seed=3)
    expected = {name: tuple(t.shape) for name, t in packed(model.state_dict()).items()}
    assert {p.name: p.kind.shape for p in state_parts(info) if p.kind} == expected
    save_model(tmp_path / "model", info, model.state_dict())
    loaded = load_model(tmp_path / "model", trust=True)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.eval()(x), model.eval()(x))


@pytest.mark.usefixtures("arm")
def test_parts_that_are_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be normlab\.norms.Parts, got 'none'"):
        ResNet(1, 5, "places_of_mine:Wrong")


@pytest.mark.usefixtures("arm")
def test_other_parts_are_tried_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Mixing, Counting of 16 channels: in evaluation its out"):
        compare(arms="none,places_of_mine:Mixing", data="digits", epochs=1, seeds=1,
                limit_per_class=8, out=tmp_path / "study")  # fmt: skip


def test_a_network_looks_once_for_the_code_of_a_layer_of_ones_own(
    arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at each place: its files are read each time, so that edits are seen."""
    looked: list[str] = []

    def load(name: str) -> ModuleType:
        looked.append(name)
        return of(name)

    of = foreign.load
    monkeypatch.setattr(foreign, "load", load)
    network = ResNet(1, 5, norm=arm, seed=0)
    assert looked == ["places_of_mine"]
    check_sites(network, arm)
    assert looked == ["places_of_mine"] * 2
