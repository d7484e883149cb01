"""Folding: a network with fewer layers that computes the same, and no layer that is not sure."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import normlab
from normlab.conversion import Folding
from normlab.errors import InputError
from normlab.models import ResNet
from normlab.norms import BatchNorm2d, ChannelAffine2d, FrozenBatchNorm2d, GhostBatchNorm2d

from .networks import IMAGES, trained


def same(network: nn.Module, images: Tensor = IMAGES) -> Folding:
    """Fold in float64, and compare here: not what the report says of itself."""
    network = copy.deepcopy(network).double().eval()
    made = normlab.fold(network, images.double())
    with torch.no_grad():
        before, after = network(images.double()), made.model(images.double())
    assert float((before - after).abs().max()) <= 1e-10 * max(1.0, float(before.abs().max()))
    assert float(before.std()) > 1e-3, "an output of constants shows nothing"
    return made


def left(network: nn.Module) -> list[str]:
    kinds = (nn.modules.batchnorm._NormBase, FrozenBatchNorm2d, ChannelAffine2d)
    return [name for name, module in network.named_modules() if isinstance(module, kinds)]


class Residual(nn.Module):
    """A block with a projection. ``leak`` uses what the first convolution gives once more."""

    def __init__(self, leak: str = "") -> None:
        super().__init__()
        # In this order no list of modules tells which normalization is whose.
        self.bn2, self.bn1 = nn.BatchNorm2d(6), BatchNorm2d(6)
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1, bias=False)
        self.shortcut = nn.ModuleDict({"bn": nn.BatchNorm2d(6), "conv": nn.Conv2d(3, 6, 1, 2)})
        self.leak = leak
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        before = self.conv1(x)
        y = torch.relu(self.bn1(before))
        y = self.bn2(self.conv2(y))
        if self.leak == "view":
            y = y + before.flatten(1).mean(1).view(-1, 1, 1, 1)
        elif self.leak == "attribute":
            self.seen = before
        y = torch.relu(y + self.shortcut["bn"](self.shortcut["conv"](x)))
        return (y, before) if self.leak == "output" else y


def test_plain_grouped_depthwise_transposed_and_linear() -> None:
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(8)),
        nn.ReLU(inplace=True),
        nn.ModuleDict({"only": nn.Conv2d(8, 8, 3, groups=8, bias=False)})["only"],
        FrozenBatchNorm2d(8),
        nn.Conv2d(8, 12, 3, groups=4),
        GhostBatchNorm2d(12),
        ChannelAffine2d(12),  # the second layer behind one convolution
        nn.ConvTranspose2d(12, 6, 3, 2, groups=3, bias=False),
        nn.BatchNorm2d(6, eps=0.1, affine=False),
        nn.Flatten(),
        nn.Linear(6 * 17 * 17, 10),
        nn.BatchNorm1d(10),
    )
    made = same(trained(network))
    assert dict(made.folded) == {
        "0.1": "0.0", "3": "2", "5": "4", "6": "4", "8": "7", "11": "10",
    }  # fmt: skip
    assert not left(made.model)
    assert not made.kept
    assert len(left(network)) == 6, "the network itself was changed"


def test_who_follows_whom_is_what_is_computed() -> None:
    made = same(trained(Residual()))
    assert dict(made.folded) == {
        "bn2": "conv2", "bn1": "conv1", "shortcut.bn": "shortcut.conv",
    }  # fmt: skip


@pytest.mark.parametrize("leak", ["view", "attribute", "output"])
def test_an_output_that_is_used_elsewhere_is_not_changed(leak: str) -> None:
    network = trained(Residual(leak)).eval()
    made = normlab.fold(network, IMAGES)
    assert set(made.folded) == {"bn2", "shortcut.bn"}
    assert "conv1, whose output is also used by" in made.kept["bn1"]
    with torch.no_grad():
        given = network(IMAGES), made.model(IMAGES)
        for before, after in zip(*given, strict=True) if leak == "output" else [given]:
            torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    """A convolution, or its normalization, that is used twice."""

    def __init__(self, shared: str) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.bn, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        if self.shared == "conv":
            y = y + self.conv(y)
        if self.shared == "bn":
            y = self.bn(y)
        out: Tensor = self.last(self.other(y))
        return out


@pytest.mark.parametrize("shared", ["conv", "bn"])
def test_shared_layers_are_left_alone(shared: str) -> None:
    made = same(trained(Twice(shared)))
    assert dict(made.folded) == {"last": "other"}
    assert "used 2 times" in made.kept["bn"]


def test_reasons() -> None:
    hooked, ours = nn.BatchNorm2d(4), type("Ours", (nn.Conv2d,), {})
    fused = type("WithActivation", (nn.BatchNorm2d,), {})
    hooked.register_forward_hook(lambda *_: None)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), hooked, nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4, track_running_stats=False), ours(4, 4, 1), nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), fused(4),
    )  # fmt: skip
    with pytest.raises(InputError, match="has nothing to fold: 1 has hooks"):
        normlab.fold(network, IMAGES)
    made = same(nn.Sequential(network, nn.Conv2d(4, 4, 1), trained(nn.BatchNorm2d(4))))
    assert {name: reason.split()[0] for name, reason in made.kept.items()} == {
        "0.1": "has", "0.3": "has", "0.5": "follows", "0.8": "does", "0.10": "is",
    }  # fmt: skip


class Peeking(nn.Module):
    """Uses a weight of the convolution without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x)) * self.conv.weight.norm()
        return y


def test_a_network_that_would_compute_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="does not compute the same"):
        normlab.fold(trained(Peeking()), IMAGES)


@pytest.mark.parametrize(
    ("norm", "folds"),
    [("bn", 7), ("torch_bn", 7), ("extended_bn", 7), ("batch_renorm", 7), ("frozen_bn", 7),
     ("weight_norm", 0), ("gn+ws:groups=4", 0), ("ibn_a", 5), ("evonorm_b0", 3)],
)  # fmt: skip
def test_networks_of_the_catalogue(norm: str, folds: int) -> None:
    network = trained(ResNet(1, 5, norm, seed=0))
    made = same(network)
    assert len(made.folded) == folds
    filtering = [
        name for name, module in network.named_modules() if hasattr(module, "effective_weight")
    ]
    assert list(made.plain) == filtering
    assert all(type(m) is nn.Conv2d for m in made.model.modules() if isinstance(m, nn.Conv2d))


def test_nothing_of_the_network_changes_and_the_copy_keeps_its_modes() -> None:
    network = trained(Residual())
    network.conv2.eval()
    network.conv1.weight.requires_grad_(False)
    state = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    made = normlab.fold(network, IMAGES, passes=2)
    assert [module.training for module in network.modules()] == modes
    assert [module.training for module in made.model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert not made.model.conv1.weight.requires_grad
    assert made.model.conv2.weight.requires_grad
    assert made.model.conv1.weight.dtype == torch.float32
    assert not any(module._forward_hooks for module in network.modules())
    assert made.seconds is not None
    assert min(made.seconds) > 0
