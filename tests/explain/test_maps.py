"""Class activation maps: against captum, torchcam, loops and numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normlab.errors import InputError
from normlab.explain import (
    METHODS,
    explain_batch,
    in_logit_units,
    last_site,
    last_stage_sites,
    resolve_site,
)
from normlab.models import ResNet
from normlab.norms import CATALOG

SITES = ("stages.2.0.relu2", "stages.2.0.relu1", "stages.1.0", "stages.0.0.norm2", "norm0")
LAST = SITES[0]
TARGETS = torch.tensor([4, 0, 2])
DTYPES = (torch.float32, torch.float64)


NOTHING_POSITIVE = {
    ("evonorm_b0", "stages.2.0.relu1", "layer-cam"),
    ("proxy_gn", "stages.2.0.relu1", "layer-cam"),
}
"""Where the sum of what speaks for a class is negative: these activations have values below 0."""


def network(norm: str = "bn", dtype: torch.dtype = torch.float32, n: int = 1) -> ResNet:
    """In evaluation mode, with nothing that is 0 or 1 as at the start."""
    model = ResNet(n, 5, norm, in_channels=2, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("norm0.weight", "norm1.weight", "norm2.weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("gate"):
                tensor.uniform_(0.2, 0.8, generator=generator)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0, 0.3, generator=generator)
            elif name.endswith(("scale", "alpha")):
                tensor.uniform_(1.0, 2.0, generator=generator)
            elif name.endswith("weight") and not tensor.any():  # as Fixup starts
                tensor.normal_(0, 0.2, generator=generator)
    return model.to(dtype).eval()


def images(dtype: torch.dtype = torch.float32, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, 2, side, side, generator=generator).to(dtype)


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 1e-3, "nothing to compare"
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def sites_of(norm: str) -> tuple[str, ...]:
    """Where a map has a value. Nothing but a sum stands between the second layer of a block and
    the instance norm of IBN-b, so a constant there changes nothing, and the gradients of each map
    have the mean 0."""
    return tuple(s for s in SITES if norm != "ibn_b" or s != "stages.0.0.norm2")


def head(model: ResNet, activation: Tensor) -> Tensor:
    """Logits from the output of the last block."""
    logits: Tensor = model.fc(activation.mean((2, 3)))
    return logits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", CATALOG)
def test_grad_cam_is_captums(norm: str, dtype: torch.dtype) -> None:
    captum = pytest.importorskip("captum.attr")
    model, x = network(norm, dtype), images(dtype)
    for site in sites_of(norm):
        maps = explain_batch(model, x, TARGETS, "grad-cam", (site,))
        assert maps.dtype == dtype
        assert not maps.requires_grad
        theirs = captum.LayerGradCam(model, model.get_submodule(site))
        for relu in (False, True):
            expected = theirs.attribute(x.clone(), TARGETS, relu_attributions=relu)[:, 0].detach()
            close(maps.relu() if relu else maps, expected)


@pytest.mark.parametrize("norm", CATALOG)
def test_grad_cam_layer_cam_and_cam_are_torchcams(norm: str) -> None:
    methods = pytest.importorskip("torchcam.methods")
    model, x = network(norm), images()
    for site in sites_of(norm):
        for name, method in (("grad-cam", methods.GradCAM), ("layer-cam", methods.LayerCAM)):
            with method(model, site) as theirs:
                (expected,) = theirs(TARGETS.tolist(), model(x), normalized=False)
            maps = explain_batch(model, x, TARGETS, name, (site,)).relu()
            if (norm, site, name) in NOTHING_POSITIVE:
                assert not maps.any()
                assert not expected.any()
            else:
                close(maps, expected.detach())
    with methods.CAM(model, LAST, "fc") as theirs:
        model(x)
        (expected,) = theirs(TARGETS.tolist(), normalized=False)
    close(explain_batch(model, x, TARGETS, "cam"), expected)


def test_score_cam_is_torchcams_where_masks_are_not_enlarged() -> None:
    # Where they are, torchcam places them half a stride off, see the next test.
    methods = pytest.importorskip("torchcam.methods")
    model, x, site = network(), images(), "stages.0.0.relu2"
    with methods.ScoreCAM(model, site) as theirs:
        model(x)
        (expected,) = theirs(TARGETS.tolist(), normalized=False)
    close(explain_batch(model, x, TARGETS, "score-cam", (site,)), expected)


@torch.no_grad()
def test_score_cam_is_the_definition() -> None:
    model, x = network(dtype=torch.float64), images(torch.float64)
    with seen_at(model, LAST) as seen:
        model(x)
    axis, centres = np.arange(16), 4 * np.arange(4)
    expected = []
    for image, target, activations in zip(x, TARGETS, seen[0], strict=True):
        scores = []
        for channel in activations.numpy():
            half = [np.interp(axis, centres, row) for row in channel]
            mask = np.stack([np.interp(axis, centres, column) for column in np.stack(half).T]).T
            spread = mask.max() - mask.min()
            mask = (mask - mask.min()) / spread if spread else mask * 0
            scores.append(model(image[None] * torch.from_numpy(mask))[0, target].item())
        weights = np.exp(scores) / np.exp(scores).sum()
        expected.append(torch.from_numpy(np.einsum("k,khw->hw", weights, activations.numpy())))
    close(explain_batch(model, x, TARGETS, "score-cam"), torch.stack(expected))


def test_grad_cam_plus_plus_is_the_definition() -> None:
    # torchcam 0.5 leaves the denominator of alpha out, so it is no reference here. Derivatives
    # of exp(logit) are taken by autograd, which is exact at the last block's output.
    model, x = network(dtype=torch.float64), images(torch.float64, 8)[:1]
    with seen_at(model, LAST) as seen, torch.no_grad():
        model(x)
    activation = seen[0].detach()
    expected = torch.zeros(activation.shape[2:], dtype=torch.float64)
    score = head(model, activation)[0, 4].exp().item()
    for k, channel in enumerate(activation[0]):
        weight = 0.0
        for place in np.ndindex(*channel.shape):
            change = torch.zeros((), dtype=torch.float64, requires_grad=True)
            at = torch.zeros_like(activation)
            at[0, k, *place] = 1
            derivatives = [head(model, activation + change * at)[0, 4].exp()]
            for _ in range(3):
                derivatives += torch.autograd.grad(derivatives[-1], change, create_graph=True)
            first, second, third = (d.item() for d in derivatives[1:])
            alpha = second / (2 * second + channel.sum().item() * third)
            weight += alpha * max(first, 0)
        expected += weight / score * channel
    close(explain_batch(model, x, TARGETS[:1], "grad-cam++")[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", CATALOG)
def test_identities_at_the_last_block_and_nowhere_else(norm: str, dtype: torch.dtype) -> None:
    model, x = network(norm, dtype), images(dtype)

    def of(method: str, site: str) -> Tensor:
        return explain_batch(model, x, TARGETS, method, (site,))

    logit = (model(x) - model.fc.bias).gather(1, TARGETS[:, None])[:, 0].detach()
    close(of("grad-cam", LAST), of("hires-cam", LAST))
    close(of("hires-cam", LAST).sum((1, 2)), logit)
    close(of("cam", LAST), 16 * of("grad-cam", LAST))
    for method in ("grad-cam", "hires-cam"):
        assert in_logit_units(method, (LAST,), model, x)
    for method, sites in (
        ("cam", (LAST,)),
        ("layer-cam", (LAST,)),
        ("grad-cam", (SITES[1],)),
        ("hires-cam", last_stage_sites(model)),
    ):
        assert not in_logit_units(method, sites, model, x)
    elsewhere = of("hires-cam", SITES[1])
    assert (of("grad-cam", SITES[1]) - elsewhere).abs().max() > 1e-3
    assert (elsewhere.sum((1, 2)) - logit).abs().max() > 1e-2


def test_a_map_of_several_sites_is_their_mean() -> None:
    model, x = network(n=2), images(side=8)
    sites = resolve_site(model, "mean", x)
    assert sites == last_stage_sites(model)
    assert sites == tuple(f"stages.2.{b}.relu{r}" for b in (0, 1) for r in (1, 2))
    assert resolve_site(model, "last", x) == (last_site(model, x),) == sites[-1:]
    for method in sorted(set(METHODS) - {"cam"}):
        each = [explain_batch(model, x, TARGETS, method, (site,)) for site in sites]
        together = explain_batch(model, x, TARGETS, method, sites)
        close(together, torch.stack(each).mean(0))
        assert (together - each[-1]).abs().max() > 1e-3 * together.abs().max()


def test_grad_cam_is_blind_right_before_instance_normalization() -> None:
    # It takes each map's mean away, so the gradient by what comes before has no mean.
    model, x = network("in", torch.float64), images(torch.float64)
    assert explain_batch(model, x, TARGETS, "grad-cam", ("conv",)).abs().max() < 1e-12
    assert explain_batch(model, x, TARGETS, "hires-cam", ("conv",)).abs().max() > 1e-3


class Tiny(nn.Module):
    """Two maps of the image, a and max(3 - a, 0), then a linear layer on means or on cells."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.conv, self.relu, self.pooled = nn.Conv2d(1, 2, 1), nn.ReLU(), pooled
        self.fc = nn.Linear(2 if pooled else 8, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 3.0]))
            self.fc.weight.zero_()
            row = [2.0, -4.0] if pooled else [1.0, 2.0, 3.0, -2.0, 0.0, 0.0, 0.0, 0.0]
            self.fc.weight[1] = torch.tensor(row)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.relu(self.conv(x))
        logits: Tensor = self.fc(maps.mean((2, 3)) if self.pooled else maps.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("pooled", "method", "expected"),
    [
        (True, "grad-cam", [[-1.5, 0.0], [1.5, 2.0]]),
        (True, "hires-cam", [[-1.5, 0.0], [1.5, 2.0]]),
        (True, "layer-cam", [[0.5, 1.0], [1.5, 2.0]]),
        (True, "grad-cam++", [[2 / 7, 4 / 7], [6 / 7, 8 / 7]]),
        (False, "grad-cam", [[1.0, 2.0], [3.0, 4.0]]),
        (False, "hires-cam", [[1.0, 4.0], [9.0, -8.0]]),
        (False, "layer-cam", [[1.0, 4.0], [9.0, 0.0]]),
        # Weight of the first map: 1/12 + 2/22 + 3/32, its cells summing to 10.
        (False, "grad-cam++", [[283 / 1056 * v for v in row] for row in ((1, 2), (3, 4))]),
    ],
)
def test_numbers_worked_out_by_hand(pooled: bool, method: str, expected: list[list[float]]) -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    (found,) = explain_batch(Tiny(pooled), x, torch.tensor([1]), method, ("relu",))
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", ["bn", "in", "bin", "ln"])
def test_an_images_map_is_its_own(norm: str, method: str) -> None:
    model, x = network(norm), images(side=8)
    together = explain_batch(model, x, TARGETS, method)
    alone = [explain_batch(model, x[i : i + 1], TARGETS[i : i + 1], method)[0] for i in range(3)]
    close(together, torch.stack(alone))


