"""Freezing: evaluation for good, at every batch normalization or at none."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import normlab
from normlab.errors import InputError
from normlab.models import ResNet
from normlab.norms import FrozenBatchNorm2d

from .networks import IMAGES, trained


class Nested(nn.Module):
    """A layer at two places, one in a dictionary, and a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.rest = nn.ModuleDict({"again": self.bn, "deep": nn.Sequential(nn.SyncBatchNorm(3))})

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.bn, self.rest["again"], self.rest["deep"]):
            x = layer(x)
        return x


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("trainable", [False, True])
def test_evaluation_for_good(inplace: bool, trainable: bool) -> None:
    network = trained(Nested())
    network.bn.bias.requires_grad_(False)
    calls: list[int] = []
    network.bn.register_forward_hook(lambda *_: calls.append(1))
    before, weight = copy.deepcopy(network).eval(), network.bn.weight
    made = normlab.freeze(network, trainable=trainable, inplace=inplace)
    assert (made is network) == inplace
    assert (type(network.bn) is FrozenBatchNorm2d) == inplace
    calls.clear()
    for _ in range(2):
        torch.testing.assert_close(made.train()(IMAGES), before(IMAGES))
    assert len(calls) >= 4, "hooks are gone"
    assert made.bn is made.rest["again"]
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in made.modules())
    found = {name: p.requires_grad for name, p in made.named_parameters()}
    assert found == ({"bn.weight": True, "bn.bias": False, "rest.deep.0.weight": True,
                      "rest.deep.0.bias": True} if trainable else {})  # fmt: skip
    if trainable:
        assert (made.bn.weight is weight) == inplace
        made(IMAGES).square().sum().backward()
        assert float(made.bn.weight.grad.abs().min()) > 0
        assert "trainable" in repr(made.bn)
        again = copy.deepcopy(made)
        again.bn.reset_parameters()
        assert again.bn.weight.tolist() == again.bn.running_var.tolist() == [1.0] * 3


@pytest.mark.parametrize("norm", ["bn", "sync_bn", "ghost_bn", "batch_renorm", "extended_bn"])
def test_layers_that_are_batch_normalization_in_evaluation(norm: str) -> None:
    network = trained(ResNet(1, 4, norm, seed=0)).double().eval()
    made = normlab.freeze(network)
    torch.testing.assert_close(
        made.train()(IMAGES.double()), network(IMAGES.double()), rtol=1e-10, atol=1e-10
    )
    assert sum(isinstance(m, FrozenBatchNorm2d) for m in made.modules()) == 7


def test_all_or_nothing() -> None:
    class WithActivation(nn.BatchNorm2d):
        """As a fused layer of other packages."""

    for other, said in (
        (nn.BatchNorm1d(3), "1 is BatchNorm1d"),
        (WithActivation(3), "1 is WithActivation"),
        (nn.BatchNorm2d(3, track_running_stats=False), "1 has no running statistics"),
    ):
        network = nn.Sequential(nn.BatchNorm2d(3), other)
        with pytest.raises(InputError, match=said):
            normlab.freeze(network, inplace=True)
        assert type(network[0]) is nn.BatchNorm2d
    with pytest.raises(InputError, match="no batch normalization"):
        normlab.freeze(nn.Sequential(nn.GroupNorm(1, 3)))
