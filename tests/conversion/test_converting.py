"""One normalization turned into another, in networks of the kinds that people have."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import normlab
from networks import CHANNELS, NETWORKS, Dense, Shared, images, plain, trained
from normlab import InputError
from normlab.conversion import distilling
from normlab.conversion.converting import How
from normlab.models import NormActivation, ResNet, norm_layers
from normlab.norms import (
    BatchInstanceNorm2d,
    FrozenBatchNorm2d,
    GroupNorm2d,
    InstanceNorm2d,
    LayerNormCHW,
)

kinds = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilling, "STEPS", 5)


def _distance(first: nn.Module, second: nn.Module, x: Tensor) -> float:
    pair = [copy.deepcopy(one).double().eval() for one in (first, second)]
    with torch.no_grad():
        return float((pair[0](x.double()) - pair[1](x.double())).abs().max())


def _of_norms(model: nn.Module) -> set[str]:
    return {path for one in norm_layers(model) for path in one.paths}


@kinds
def test_there_and_back_is_the_identity(make: Callable[[], nn.Module]) -> None:
    model = trained(make)
    before = copy.deepcopy(model.state_dict())
    there = normlab.convert(model, "frozen_bn")
    assert there.exact
    assert there.difference < 1e-10
    assert all(type(one.layer) is FrozenBatchNorm2d for one in norm_layers(there.model))
    back = normlab.convert(there.model, "torch_bn").model
    assert all(type(one.layer) is nn.BatchNorm2d for one in norm_layers(back))
    x = images(8, seed=1)
    assert _distance(model, there.model, x) < 1e-10
    assert _distance(model, back, x) < 1e-10
    # The network that was given is as it was.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@kinds
def test_nothing_else_changes(make: Callable[[], nn.Module]) -> None:
    model = trained(make).train()
    made = normlab.convert(model, "gn:groups=2", images(16)).model
    norms = _of_norms(model)
    known = dict(made.named_modules(remove_duplicate=False))
    for path, module in model.named_modules(remove_duplicate=False):
        if any(path == norm or path.startswith(f"{norm}.") for norm in norms):
            continue
        assert type(known[path]) is type(module), path
        for name, tensor in module.named_parameters(recurse=False):
            assert torch.equal(known[path].get_parameter(name), tensor), path
    assert all(module.training for module in made.modules())
    found = [one.layer for one in norm_layers(made)]
    assert len(found) == len(norm_layers(model))
    assert all(type(layer) is GroupNorm2d for layer in found)


@kinds
@pytest.mark.parametrize(
    ("to", "batch_size"), [("gn:groups=2", 64), ("gn:groups=2", 24), ("frn", 64)]
)
def test_matched_layers_have_the_mean_and_spread_of_the_old(
    make: Callable[[], nn.Module], to: str, batch_size: int
) -> None:
    """Measured here, channel by channel, in the two networks."""
    model, x = trained(make), images(64)
    made = normlab.convert(model, to, x, how="matched", batch_size=batch_size)
    assert not made.exact
    for site in made.sites:
        path = site.paths[0]
        old = _outputs(model, path, x)
        new = _outputs(made.model, path, x)
        if old is None:
            continue
        # What a shared layer gets at its second call depends on what it gave at its first.
        if make is not Shared:
            for found, wanted in ((new.mean(1), old.mean(1)), (new.std(1), old.std(1))):
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert site.before == pytest.approx((old.mean().item(), old.std().item()), abs=2e-3)
        assert site.after == pytest.approx((new.mean().item(), new.std().item()), abs=2e-3)


def _outputs(model: nn.Module, path: str, x: Tensor) -> Any:
    """(C, values) over all calls."""
    try:
        layer = model.get_submodule(path)
    except AttributeError:
        return None  # inside of a fused layer
    found: list[Tensor] = []
    handle = layer.register_forward_hook(lambda *call: found.append(call[2]))
    with torch.no_grad():
        model.eval()(x)
    handle.remove()
    return torch.cat([one.transpose(0, 1).flatten(1) for one in found], 1)


def test_running_statistics_are_those_of_the_images() -> None:
    model, x = nn.Sequential(nn.Conv2d(CHANNELS, 8, 3), nn.GroupNorm(2, 8)).eval(), images(40)
    layer = normlab.convert(model, "bn", x, batch_size=16).model[1]
    inputs = model[0](x)
    torch.testing.assert_close(layer.running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, inputs.var((0, 2, 3)))


def test_a_negative_scale_keeps_its_sign() -> None:
    model, x = trained(plain), images(64)
    with torch.no_grad():
        model[1].weight[::2] *= -1
    layer = normlab.convert(model, "gn:groups=4", x, how="matched").model[1]
    assert torch.equal(layer.weight.sign(), model[1].weight.sign())


def test_a_shared_layer_stays_shared() -> None:
    made = normlab.convert(trained(Shared), "gn:groups=2", images(16))
    assert made.model.norm is made.model.again[0]
    assert [site.paths for site in made.sites] == [("norm", "again.0"), ("between",)]
    # Also where a list of Python has the layer, which no iterator over modules sees.
    dense = normlab.convert(trained(Dense), "gn:groups=2", images(16)).model
    assert [type(norm) for norm in dense.norms] == [GroupNorm2d] * 3
    assert dense.norms[0] is dense.parts["norm 0"]


def test_an_activation_within_a_layer_stays() -> None:
    model = trained(NETWORKS["fused"])
    made = normlab.convert(model, "gn:groups=4", images(16)).model
    assert isinstance(made[1], NormActivation)
    assert type(made[1].norm) is GroupNorm2d
    assert type(made[1].act) is nn.SiLU


def test_hooks_modes_types_and_frozen_parameters_survive() -> None:
    model = trained(plain).to(torch.bfloat16)
    calls: list[str] = []
    model[1].register_forward_hook(lambda *_: calls.append("after"))
    model[1].register_forward_pre_hook(lambda *_: calls.append("before"))
    model[1].weight.requires_grad_(False)
    model.train()
    model[4].eval()  # frozen within a network that is trained
    for to in ("bn", "gn:groups=4"):
        made = normlab.convert(model, to, images(8)).model
        assert [module.training for module in (made, made[1], made[4])] == [True, True, False]
        assert {made[1].weight.dtype, made[4].bias.dtype} == {torch.bfloat16}
        assert not made[1].weight.requires_grad
        assert made[1].bias.requires_grad
        calls.clear()
        made(images(2).to(torch.bfloat16))
        assert calls == ["before", "after"]
    model.float()
    calls.clear()
    model(images(2))
    assert calls == ["before", "after"]


class FrozenOfAnother(nn.Module):
    """As in detection libraries: four buffers, eps in the code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class LayerNorm2d(nn.LayerNorm):
    """As in timm and torchvision: over the channels of a pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _closed(gate: float) -> nn.Module:
    layer = BatchInstanceNorm2d(8)
    nn.init.constant_(layer.gate, gate)
    layer.running_mean.normal_()
    return layer


@pytest.mark.parametrize(
    ("layer", "to", "exact"),
    [
        (FrozenOfAnother(8), "bn", True),
        (nn.SyncBatchNorm(8), "frozen_bn", True),
        (nn.BatchNorm2d(8), "sync_bn", True),
        (nn.BatchNorm2d(8, affine=False), "frozen_bn", True),
        (nn.BatchNorm2d(8, track_running_stats=False), "frozen_bn", False),
        (nn.BatchNorm2d(8), "bin", True),
        (nn.InstanceNorm2d(8), "in", True),
        (nn.InstanceNorm2d(8, affine=True), "bin", True),
        (nn.InstanceNorm2d(8, track_running_stats=True), "bn", True),
        (InstanceNorm2d(8), "gn:groups=8", True),
        (InstanceNorm2d(8), "gn:groups=4", False),
        (GroupNorm2d(8, groups=8), "in", True),
        (GroupNorm2d(8, groups=1), "ln", True),
        (LayerNormCHW(8), "gn:groups=1", True),
        (nn.LayerNorm((8, 10, 10)), "ln", True),
        (LayerNorm2d(8), "pixel_ln", True),
        (LayerNorm2d(8), "ln", False),
        (_closed(1.0), "bn", True),
        (_closed(0.0), "in", True),
        (_closed(0.999), "bn", False),
        (_closed(0.001), "in", False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_exact_is_known(layer: nn.Module, to: str, exact: bool) -> None:
    model = nn.Sequential(nn.Conv2d(CHANNELS, 8, 3), layer, nn.ReLU())
    made = normlab.convert(model, to, images(8), how="copied")
    assert made.exact is exact
    assert [site.exact for site in made.sites] == [exact]
    assert (_distance(model, made.model, images(8, seed=1)) < 1e-10) is exact


def test_a_last_scale_of_zero_does_not_make_a_layer_exact() -> None:
    """Networks start residual blocks so; what the layer does once trained is another matter."""
    model = nn.Sequential(nn.Conv2d(CHANNELS, 8, 3), nn.BatchNorm2d(8))
    nn.init.zeros_(model[1].weight)
    assert not normlab.convert(model, "gn:groups=2", how="copied").exact


def test_a_subclass_that_computes_something_else_is_not_exact() -> None:
    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Conv2d(CHANNELS, 8, 3), Doubled(8))
    made = normlab.convert(model, "frozen_bn", images(16), how="matched")
    assert not made.exact
    # Matching moments finds the factor.
    torch.testing.assert_close(made.model.eval()(images(16)), model.eval()(images(16)))


@pytest.mark.parametrize(("norm", "to"), [("gn+ws", "gn"), ("ws", "none"), ("weight_norm", "none")])
def test_convolutions_become_plain(norm: str, to: str) -> None:
    model = ResNet(1, 4, norm, seed=0)
    made = normlab.convert(model, to)
    assert made.exact
    kinds = {type(one) for one in made.model.modules() if isinstance(one, nn.Conv2d)}
    assert kinds == {nn.Conv2d}
    assert isinstance(made.model, ResNet)
    assert made.model.norm == to
    x = images(4)
    # The weights that were computed are stored in 32 bits.
    torch.testing.assert_close(made.model.eval()(x), model.eval()(x))


def test_other_layers_are_named_and_left() -> None:
    model = nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3), nn.BatchNorm2d(8), nn.Flatten(2), nn.LayerNorm(100),
    )  # fmt: skip
    made = normlab.convert(model, "gn:groups=2", images(8))
    assert [(one.path, one.layer) for one in made.left] == [("3", "LayerNorm")]
    assert "Left alone: 3 (LayerNorm)" in str(made)
    assert "Approximate." in str(made)
    assert "8 images" in str(made)


def test_groups_that_do_not_divide_are_named_and_replaced_only_where_asked() -> None:
    model = trained(plain)
    with pytest.raises(InputError, match=r"at 4 \(12 channels\).*1, 2, 3, 4, 6, 12.*groups=auto"):
        normlab.convert(model, "gn:groups=8", images(8))
    for width, groups in ((72, 24), (256, 32), (16, 8), (7, 1)):
        one = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
        assert normlab.convert(one, "gn:groups=auto", images(8)).model[1].groups == groups


@pytest.mark.parametrize(
    ("to", "options", "said"),
    [
        ("gn:groups=2", {}, "Give images"),
        ("gn:groups=2", {"how": "matchd", "images": images(4)}, "matched, copied, fresh"),
        ("frn_tlu", {}, "puts more than a layer.*Methods that are one of its layers: frn. Methods"),
        ("gn+ws:groups=2", {}, "puts more than a layer.*its layers: gn. Methods"),
        ("ibn_b", {}, "puts more than a layer.*its layers: bn, in. Methods"),
        ("evonorm_s0", {"images": images(4)}, "at some places. Methods"),
        ("weight_norm", {"images": images(4)}, "at some places. Methods"),
        ("grouped", {"images": images(4)}, "unknown normalization 'grouped'"),
        ("extended_bn", {"images": images(4)}, "not one per channel"),
        ("gn:groups=2", {"images": images(4)[:, :2]}, "cannot take images of shape"),
        ("gn:groups=2", {"images": torch.zeros(4, 3)}, "shape"),
    ],
)
def test_what_cannot_be_done_is_said(to: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        normlab.convert(trained(plain), to, **options)


def test_what_is_trained_by_another_rule_is_refused() -> None:
    model = trained(plain)
    nn.utils.parametrize.register_parametrization(model[1], "weight", nn.Softplus())
    with pytest.raises(InputError, match="1 has a parametrized tensor"):
        normlab.convert(model, "bn")


def test_a_layer_of_rows_is_named() -> None:
    """PyTorch's group norm takes any number of axes; ours takes images."""
    model = nn.Sequential(nn.Conv2d(CHANNELS, 8, 3), nn.Flatten(2), nn.GroupNorm(8, 8))
    with pytest.raises(InputError, match=r"converted network cannot take images.*\(N, C, H, W\)"):
        normlab.convert(model, "in", images(4))


