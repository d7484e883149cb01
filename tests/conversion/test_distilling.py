"""A converted network that was taught to answer as the original does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

import normlab
from networks import CLASSES, NETWORKS, Shared, images, plain, trained
from normlab import InputError
from normlab.conversion import Conversion, distilling
from normlab.models import norm_layers

TO = "gn:groups=2"
X = images(48)
kinds = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
both = pytest.mark.parametrize("how", ["distilled", "distilled_all"])


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilling, "STEPS", 50)


def _convert(model: nn.Module, how: Any = "distilled", x: Tensor = X, to: str = TO) -> Conversion:
    return normlab.convert(model, to, x, how=how, batch_size=20)


def _answers(model: nn.Module, x: Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        found: Tensor = copy.deepcopy(model).eval()(x)
    return found.double().numpy()


def _distance(original: nn.Module, other: nn.Module) -> float:
    """As the documentation defines it."""
    a, b = _answers(original, X), _answers(other, X)
    p, q = softmax(a, 1), softmax(b, 1)
    relative = ((b - a) ** 2).mean() / ((a - a.mean(0)) ** 2).mean()
    return float(relative + (p * np.log(p / q)).sum(1).mean())


@pytest.mark.parametrize(
    ("make", "how"),
    [*((make, "distilled") for make in NETWORKS.values()), (plain, "distilled_all")],
    ids=[*NETWORKS, "plain, all parameters"],
)
def test_outputs_come_closer_and_by_how_much_is_said(
    make: Callable[[], nn.Module], how: str
) -> None:
    model = trained(make)
    matched, made = _convert(model, "matched"), _convert(model, how)
    assert made.distance is not None
    before, after = made.distance
    assert before == pytest.approx(_distance(model, matched.model), rel=1e-3)
    assert after == pytest.approx(_distance(model, made.model), rel=1e-3)
    assert after < before
    assert matched.distance is None
    assert f"from {before:.3g} to {after:.3g}" in made.summary


@kinds
def test_only_weight_and_bias_of_new_layers_are_trained(make: Callable[[], nn.Module]) -> None:
    model = trained(make).train()
    matched, made = _convert(model, "matched").model, _convert(model).model
    affine = {
        f"{path}.{name}"
        for one in norm_layers(made)
        for path in one.paths
        for name in ("weight", "bias")
    }
    others = matched.state_dict()
    changed = {
        name for name, tensor in made.state_dict().items() if not torch.equal(tensor, others[name])
    }
    assert changed
    assert changed <= affine
    assert all(module.training for module in made.modules())
    assert all(tensor.requires_grad and tensor.grad is None for tensor in made.parameters())


def test_with_all_parameters_those_that_are_frozen_stay() -> None:
    model = trained(plain)
    model[0].requires_grad_(False)
    model[4].weight.requires_grad_(False)  # of a layer that is exchanged
    model.register_buffer("mean", torch.ones(3))
    before = copy.deepcopy(model.state_dict())
    made = _convert(model, "distilled_all").model
    for name in ("0.weight", "0.bias", "mean"):
        assert torch.equal(made.state_dict()[name], before[name]), name
    for name in ("3.weight", "6.fc.weight", "6.fc.bias"):
        assert not torch.equal(made.state_dict()[name], before[name]), name
    assert not any(one.requires_grad for one in (*made[0].parameters(), made[4].weight))
    assert all(one.grad is None for one in made.parameters())
    # The network that was given is as it was.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@both
def test_the_same_input_gives_the_same_bits(how: str) -> None:
    model = trained(NETWORKS["residual"])
    first = _convert(model, how)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with torch.inference_mode():
        second = _convert(model, how)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.distance == second.distance
    again = second.model.state_dict()
    assert all(torch.equal(one, again[name]) for name, one in first.model.state_dict().items())


def test_a_network_that_would_be_worse_stays_as_it_was_matched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = trained(plain)
    matched = _convert(model, "matched").model.state_dict()
    for rate in (1e6, float("nan")):
        monkeypatch.setattr(distilling, "RATE", rate)
        made = _convert(model)
        assert made.distance is not None
        assert made.distance[0] == made.distance[1]
        assert made.how == "matched"
        assert "did not lower" in made.summary
        assert all(torch.equal(one, matched[name]) for name, one in made.model.state_dict().items())


def test_a_shared_layer_is_trained_once_and_stays_shared() -> None:
    made = _convert(trained(Shared)).model
    assert made.norm is made.again[0]
    assert len(norm_layers(made)) == 2


def test_hooks_and_types_survive() -> None:
    model = trained(plain).to(torch.bfloat16)
    calls: list[str] = []
    model[1].register_forward_hook(lambda *_: calls.append("after"))
    made = _convert(model)
    assert {one.dtype for one in made.model.parameters()} == {torch.bfloat16}
    assert made.distance is not None
    assert made.distance[1] < made.distance[0]
    calls.clear()
    made.model(images(2).to(torch.bfloat16))
    assert calls == ["after"]


def test_a_scale_in_buffers_is_trained_too() -> None:
    """Frozen batch norm, and a network whose layers look at each image."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), NETWORKS["plain"]()[3], nn.Flatten()
    ).eval()
    made = _convert(model, to="frozen_bn")
    assert made.distance is not None
    assert made.distance[1] < made.distance[0]
    assert not list(made.model[1].parameters())
    assert not made.model[1].weight.requires_grad


def test_a_layer_that_no_image_reaches_is_copied() -> None:
    model = trained(plain)
    model[0].unused = nn.BatchNorm2d(4)
    nn.init.constant_(model[0].unused.bias, 3)
    made = _convert(model)
    assert made.model[0].unused.bias.tolist() == [3] * 4
    kinds = {line.split()[0]: line.split()[-5:] for line in str(made).splitlines()}
    assert kinds["0.unused"][-1] == "copied"
    assert "distilled" in kinds["1"]


class Several(nn.Module):
    """As segmentation and detection networks: not one tensor, and not all of them of images."""

    def __init__(self, *, graph: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, CLASSES)
        self.graph = graph

    def forward(self, x: Tensor) -> dict[str, Any]:
        with torch.set_grad_enabled(self.graph and torch.is_grad_enabled()):
            maps = self.norm(self.conv(x))
        one = maps.mean((2, 3))
        found = {"out": maps, "aux": [self.fc(one), one[:, 0]], "loss": one.mean()}
        return found if self.graph else {"out": maps}


def test_an_output_may_be_of_any_kind() -> None:
    made = _convert(trained(Several))
    assert made.distance is not None
    assert 0 < made.distance[1] < made.distance[0]


class Total(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum()


def test_what_cannot_be_taught_is_said() -> None:
    silent, total = Several(graph=False), Total(*plain())
    for model, said in (
        (silent, "outputs cannot be differentiated"),
        (total, "no tensor with an entry for each image"),
    ):
        with pytest.raises(InputError, match=rf"{said}.*how='matched'"):
            _convert(model.eval())
        assert _convert(model.eval(), "matched").distance is None
    with pytest.raises(InputError, match="Give images"):
        normlab.convert(trained(plain), TO)


def test_nothing_is_taught_where_the_conversion_is_exact() -> None:
    made = normlab.convert(trained(plain), "frozen_bn", X)
    assert made.exact
    assert made.distance is None
