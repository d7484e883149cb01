"""Explaining networks that are not ours: where maps are taken, where their cells are, what their
sum is, and how layers are randomized."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import CHANNELS, CLASSES, NETWORKS, Head, images, trained
from normlab.errors import InputError
from normlab.explain import (
    METHODS,
    Axis,
    Grid,
    averaged_for,
    cell_grid,
    explain_batch,
    followed_grid,
    in_logit_units,
    last_stage,
    randomization_check,
    resolve_site,
)
from normlab.explain.layers import layers_of
from normlab.explain.sites import site_words
from normlab.models import ResNet
from normlab.models.concerns import KINDS as CONCERNS
from normlab.norms import CATALOG

TARGETS = torch.tensor([3, 0, 2])


class SharedReLU(nn.Module):
    """A block that calls one in-place ReLU twice, as torchvision's residual networks do."""

    class Block(nn.Module):
        def __init__(self, inplace: bool) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(CHANNELS, 8, 3, 2, 1), nn.BatchNorm2d(8)
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
            self.relu = nn.ReLU(inplace)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(x))
            out += x
            return self.relu(out)

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.layer = nn.Sequential(self.Block(inplace))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(self.layer(x)), 1))


class Squeezed(nn.Module):
    """The last convolutions look at single numbers: a gate, and a layer after the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(CHANNELS, 8, 3), nn.BatchNorm2d(8), nn.SiLU()
        self.gate = nn.Conv2d(8, 8, 1)
        self.head, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.conv(x)))
        x = (x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3), keepdim=True)
        return self.fc(F.relu(self.head(x)).flatten(1))


class Patches(nn.Module):
    """Mixes the patches of an image as a sequence, in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Conv2d(CHANNELS, 8, 4, 4), nn.Linear(9, 9)
        self.fold, self.fc = nn.Identity(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        sequence = self.mix(self.embed(x).flatten(2))
        return self.fc(self.fold(sequence.unflatten(2, (3, 3))).mean((2, 3)))


class AuxiliaryHead(nn.Module):
    """A convolution is called last that the logits do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.other = nn.Conv2d(CHANNELS, 8, 3), Head(8), nn.Conv2d(8, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.other(x)
        return self.head(x)


def vgg() -> nn.Module:
    """Pooled once more after the last convolution, and flattened."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(), nn.Linear(72, CLASSES),
    )  # fmt: skip


def convolved() -> nn.Module:
    """The classifier is a 1x1 convolution of the means."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(8, CLASSES, 1), nn.Flatten(),
    )  # fmt: skip


KINDS: dict[str, Callable[[], nn.Module]] = {
    **NETWORKS,
    "shared ReLU": SharedReLU,
    "squeezed": Squeezed,
    "patches": Patches,
    "auxiliary head": AuxiliaryHead,
    "vgg": vgg,
    "convolved": convolved,
}
FOUND: dict[str, tuple[str, str, int, Axis, bool]] = {
    "plain": ("5", "3", 8, Axis(2, 1), True),
    "residual": ("layers.1", "layers.1.conv", 12, Axis(0, 1), True),
    "inverted bottleneck": ("project.1", "project.0", 12, Axis(0, 1), True),
    "dense": ("parts.conv 2", "parts.conv 2", 10, Axis(1, 1), False),
    "U": ("last.0.1", "up", 6, Axis(-0.5, 2), True),
    "shared": ("again.1", "second", 8, Axis(2, 1), True),
    "fused": ("4", "2", 8, Axis(2, 1), True),
    "shared ReLU": ("layer.0.relu", "layer.0.conv2", 6, Axis(0, 2), True),
    "squeezed": ("act", "conv", 10, Axis(1, 1), False),
    "patches": ("fold", "embed", 3, Axis(1.5, 4), True),
    "auxiliary head": ("conv", "conv", 10, Axis(1, 1), True),
    "vgg": ("6", "4", 6, Axis(0.5, 2), False),
    "convolved": ("2", "0", 5, Axis(1, 2), True),
}
"""The end of the last convolution's stage, that convolution, cells along an axis, where they are,
and whether they add up to the logit."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_stage_is_found_and_its_maps_mean_what_is_said(kind: str) -> None:
    model, x = trained(KINDS[kind]).double(), images(3).double()
    site, convolution, side, axis, complete = FOUND[kind]
    stage = last_stage(model, x)
    assert (stage.site, stage.convolution, stage.size) == (site, convolution, (side, side))
    assert resolve_site(model, "last", x) == (site,)
    assert site_words(model, "last", x) == f"Maps are taken at {stage.words}."
    for said in (site, convolution, f"{side} × {side}"):
        assert said in stage.words
    assert cell_grid(model, site, x) == Grid(axis, axis)
    maps = explain_batch(model, x, TARGETS)
    assert maps.shape == (3, side, side)
    assert maps.abs().max() > 1e-3
    assert in_logit_units("grad-cam", (site,), model, x) == complete
    assert not in_logit_units("layer-cam", (site,), model, x)
    if not complete:
        with pytest.raises(InputError, match="averaged over positions"):
            explain_batch(model, x, TARGETS, "cam")
        return
    classifier = averaged_for(model, site, x)
    assert classifier is not None
    logits = (model(x) - classifier.bias).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(maps.sum((1, 2)), logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(explain_batch(model, x, TARGETS, "cam"), side**2 * maps)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("norm", CATALOG)
def test_in_our_own_network_it_is_the_last_blocks_output(norm: str, shortcut: str) -> None:
    model, x = ResNet(1, 3, norm, shortcut, seed=0), torch.randn(2, 3, 16, 16)  # type: ignore[arg-type]
    stage = last_stage(model, x)
    assert (stage.site, stage.size, stage.calls) == ("stages.2.0.relu2", (4, 4), 1)
    assert followed_grid(model, stage.site, x) == Grid(Axis(0, 4), Axis(0, 4))
    assert averaged_for(model, stage.site, x) is model.fc
    assert site_words(model, "last", x) == ""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["shared ReLU", "vgg", "dense"])