def test_a_layer_that_no_image_reaches_is_copied() -> None:
    model = trained(plain)
    model[0].unused = nn.BatchNorm2d(4)
    nn.init.constant_(model[0].unused.bias, 3)
    made = normlab.convert(model, "gn:groups=2", images(8))
    assert made.model[0].unused.bias.tolist() == [3] * 4
    (line,) = (line for line in str(made).splitlines() if line.startswith("0.unused"))
    assert line.endswith("copied")


def test_momentum_and_eps_stay() -> None:
    model = nn.Sequential(nn.Conv2d(CHANNELS, 8, 3), nn.BatchNorm2d(8, eps=0.01, momentum=None))
    layer = normlab.convert(model, "bn").model[1]
    assert (layer.eps, layer.momentum) == (0.01, None)


def test_nothing_to_do_is_said() -> None:
    with pytest.raises(InputError, match="no normalization layer"):
        normlab.convert(nn.Sequential(nn.Conv2d(3, 8, 3)), "gn")
    with pytest.raises(InputError, match="already"):
        normlab.convert(ResNet(1, 4, "gn:groups=4"), "gn:groups=4")


def test_tensors_that_another_module_has_too_stay_shared_or_it_is_refused() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
    )
    model[3].weight = model[1].weight
    made = normlab.convert(model, "bn").model
    assert made[1].weight is made[3].weight
    with pytest.raises(InputError, match="1 and 3 share a parameter"):
        normlab.convert(model, "gn:groups=2", images(8))


