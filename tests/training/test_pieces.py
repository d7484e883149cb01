"""Configuration, schedule, optimizer and metrics, each against what it must be."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from normlab.errors import InputError
from normlab.models import ResNet
from normlab.norms import ParameterNeeds
from normlab.runs import FIELDS, RunConfig, identity
from normlab.training.metrics import measure
from normlab.training.optimizer import LayerAwareOptimizer
from normlab.training.schedule import learning_rate
from normlab.training.step import forward, gradients


def test_a_configuration_goes_to_json_and_back() -> None:
    config = RunConfig(norm="gn:groups=4", lr=1, step_at=(0.3, 0.6), clip_norm=2)
    back = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config
    assert identity(back, "data", {}) == identity(config, "data", {})
    assert config.lr == 1.0
    assert isinstance(config.lr, float)


def test_every_field_and_the_data_change_the_identity() -> None:
    other: dict[str, object] = {
        "norm": "gn", "shortcut": "B", "optimizer": "adamw", "schedule": "step",
        "precision": "bfloat16", "device": "cuda", "nesterov": True, "decay_all": True,
        "flip": True, "clip_norm": 1.0, "budget": "updates",
        "lr_scaling": "linear", "patience": 2, "record_features": True,
        "step_at": (0.5,), "step_factor": 0.2, "balance": "loss", "kernels": "compiled",
        "statistics": "per-process", "model": "mine:build", "freeze_to": "conv", "head_lr": 0.1,
        "start": "fresh",
    }  # fmt: skip
    by_themselves_none = {"weights", "weights_least"}
    base = RunConfig()
    seen = {identity(base, "a", {}), identity(base, "b", {})}
    for name in FIELDS.keys() - by_themselves_none:
        value = getattr(base, name)
        if name not in other:
            other[name] = value + 1 if isinstance(value, int) else value / 2 + 0.007
        needed = {"statistics": {"processes": 2}, "start": {"weights": "w"}}.get(name, {})
        changed = dataclasses.replace(base, **{**needed, name: other[name]})
        seen.add(identity(changed, "a", {}))
    assert len(seen) == len(FIELDS) - len(by_themselves_none) + 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs must be >= 1, got 0"),
        ("batch_size", 0, "batch_size must be >= 1"),
        ("batch_size", 2.5, "batch_size must be a whole number, got 2.5"),
        ("epochs", True, "epochs must be a whole number, got True"),
        ("lr", 0, "lr must be > 0"),
        ("lr", float("nan"), "lr must be > 0, got nan"),
        ("lr", "fast", "lr must be a number, got 'fast'"),
        ("momentum", 1.0, r"momentum must be in \[0, 1\)"),
        ("schedule", "cosin", r"schedule must be one of .* \(did you mean cosine\?\)"),
        ("step_at", (0.5, 1.5), r"step_at must be in \(0, 1\), got 1.5"),
        ("flip", 1, "flip must be true or false"),
        ("clip_norm", -1.0, "clip_norm must be > 0"),
        ("n", 0, "n must be >= 1"),
        ("warmup", 1.0, r"warmup must be in \[0, 1\)"),
    ],
)
def test_impossible_values(field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RunConfig(**{field: value})  # type: ignore[arg-type]


def test_unknown_fields_are_named_with_what_was_meant() -> None:
    with pytest.raises(InputError, match=r"'epoch' is not a field .*did you mean epochs"):
        RunConfig.from_dict({"epoch": 3})


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(InputError, match="nesterov needs"):
        RunConfig(nesterov=True, momentum=0.0)


def test_schedules() -> None:
    def rates(**fields: object) -> list[float]:
        config = RunConfig(epochs=4, lr=1.0, **fields)  # type: ignore[arg-type]
        return [learning_rate(config, step, 10) for step in range(40)]

    assert rates(schedule="constant", warmup=0.0) == [1.0] * 40
    step = rates(schedule="step", warmup=0.0, step_at=(0.5, 0.75))
    assert step == pytest.approx([1.0] * 20 + [0.1] * 10 + [0.01] * 10)
    cosine = rates(schedule="cosine", warmup=0.0)
    assert cosine == pytest.approx([(1 + math.cos(math.pi * t / 40)) / 2 for t in range(40)])
    warm = rates(schedule="cosine", warmup=0.1)
    assert warm[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert warm[4] == 1.0
    assert all(a > b for a, b in itertools.pairwise(warm[4:]))


def _decays(model: nn.Module, **fields: object) -> dict[str, tuple[float, float]]:
    """Parameter name to (learning rate, weight decay)."""
    config = RunConfig(lr=1.0, weight_decay=0.5, **fields)  # type: ignore[arg-type]
    optimizer = LayerAwareOptimizer(model, config)
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.inner.param_groups
        for p in group["params"]
    }


def test_weight_decay_spares_norms_and_biases_unless_told() -> None:
    for norm in ("torch_bn", "bn", "gn", "none"):
        found = _decays(ResNet(1, 3, norm, seed=0))
        assert {n for n, (_, decay) in found.items() if decay} == {
            n for n in found if n.endswith("weight") and ("conv" in n or n.startswith("fc"))
        }
    everything = _decays(ResNet(1, 3, "bn", seed=0), decay_all=True)
    assert {decay for _, decay in everything.values()} == {0.5}


def test_the_gate_gets_what_it_declares() -> None:
    model = ResNet(1, 3, "bin", seed=0)
    for fields in ({}, {"decay_all": True}, {"optimizer": "adamw"}):
        found = _decays(model, **fields)
        gates = {n: v for n, v in found.items() if n.endswith("gate")}
        assert len(gates) == 7
        assert set(gates.values()) == {(10.0, 0.0)}
        assert {lr for n, (lr, _) in found.items() if n not in gates} == {1.0}
    optimizer = LayerAwareOptimizer(model, RunConfig(lr=1.0))
    optimizer.set_lr(0.5)
    assert {g["lr"] for g in optimizer.inner.param_groups} == {0.5, 5.0}
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            assert parameter.min() >= 0
            assert parameter.max() <= 1
    assert any(bool((p < 1).any()) for n, p in model.named_parameters() if n.endswith("gate"))


def test_a_layer_of_ones_own_is_honoured_and_a_false_declaration_refused() -> None:
    class Own(nn.Module):
        optimizer_needs: ClassVar = {"scale": ParameterNeeds(clamp=(0.9, 1.1))}

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    own = Own()
    optimizer = LayerAwareOptimizer(own, RunConfig(lr=100.0))
    (own.scale * 5).sum().backward()
    optimizer.step()
    assert own.scale.item() == pytest.approx(0.9)
    own.optimizer_needs = {"missing": ParameterNeeds()}  # type: ignore[misc]
    with pytest.raises(ValueError, match="'missing', which is not one of its parameters"):
        LayerAwareOptimizer(own, RunConfig())


def test_clipping_bounds_the_gradient() -> None:
    layer = nn.Linear(1, 1, bias=False)
    before = layer.weight.item()
    fields = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.5}
    (1000 * layer.weight.sum()).backward()
    LayerAwareOptimizer(layer, RunConfig(**fields)).step()  # type: ignore[arg-type]
    assert before - layer.weight.item() == pytest.approx(0.5, rel=1e-4)


def test_clipping_keeps_the_direction() -> None:
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    fields = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 1.0}
    LayerAwareOptimizer(layer, RunConfig(**fields)).step()  # type: ignore[arg-type]
    assert (before - layer.weight).flatten().tolist() == pytest.approx([0.6, 0.8], rel=1e-4)


UNIT = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}


class Clipped(nn.Module):
    """A layer of one's own that asks for its gradients to be clipped by unit."""

    optimizer_needs: ClassVar = {
        name: ParameterNeeds(unit_clip=0.1) for name in ("weight", "bias", "scale")
    }

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 1, 2, 2))
        self.bias = nn.Parameter(torch.tensor([3.0, 4.0]))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.free = nn.Parameter(torch.tensor([3.0, 4.0]))
        with torch.no_grad():
            self.weight[0] = 5.0  # a norm of 10
            self.weight[1, 0, 0, 0] = 1e-4


