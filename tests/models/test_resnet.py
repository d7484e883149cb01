"""The network: known parameter counts, initialization, sites."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from normlab.models import ResNet, check_sites, sites
from normlab.norms import CATALOG, BatchNorm2d


@pytest.mark.parametrize(
    ("n", "count"), [(3, 269_722), (5, 464_154), (7, 658_586), (9, 853_018), (18, 1_727_962)]
)
def test_known_parameter_counts(n: int, count: int) -> None:
    assert sum(p.numel() for p in ResNet(n, 10).parameters()) == count


@pytest.mark.parametrize("norm", CATALOG)
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_any_size_from_8_and_one_site_after_every_convolution(norm: str, shortcut: str) -> None:
    model = ResNet(1, 5, norm, shortcut, in_channels=1, seed=0)
    for size in ((8, 8), (9, 13), (28, 28)):
        assert model(torch.randn(2, 1, *size)).shape == (2, 5)
    found = check_sites(model, norm)
    assert len(found) == 7 + (2 if shortcut == "B" else 0)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    biased = CATALOG[norm].conv_bias
    assert all((conv.bias is not None) == biased for conv in convolutions)
    parts, kind = CATALOG[norm].parts, CATALOG[norm].layer
    expected = [parts.layer(model.place_of(site.name)) or kind for site in found]
    assert [type(model.get_submodule(site.name)) for site in found] == expected


def test_weights_are_he_and_the_same_whatever_the_normalization() -> None:
    states = {norm: ResNet(2, 10, norm, seed=7).state_dict() for norm in CATALOG}
    shared = [k for k in states["bn"] if "conv" in k or k.startswith("fc")]
    assert len(shared) == 15
    for norm, state in states.items():
        for name in shared:
            assert torch.equal(state[name], states["bn"][name]), (norm, name)
    other = ResNet(2, 10, "bn", seed=8).state_dict()
    assert not torch.equal(other["conv.weight"], states["bn"]["conv.weight"])
    deep = ResNet(5, 10, seed=0)
    for module in deep.stages[2].modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.in_channels * 9))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.03)
    # No ReLU follows the classifier, so its variance is 1 / fan-in.
    wide = ResNet(1, 500, seed=0).fc
    assert wide.weight.std().item() == pytest.approx(math.sqrt(1 / 64), rel=0.03)


def test_a_seed_from_torch_when_none_is_given() -> None:
    torch.manual_seed(3)
    first = ResNet(1, 3).state_dict()
    torch.manual_seed(3)
    again = ResNet(1, 3, "gn").state_dict()
    assert torch.equal(first["conv.weight"], again["conv.weight"])
    assert not torch.equal(ResNet(1, 3).state_dict()["conv.weight"], first["conv.weight"])


def test_shortcut_a_is_subsampling_with_zeros() -> None:
    block = ResNet(1, 3, "none", seed=0).stages[1][0]
    with torch.no_grad():
        block.conv2.weight.zero_()
    x = torch.rand(2, 16, 9, 9)
    y = block(x)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 16:], torch.zeros(2, 16, 5, 5))


def test_convolutions_pad_with_zeros() -> None:
    """Of an image of ones a sum over 3x3 pixels has 9, at the edge 6, in the corner 4."""
    model = ResNet(1, 3, in_channels=1, seed=0)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
            with torch.no_grad():
                y = module(torch.ones(1, module.in_channels, 8, 8)) / module.in_channels
            assert (y[0, 0, 0, 0], y[0, 0, 0, 1], y[0, 0, 1, 1]) == (4, 6, 9), name
            assert y.shape[2:] == (8 // module.stride[0], 8 // module.stride[0])


def test_a_wrong_layer_at_a_site_is_found() -> None:
    model = ResNet(1, 3, "gn", seed=0)
    model.stages[1][0].norm2 = nn.BatchNorm2d(32)
    with pytest.raises(ValueError, match=r"stages\.1\.0\.norm2 has BatchNorm2d"):
        check_sites(model, "gn")


def test_a_wrong_option_at_a_site_is_found() -> None:
    with pytest.raises(ValueError, match="norm0 has"):
        check_sites(ResNet(1, 3, "gn:groups=4", seed=0), "gn")


def test_a_convolution_without_a_site_and_a_stray_layer_are_found() -> None:
    model = ResNet(1, 3, "bn", seed=0)
    model.extra = nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="8 convolutions but"):
        check_sites(model, "bn")
    model = ResNet(1, 3, "gn", seed=0)
    model.stray = nn.Sequential(BatchNorm2d(64))
    with pytest.raises(ValueError, match=r"outside the sites: stray\.0"):
        check_sites(model, "gn")


def test_the_list_of_sites_comes_from_the_network() -> None:
    found = sites(ResNet(2, 4, "ln", seed=0))
    assert [s.name for s in found][:3] == ["norm0", "stages.0.0.norm1", "stages.0.0.norm2"]
    assert [s.channels for s in found] == [16] * 5 + [32] * 4 + [64] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "classes": 2}, "n must be a whole number of at least 1, got 0"),
        ({"n": 1, "classes": 1}, "classes must be a whole number of at least 2"),
        ({"n": 1, "classes": 2, "shortcut": "C"}, "shortcut must be 'A' or 'B'"),
        ({"n": 1, "classes": 2, "norm": "gn:groups=5"}, "must divide the 16 channels, got 5"),
        ({"n": 1, "classes": 2, "norm": "batchnorm"}, "unknown normalization 'batchnorm'"),
    ],
)
def test_impossible_networks(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments)  # type: ignore[arg-type]


def test_images_under_8_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8x8"):
        ResNet(1, 2, seed=0)(torch.randn(1, 3, 7, 9))