def test_a_network_is_left_as_it_was(kind: str, method: str) -> None:
    model, x = trained(KINDS[kind]), images(3)
    model.train()
    next(model.children()).eval()
    heard: list[int] = []
    handle = model.register_forward_hook(lambda _m, _i, y: heard.append(len(y)))
    next(model.parameters()).requires_grad_(False)
    modes = [module.training for module in model.modules()]
    asked = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    with torch.inference_mode():
        if method == "cam" and not FOUND[kind][4]:
            with pytest.raises(InputError):
                explain_batch(model, x, TARGETS, method)
        else:
            explain_batch(model, x, TARGETS, method)
        cell_grid(model, FOUND[kind][0], x)
    assert heard
    handle.remove()
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == asked
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"cam"}))
@pytest.mark.parametrize("site", ["layer.0.bn1", "layer.0.bn2", "layer.0.relu", "layer.0"])
def test_what_is_done_in_place_does_not_change_what_was_seen(site: str, method: str) -> None:
    model = trained(SharedReLU)
    apart = SharedReLU(inplace=False)
    apart.load_state_dict(model.state_dict())
    x = images(3)
    found, expected = (explain_batch(m, x, TARGETS, method, (site,)) for m in (model, apart))
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 1e-4


def test_of_a_module_that_is_called_twice_the_last_call_is_meant_and_said() -> None:
    model, x = trained(SharedReLU), images(3)
    assert "layer.0.relu (its last of 2 calls)" in last_stage(model, x).words
    said = "layer.0.relu is called 2 times in a pass. Maps are of the last call."
    assert site_words(model, "layer.0.relu", x) == said
    assert site_words(model, "layer.0.bn1", x) == ""
    at_relu, of_block = (explain_batch(model, x, TARGETS, "grad-cam", (site,))
                         for site in ("layer.0.relu", "layer.0"))  # fmt: skip
    assert torch.equal(at_relu, of_block)


def test_a_network_that_drops_the_axis_of_a_single_image_is_explained() -> None:
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = trained(NETWORKS["plain"])

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).squeeze()

    model, x = Squeezing(), images(3)
    assert last_stage(model, x).site == "body.5"
    together = explain_batch(model, x, TARGETS)
    alone = explain_batch(model, x[:1], TARGETS[:1])
    torch.testing.assert_close(alone, together[:1])
    with pytest.raises(InputError, match=r"got a tensor of shape \(1,\) for 1 image\."):
        last_stage(nn.Sequential(nn.Conv2d(CHANNELS, 1, 12), nn.Flatten(0)), x)


def test_a_site_is_tried_at_the_size_of_the_images() -> None:
    model = nn.Sequential(nn.Conv2d(CHANNELS, 4, 11, bias=False), nn.ReLU(), Head(4))
    assert resolve_site(model, "0", images(1)) == ("0",)  # which 8 x 8 pixels do not reach