@contextmanager
def seen_at(model: nn.Module, site: str) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    handle = model.get_submodule(site).register_forward_hook(lambda _m, _i, y: seen.append(y))
    yield seen
    handle.remove()


def in_training(model: ResNet) -> None:
    model.train()
    model.stages[1].eval()


def frozen(model: ResNet) -> None:
    model.requires_grad_(False)


SURROUNDINGS: dict[str, Callable[[], object]] = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("prepare", [in_training, frozen])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(
    prepare: Callable[[ResNet], None], around: str, fails: bool
) -> None:
    model, x = network("bin"), images(side=8)
    expected = {method: explain_batch(model, x, TARGETS, method) for method in METHODS}
    prepare(model)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    modes = [module.training for module in model.modules()]
    asked = [p.requires_grad for p in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    with SURROUNDINGS[around]():  # type: ignore[attr-defined]
        x = x.clone()
        for method in METHODS:
            if fails:
                for wrong in (torch.tensor([0, 1, 5]), torch.tensor([0, -1, 2])):
                    with pytest.raises(InputError, match=r"0 to 4, got target (5|-1)"):
                        explain_batch(model, x, wrong, method)
                with pytest.raises(ValueError, match="8x8"):
                    explain_batch(model, x[:, :, :7], TARGETS, method)
            else:
                close(explain_batch(model, x, TARGETS, method).clone(), expected[method])
        if fails:
            with pytest.raises(InputError, match="fc has no maps"):
                resolve_site(model, "fc", x)
        assert not x.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == asked
    grads = [name for name, p in model.named_parameters() if p.grad is not None]
    assert grads == ["conv.weight"]
    assert torch.equal(model.conv.weight.grad, torch.ones_like(model.conv.weight))
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_sites_by_name() -> None:
    model, x = network(), images()
    for path in ("stages.0.0.relu2", "conv", "norm0", "stages.1"):
        assert resolve_site(model, path, x) == (path,)
    for word, message in (
        ("stages.0.0.relu3", r"no site 'stages\.0\.0\.relu3' \(did you mean .*relu"),
        ("lost", r"did you mean last\?"),
        ("fc", r"fc has no maps.*got shape \(1, 5\)"),
        ("stages", "stages has no maps.*got nothing"),
        ("", "no site ''"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_site(model, word, x)
    with pytest.raises(InputError, match=r"normlab\.models\.ResNet, got Tiny\. Use last"):
        resolve_site(Tiny(True), "mean", x[:, :1])


class Unheard(Tiny):
    """The logits do not use the convolution's output."""

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        return x.sum((1, 2, 3))[:, None].expand(-1, 2)


def test_what_cannot_be_explained_is_refused() -> None:
    model, x = network(), images()
    with pytest.raises(InputError, match=r"no method 'gradcam' \(did you mean grad-cam\?\)"):
        explain_batch(model, x, TARGETS, "gradcam")
    with pytest.raises(
        InputError, match=r"averaged over positions.*got conv\. Use hires-cam elsewhere"
    ):
        explain_batch(model, x, TARGETS, "cam", ("conv",))
    with pytest.raises(InputError, match=r"equal sizes, but conv has 16x16.*relu2 has 4x4"):
        explain_batch(model, x, TARGETS, "grad-cam", ("conv", LAST))
    with pytest.raises(InputError, match=r"3 whole numbers, got torch.int64 of shape \(2,\)"):
        explain_batch(model, x, TARGETS[:2])
    with pytest.raises(InputError, match=r"got torch\.float32 of shape"):
        explain_batch(model, x, TARGETS.float())
    with pytest.raises(InputError, match=r"normalized floats .* got torch\.uint8"):
        explain_batch(model, x.byte(), TARGETS)
    with pytest.raises(InputError, match="does not depend on the output of conv"):
        explain_batch(Unheard(True), x[:, :1], torch.tensor([0, 1, 0]), "grad-cam", ("conv",))


def test_tiny_gradients_do_not_vanish_from_grad_cam_plus_plus() -> None:
    # The square of 1e-25 is 0 in float32.
    model = Tiny(True)
    with torch.no_grad():
        model.fc.weight *= 1e-25
    x = torch.ones(1, 1, 2, 2)
    maps = explain_batch(model, x, torch.tensor([1]), "grad-cam++", ("relu",))
    assert math.isclose(maps[0, 0, 0].item(), 1e-25, rel_tol=1e-5)