def test_gradients_are_clipped_by_unit() -> None:
    """By hand: rows of norm 10, 0.0001 and 0 may have gradients of 1, and of 0.0001 (a tenth of
    0.001) twice. A vector and a number are one unit each."""
    layer = Clipped()
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    layer.weight.grad = torch.tensor([[3.0, 4.0, 0.0, 0.0]] * 3).view(3, 1, 2, 2)
    layer.bias.grad, layer.free.grad = torch.tensor([0.0, 2.0]), torch.tensor([0.0, 2.0])
    layer.scale.grad = torch.tensor(-0.1)  # within a tenth of 2
    LayerAwareOptimizer(layer, RunConfig(**UNIT)).step()  # type: ignore[arg-type]
    moved = {name: before[name] - p.detach() for name, p in layer.named_parameters()}
    rows = moved["weight"].view(3, 4)
    assert rows[0].tolist() == pytest.approx([0.6, 0.8, 0.0, 0.0], abs=1e-6)
    for row in rows[1:]:
        assert row.tolist() == pytest.approx([6e-5, 8e-5, 0.0, 0.0], rel=1e-4)
    assert moved["bias"].tolist() == pytest.approx([0.0, 0.5])
    assert moved["scale"].item() == pytest.approx(-0.1)
    assert moved["free"].tolist() == [0.0, 2.0]