def test_what_is_no_classifier_of_images_is_refused() -> None:
    class Named(nn.Module):
        def __init__(self, put_out: Callable[[Tensor], object]) -> None:
            super().__init__()
            self.body, self.put_out = trained(NETWORKS["plain"]), put_out

        def forward(self, x: Tensor) -> object:
            return self.put_out(self.body(x))

    for put_out, found in (
        (lambda y: {"out": y, "aux": y}, "dict with out, aux"),
        (lambda y: (y, y), "tuple"),
        (lambda y: y[:, :, None, None], r"a tensor of shape \(3, 4, 1, 1\)"),
    ):
        for method in ("grad-cam", "cam", "score-cam"):
            with pytest.raises(InputError, match=rf"Named must put out logits .* got {found}"):
                explain_batch(Named(put_out), images(3), TARGETS, method, ("body.5",))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 144, CLASSES))
    with pytest.raises(InputError, match="Sequential has no convolution with maps"):
        explain_batch(flat, images(3), TARGETS)

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.both, self.head = nn.Conv2d(CHANNELS, 8, 3), Halves(), Head(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.both(self.body(x))[0])

    class Halves(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return list(x.chunk(2, 1))

    with pytest.raises(InputError, match=r"site both has no maps.*got list"):
        resolve_site(Listed(), "both", images(1))


class Ways(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.way, self.end = forward, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.way(x)).mean((2, 3))


def _convolved(x: Tensor, kernel: int, **how: object) -> Tensor:
    return F.conv2d(x, torch.ones(1, 1, kernel, kernel), **how)  # type: ignore[arg-type]


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "valid": lambda x: _convolved(_convolved(x, 5), 3, stride=2),
    "stride and padding": lambda x: _convolved(_convolved(x, 7, stride=2, padding=3), 3, stride=2,
                                               padding=1),
    "dilated": lambda x: _convolved(x, 3, dilation=3, stride=2, padding=2),
    "same": lambda x: _convolved(x, 3, padding="same"),
    "pooled": lambda x: F.max_pool2d(F.avg_pool2d(_convolved(x, 3), 2), 3, 2, 1),
    "pooled to a size": lambda x: F.adaptive_avg_pool2d(x, 4),
    "transposed": lambda x: F.conv_transpose2d(
        F.avg_pool2d(x, 4), torch.ones(1, 1, 4, 4), stride=2, padding=1),
    "corners": lambda x: F.interpolate(
        F.avg_pool2d(x, 4), (7, 7), mode="bilinear", align_corners=True)[:, :, ::2, ::2],
    "enlarged": lambda x: F.interpolate(F.avg_pool2d(x, 4), scale_factor=3.0),
    "padded": lambda x: F.max_pool2d(F.pad(x, (3, 0, 1, 0)), 3, 2),
    "sliced": lambda x: x[:, :, 1::3, -9::2],
    "joined": lambda x: torch.cat([F.max_pool2d(x, 3, 2, 1), _convolved(x, 5, stride=2,
                                                                       padding=2)], 1),
    "reordered": lambda x: x.unflatten(1, (1, 1)).transpose(1, 2).flatten(1, 2).flip(1),
}  # fmt: skip


TOGETHER = {"transposed": 2, "enlarged": 3}