def test_what_each_start_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that learned real digits with batch norm, on digits that no start has seen."""
    monkeypatch.setattr(distilling, "STEPS", 100)
    pixels = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 8 - 1
    labels = torch.from_numpy(load_digits().target)
    model = ResNet(1, 10, "bn", in_channels=1, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(45):
        rows = torch.arange(step * 32, step * 32 + 32) % 1400
        optimizer.zero_grad()
        F.cross_entropy(model(pixels[rows]), labels[rows]).backward()
        optimizer.step()

    def right(network: nn.Module) -> float:
        with torch.no_grad():
            answers = network.eval()(pixels[1400:]).argmax(1)
        return float((answers == labels[1400:]).double().mean())

    def left(how: How, to: str) -> float:
        return right(normlab.convert(model, to, pixels[:256], how=how).model)

    before = right(model)
    assert before > 0.8
    plain = max(left("copied", "gn:groups=8"), left("fresh", "gn:groups=8"))
    assert left("matched", "gn:groups=8") > plain + 0.05
    # Instance norm removes more of what batch norm leaves.
    matched, distilled = left("matched", "in"), left("distilled", "in")
    assert distilled > matched + 0.05
    assert left("distilled_all", "in") > max(distilled + 0.02, before - 0.05)


@pytest.mark.parametrize("to", ["frozen_bn", "bn", "torch_bn"])
def test_another_eps_is_made_up_for_by_the_weights(to: str) -> None:
    model = trained(plain)
    kept = normlab.convert(model, to, keep_eps=True) if to != "torch_bn" else None
    made = normlab.convert(model, f"{to}:eps=0.5" if to == "torch_bn" else to, keep_eps=False)
    assert made.exact
    assert _distance(model, made.model, images(8)) < 1e-5
    eps = {one.layer.eps for one in norm_layers(made.model)}
    assert eps == {0.5 if to == "torch_bn" else 1e-5}
    if kept is not None:
        assert {one.layer.eps for one in norm_layers(kept.model)} == {1e-5, 1e-3}


def test_statistics_of_images_have_no_variance_to_make_up_with() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4, eps=1e-2)).eval()
    assert normlab.convert(model, "ln").exact
    with pytest.raises(InputError, match="Give images"):
        normlab.convert(model, "ln", keep_eps=False)