def test_clipping_by_unit_comes_before_that_of_all_gradients() -> None:
    """The other way round, the outlier would shorten what is left of all others."""
    layer = Clipped()
    layer.weight.grad = torch.zeros_like(layer.weight)
    layer.bias.grad, layer.free.grad = torch.tensor([0.0, 1e6]), torch.tensor([0.0, 0.5])
    before = layer.free.detach().clone()
    LayerAwareOptimizer(layer, RunConfig(**UNIT, clip_norm=1.0)).step()  # type: ignore[arg-type]
    assert (before - layer.free.detach()).tolist() == pytest.approx([0.0, 0.5])


def test_what_has_no_gradient_is_not_clipped_and_layout_does_not_matter() -> None:
    layer = Clipped().to(memory_format=torch.channels_last)
    layer.weight.grad = torch.ones_like(layer.weight)
    LayerAwareOptimizer(layer, RunConfig(**UNIT)).step()  # type: ignore[arg-type]
    assert (5.0 - layer.weight[0]).flatten().tolist() == pytest.approx([0.5] * 4)
    assert layer.bias.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        # Two gradients of 1: v = 1, then v = 1.5. Nesterov moves by 1 + 0.5 v.
        ({"momentum": 0.5}, [1.0, 1.5]),
        ({"momentum": 0.5, "nesterov": True}, [1.5, 1.75]),
        # Of AdamW the first step is 1 whatever its moments; gradients 1 and 0 then tell them:
        # m = (b / 2) / (1 - b^2) with b = 0.5, and the square's average is that of 1 and 0.
        ({"momentum": 0.5, "optimizer": "adamw"}, [1.0, (0.25 / 0.75) / (0.999 / 1.999) ** 0.5]),
    ],
    ids=["sgd", "nesterov", "adamw"],
)
def test_the_momentum_is_the_configured_one(fields: dict[str, object], steps: list[float]) -> None:
    layer = nn.Linear(1, 1, bias=False)
    config = RunConfig(lr=1e-3, weight_decay=0.0, **fields)  # type: ignore[arg-type]
    optimizer = LayerAwareOptimizer(layer, config)
    second = 0.0 if config.optimizer == "adamw" else 1.0
    for gradient, expected in zip((1.0, second), steps, strict=True):
        before = layer.weight.item()
        layer.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        assert (before - layer.weight.item()) / 1e-3 == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "fields",
    [{}, {"nesterov": True, "clip_norm": 0.5}, {"momentum": 0.0}, {"optimizer": "adamw"}],
    ids=["sgd", "nesterov", "plain", "adamw"],
)
def test_the_optimizer_makes_the_bits_of_torch_and_calls_hooks(fields: dict[str, object]) -> None:
    """It goes around wrappers of torch.optim, so nothing of the step may have been in them."""
    config = RunConfig(lr=0.05, **fields)  # type: ignore[arg-type]
    made, called = [], []
    for ours in (True, False):
        model = ResNet(1, 3, "bin", seed=0)
        optimizer = LayerAwareOptimizer(model, config)
        if not ours:
            kind = torch.optim.SGD if config.optimizer == "sgd" else torch.optim.AdamW
            optimizer.inner = kind(optimizer.inner.param_groups)  # with all their settings
        optimizer.inner.register_step_post_hook(lambda *_, ours=ours: called.append(ours))
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            batch = [(torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 1]))]
            gradients(model, batch, config)
            optimizer.step()
            assert all(p.grad is None for p in model.parameters())
            assert torch.is_grad_enabled()
        made.append([*model.state_dict().values(), *optimizer.state().values()])
    assert called == [True] * 3 + [False] * 3
    assert all(bool(value.isfinite().all()) for value in made[0])
    for one, two in zip(*made, strict=True):
        assert torch.equal(one, two)