@pytest.mark.parametrize("way", WAYS)
def test_cells_are_centred_on_what_they_see(way: str) -> None:
    # Which pixels a cell sees is tried out: one pixel at a time is lit. Where an image is enlarged,
    # that is right for as many cells together as come from one.
    side, model = 16, Ways(WAYS[way])
    lit = torch.eye(side * side).reshape(-1, 1, side, side)
    seen = model.way(lit).amax(1) > 0
    grid = followed_grid(model, "end", lit)
    assert grid is not None
    rows, columns = (
        range(cells // 2, cells // 2 + TOGETHER.get(way, 1)) for cells in seen.shape[1:]
    )
    centres = []
    for row, column in zip(rows, columns, strict=True):
        pixels = np.divmod(seen[:, row, column].nonzero()[:, 0].numpy(), side)
        centres.append([(at.min() + at.max()) / 2 for at in pixels])
    expected = [
        axis.start + axis.stride * np.mean(cells)
        for axis, cells in ((grid.rows, rows), (grid.columns, columns))
    ]
    np.testing.assert_allclose(np.mean(centres, 0), expected)


@pytest.mark.parametrize(
    "way",
    [
        lambda x: x.transpose(2, 3),
        lambda x: x.flip(3),
        lambda x: torch.roll(x, 3, 2),
        lambda x: x.flatten(2).unflatten(2, (16, 16)),
        lambda x: x[:, :, torch.randperm(16)],
        lambda x: F.interpolate(F.avg_pool2d(x, 16), (16, 16), mode="bilinear", align_corners=True),
    ],
)
def test_what_may_move_cells_is_not_followed(way: Callable[[Tensor], Tensor]) -> None:
    model, x = Ways(way), torch.rand(1, 1, 16, 16)
    assert followed_grid(model, "end", x) is None
    assert cell_grid(model, "end", x) == Grid(Axis(0, 1), Axis(0, 1))


LAYERS = {
    "plain": ["0 1", "3 4", "6.fc"],
    "residual": [
        "layers.0.downsample.0 layers.0.downsample.1", "layers.0.conv layers.0.bn",
        "layers.1.conv layers.1.bn", "head.fc",
    ],
    "dense": [
        "stem parts.norm 0", "parts.conv 0 parts.norm 1", "parts.conv 1 parts.norm 2",
        "parts.conv 2", "head.fc",
    ],
    "shared": ["first norm between", "second", "head.fc"],
    "shared ReLU": ["layer.0.conv1 layer.0.bn1", "layer.0.conv2 layer.0.bn2", "fc"],
    "auxiliary head": ["conv", "head.fc"],
    "patches": ["embed", "mix", "fc"],
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_are_randomized_with_what_follows_them_from_the_classifier_down(kind: str) -> None:
    model, x = trained(KINDS[kind]), images(3)
    layers = layers_of(copy.deepcopy(model), x)
    assert [" ".join(p.path for p in layer.parts) for layer in layers] == LAYERS[kind]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    steps = randomization_check(model, x, TARGETS, seed=3)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert [step.layer for step in steps] == ["", *(layer.name for layer in reversed(layers))]
    np.testing.assert_array_equal(steps[0].maps, explain_batch(model, x, TARGETS).numpy())
    torch.manual_seed(7)
    again = randomization_check(model, x, TARGETS, seed=3)
    for step, same in zip(steps, again, strict=True):
        np.testing.assert_array_equal(step.maps, same.maps)
    # Nothing that was learned is left at the end, and each step goes one layer further.
    with torch.no_grad():
        model.get_submodule(layers[0].name).weight.mul_(-0.7)  # type: ignore[operator]
    changed = randomization_check(model, x, TARGETS, seed=3)
    for index, (before, after) in enumerate(zip(steps, changed, strict=True)):
        assert (before.maps != after.maps).any() == (index < len(steps) - 1), before.layer


@pytest.mark.parametrize("kind", ["residual", "dense", "U", "fused", "inverted bottleneck"])
def test_layers_are_taken_from_a_network_made_anew(kind: str) -> None:
    made: list[nn.Module] = []

    def fresh(seed: int) -> nn.Module:
        made.append(KINDS[kind]())
        return made[-1]

    model, x = trained(KINDS[kind]), images(3)
    for seed in (0, 0, 1):
        end = randomization_check(model, x, TARGETS, seed=seed, fresh=fresh)[-1]
        np.testing.assert_array_equal(end.maps, explain_batch(made[-1], x, TARGETS).numpy())
    weights = [next(one.parameters()) for one in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Scaled(nn.Module):
    """A scale of its own on what a convolution gives."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(CHANNELS, width, 3), Head(width)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x) * self.scale))


def test_weights_that_cannot_be_made_anew_are_refused() -> None:
    model, x = nn.Sequential(trained(Scaled), nn.Identity()), images(3)
    with pytest.raises(InputError, match=r"^0 \(Scaled\) has weights but no reset_parameters"):
        randomization_check(model, x, TARGETS)
    with pytest.raises(InputError, match=r"not the same tensors.*conv\.weight"):
        randomization_check(model[0], x, TARGETS, fresh=lambda _seed: Scaled(12))
    with pytest.raises(InputError, match=r"trained weights in head\.fc\.weight"):
        randomization_check(model[0], x, TARGETS, fresh=lambda _seed: copy.deepcopy(model[0]))
    steps = randomization_check(model[0], x, TARGETS, fresh=lambda _seed: Scaled())
    assert [step.layer for step in steps] == ["", "head.fc", "conv"]

    normed = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(CHANNELS, 8, 3)), nn.ReLU(), Head(8)
    )
    with pytest.raises(InputError, match=r"0\.parametrizations\.weight .* no reset_parameters"):
        randomization_check(normed, x, TARGETS)

    class Borrowed(AuxiliaryHead):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.conv2d(x, self.conv.weight))

    class Cut(AuxiliaryHead):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    with pytest.raises(InputError, match="no gradient by any weight"):
        randomization_check(Cut(), x, TARGETS, "score-cam", ("conv",))
    with pytest.raises(InputError, match="no convolution with maps"):
        last_stage(Cut(), x)
    with pytest.raises(InputError, match=r"uses conv\.weight without calling"):
        randomization_check(Borrowed(), x, TARGETS, sites=("other",))


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs/inspect-and-explain.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 2
    given = {"network": trained(NETWORKS["plain"]), "images": images(3), "targets": TARGETS}
    for block in blocks:
        exec(block, given)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Not every batch norm has the same eps")
    assert told[-2].startswith("the output of 5: 8 × 8 cells")
    assert told[-1] == "True"
    assert given["placed"].shape == (3, 12, 12)  # type: ignore[union-attr]
    kinds = re.findall(r"^\| `([\w ]+)` \|", page.read_text(encoding="utf-8"), re.M)
    assert tuple(kinds) == CONCERNS
