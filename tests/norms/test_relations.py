"""The exact relations among the arms, and the control against PyTorch's own layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from normlab.norms import (
    BatchInstanceNorm2d,
    BatchNorm2d,
    GroupNorm2d,
    InstanceNorm2d,
    LayerNormCHW,
    NoNorm2d,
    make_norm,
)

from .checks import GRADIENT, TIGHT, backward, close
from .families import draw, scramble

pytestmark = pytest.mark.usefixtures("each_way")

CHANNELS = 6


def example(seed: int = 0, images: int = 3) -> Tensor:
    return draw(images, CHANNELS, 4, 5, seed=seed) + draw(images, 1, 1, 1, seed=90)


def share_parameters(a: nn.Module, b: nn.Module, *, buffers: bool = True) -> None:
    """Give ``b`` what it has in common with ``a``."""
    ours, theirs = a.state_dict(), b.state_dict()
    common = {n: ours[n] for n in theirs if n in ours and (buffers or n in ("weight", "bias"))}
    b.load_state_dict({**theirs, **common})


def assert_equal_layers(a: nn.Module, b: nn.Module, x: Tensor, *, images: int = 3) -> None:
    """Same output and same gradients, wherever both have the parameter."""
    g = draw(images, CHANNELS, 4, 5, seed=9)
    close(a(x), b(x), TIGHT, "output")
    ours, theirs = backward(a, x, g), backward(b, x, g)
    for name in ours.keys() & theirs.keys():
        close(ours[name], theirs[name], GRADIENT, f"gradient of {name}")


def test_instance_norm_is_group_norm_with_a_group_for_each_channel() -> None:
    a = scramble(InstanceNorm2d(CHANNELS)).double()
    for b in (GroupNorm2d(CHANNELS, groups=CHANNELS), GroupNorm2d(CHANNELS, channels_per_group=1)):
        b.double()
        share_parameters(a, b)
        assert_equal_layers(a, b, example())


def test_layer_norm_is_group_norm_with_one_group() -> None:
    a = scramble(LayerNormCHW(CHANNELS)).double()
    for b in (
        GroupNorm2d(CHANNELS, groups=1),
        GroupNorm2d(CHANNELS, channels_per_group=CHANNELS),
    ):
        b.double()
        share_parameters(a, b)
        assert_equal_layers(a, b, example())


def test_layer_norm_is_the_general_one_with_an_affine_per_channel() -> None:
    layer = scramble(LayerNormCHW(CHANNELS)).double()
    x = example()
    y = nn.functional.layer_norm(x, x.shape[1:], eps=1e-5)
    expected = y * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
    close(layer(x), expected, TIGHT, "output")


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_batch_instance_norm_with_an_open_gate_is_batch_norm(training: bool) -> None:
    a = scramble(BatchInstanceNorm2d(CHANNELS)).double().train(training)
    nn.init.ones_(a.gate)
    b = BatchNorm2d(CHANNELS).double().train(training)
    share_parameters(a, b)
    assert_equal_layers(a, b, example())
    for name, t in b.named_buffers():
        assert torch.equal(t, a.get_buffer(name)), name


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_batch_instance_norm_with_a_closed_gate_is_instance_norm(training: bool) -> None:
    a = scramble(BatchInstanceNorm2d(CHANNELS)).double().train(training)
    nn.init.zeros_(a.gate)
    b = InstanceNorm2d(CHANNELS).double().train(training)
    share_parameters(a, b)
    assert_equal_layers(a, b, example())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(gate=st.floats(-0.5, 1.5), training=st.booleans())
def test_batch_instance_norm_is_the_mixture_of_its_parts(gate: float, training: bool) -> None:
    mixed = scramble(BatchInstanceNorm2d(CHANNELS)).double().train(training)
    nn.init.constant_(mixed.gate, gate)
    batch = BatchNorm2d(CHANNELS).double().train(training)
    instance = InstanceNorm2d(CHANNELS).double()
    share_parameters(mixed, batch)
    share_parameters(mixed, instance)
    x = example()
    close(mixed(x), gate * batch(x) + (1 - gate) * instance(x), TIGHT * 4, "output")


def test_batch_norm_in_evaluation_is_affine() -> None:
    """y = scale * x + shift per channel, so it folds into the convolution before it."""
    layer = scramble(BatchNorm2d(CHANNELS)).double().eval()
    scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
    shift = layer.bias - layer.running_mean * scale
    x = example()
    close(layer(x), x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1), TIGHT, "output")

    conv = nn.Conv2d(3, CHANNELS, 3, bias=False).double()
    folded = nn.Conv2d(3, CHANNELS, 3).double()
    with torch.no_grad():
        folded.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
        folded.bias.copy_(shift)
    image = draw(2, 3, 7, 8, seed=4)
    close(layer(conv(image)), folded(image), TIGHT, "folded convolution")


def test_batch_norm_on_a_batch_of_one_is_instance_norm() -> None:
    a = scramble(BatchNorm2d(CHANNELS)).double()
    b = InstanceNorm2d(CHANNELS).double()
    share_parameters(a, b)
    x = example(images=1)
    assert_equal_layers(a, b, x, images=1)
    # Not so in evaluation, where batch norm has other statistics.
    assert not torch.allclose(a.eval()(x), b.eval()(x), atol=0.01)


def test_no_norm_is_the_identity() -> None:
    x = example()
    assert NoNorm2d(CHANNELS)(x) is x


@pytest.mark.parametrize("momentum", [0.1, 0.5, None], ids=str)
def test_control_equals_batch_norm_over_many_steps(momentum: float | None) -> None:
    """torch_bn and bn: outputs, gradients, parameters and buffers while both learn."""
    control = scramble(make_norm("torch_bn", CHANNELS, momentum=momentum))
    ours = make_norm("bn", CHANNELS, momentum=momentum)
    ours.load_state_dict(control.state_dict())
    pair = [m.double() for m in (control, ours)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in pair]
    for step in range(30):
        x, target = example(seed=step), draw(3, CHANNELS, 4, 5, seed=1000 + step)
        outputs, gradients = [], []
        for layer, optimizer in zip(pair, optimizers, strict=True):
            leaf = x.clone().requires_grad_()
            y = layer(leaf)
            optimizer.zero_grad()
            (y - target).square().mean().backward()
            optimizer.step()
            outputs.append(y)
            gradients.append(leaf.grad)
        close(outputs[1], outputs[0], TIGHT * 10, f"output at step {step}")
        close(gradients[1], gradients[0], GRADIENT, f"gradient at step {step}")
    for name, t in control.state_dict().items():
        close(ours.state_dict()[name], t, TIGHT * 10, name)
    x = example(seed=77)
    close(ours.eval()(x), control.eval()(x), TIGHT * 10, "output in evaluation")
