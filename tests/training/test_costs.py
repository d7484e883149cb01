"""What a method costs is measured on its parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from normlab.norms import CATALOG, FixupConv2d, Place
from normlab.training.costs import Cost, cost
from normlab.training.memory import kept_for_backward

INNER, LAST = Place("inner", 0, 3, 0, 3), Place("last", 0, 3, 0, 3)


class Negated(nn.Module):
    """An operation each way, views around it, and nothing kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return -x.flatten(2).unsqueeze(0).squeeze(0).view_as(x)


class Square(nn.Module):
    """Keeps its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.ones(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.square()


class Halved(nn.Module):
    """Works on half of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, dim=1)
        return torch.cat([one.neg().neg(), other], dim=1)


def test_operations_parameters_and_bytes_of_a_layer() -> None:
    assert cost(f"{__name__}:Halved", INNER).forward == 2  # two of halves, and a whole one
    # Backward: 2 x^1 g, three operations.
    assert cost(f"{__name__}:Square", INNER) == Cost(0.0, 64.0**2, 1, 3, 1.0)
    assert cost(f"{__name__}:Negated", INNER) == Cost(0.0, 3.0, 1, 1, 0.0)


@pytest.mark.parametrize("place", [INNER, LAST], ids=["inner", "last"])
def test_those_of_the_catalogue(place: Place) -> None:
    assert cost("none", place) == Cost(1.0, 0.0, 0, 0, 0.0)
    found = cost("torch_bn", place)
    assert (found.per_channel, found.other, found.forward, found.backward) == (2.0, 0.0, 1, 1)
    assert cost("bin", place).per_channel == 3.0


@pytest.mark.parametrize("spec", CATALOG.values(), ids=list(CATALOG))
def test_a_layer_keeps_what_its_spec_says_in_the_network_too(spec: object) -> None:
    assert isinstance(spec, type(CATALOG["bn"]))
    if spec.parts.plain:  # what other parts keep comes on top
        # Of 16 channels, two statistics for each pixel are an eighth of an activation.
        assert cost(spec.name, INNER).kept <= spec.kept + 0.2


def test_what_the_next_convolution_keeps_is_told() -> None:
    """Fixup's takes a sum, which is kept beside the output of the ReLU: measured on what stands
    there, and said of the method."""
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    kept = [
        kept_for_backward(net, lambda net=net: net(x).sum())
        for net in (
            nn.Sequential(nn.ReLU(), convolution(4, 4, 1, bias=False))
            for convolution in (nn.Conv2d, FixupConv2d)
        )
    ]
    assert kept[1] - kept[0] == x.nbytes
    assert (cost("fixup", INNER).kept, cost("fixup", LAST).kept) == (1.0, 2.0)
    assert cost("fixup", INNER).other == 2.0  # the next convolution's own are not counted
    assert cost("skipinit", INNER).kept == 0.0


def test_measuring_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    cost("bn", INNER)
    assert torch.equal(torch.get_rng_state(), before)