def test_the_loss_that_is_told_is_that_of_validation() -> None:
    """Curves of training and validation share an axis, so both are plain cross-entropy."""
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(12) % 5
    model = nn.Linear(5, 5)
    told, _ = gradients(model, [(x[:8], labels[:8]), (x[8:], labels[8:])],
                        RunConfig(label_smoothing=0.3))  # fmt: skip
    expected = F.cross_entropy(model(x), labels).item()
    assert float(told) == pytest.approx(expected, rel=1e-5)
    # What ends a run is not hidden: this loss is infinite through smoothing alone.
    hurt = nn.Linear(5, 5)
    hurt.bias.data[4] = -math.inf
    told, _ = gradients(hurt, [(torch.zeros(1, 5), labels[:1])], RunConfig(label_smoothing=0.3))
    assert not math.isfinite(float(told))


def test_label_smoothing_is_in_the_loss() -> None:
    """A share of 0.2 of the target is spread evenly over the classes."""
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    labels = torch.tensor([0, 2])
    loss, _ = forward(nn.Identity(), logits, labels, RunConfig(label_smoothing=0.2))
    logs = logits.log_softmax(1)
    own = -logs[torch.arange(2), labels]
    assert loss.item() == pytest.approx((0.8 * own - 0.2 * logs.mean(1)).mean().item())
    plain, _ = forward(nn.Identity(), logits, labels, RunConfig())
    assert plain.item() == pytest.approx(own.mean().item())


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_convolutions_run_in_the_precision_asked_for(precision: str, expected: torch.dtype) -> None:
    model = ResNet(1, 3, "bn", seed=0)
    seen: list[torch.dtype] = []
    model.conv.register_forward_hook(lambda module, inputs, y: seen.append(y.dtype))
    config = RunConfig(precision=precision)  # type: ignore[arg-type]
    loss, logits = forward(model, torch.randn(2, 3, 8, 8), torch.tensor([0, 1]), config)
    assert seen == [expected]
    assert loss.dtype == logits.dtype == torch.float32


def test_metrics_by_hand() -> None:
    # Three classes, the last one absent: F1 of class 0 is 2/3, of class 1 is 1/2, of class 2 is 0.
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])
    found = measure(labels, predicted, 0.25, classes=3)
    assert found.accuracy == pytest.approx(0.6)
    assert found.micro_f1 == pytest.approx(0.6)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found.loss == 0.25
