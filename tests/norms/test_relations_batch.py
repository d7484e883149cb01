"""The exact relations among methods with statistics of the batch, and their networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normlab.models import ResNet, check_sites
from normlab.norms import BatchNorm2d, FrozenBatchNorm2d, SyncBatchNorm2d, make_norm

from .checks import TIGHT, close
from .families import draw, scramble
from .test_relations import CHANNELS, assert_equal_layers, example, share_parameters

pytestmark = pytest.mark.usefixtures("each_way")


def assert_same_buffers(a: nn.Module, b: nn.Module) -> None:
    for (name, one), two in zip(a.named_buffers(), b.buffers(), strict=True):
        close(one, two, TIGHT, name)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_synchronized_batch_norm_in_one_process_is_batch_norm(training: bool) -> None:
    a = scramble(SyncBatchNorm2d(CHANNELS)).train(training)
    b = BatchNorm2d(CHANNELS).train(training)
    share_parameters(a, b)
    x, g = example().float(), draw(3, CHANNELS, 4, 5, seed=9).float()
    found = [torch.autograd.grad(layer(leaf), leaf, g)[0] for layer in (a, b)
             for leaf in [x.clone().requires_grad_()]]  # fmt: skip
    assert torch.equal(*found)
    assert all(map(torch.equal, a.buffers(), b.buffers()))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_frozen_batch_norm_is_batch_norm_in_evaluation_in_every_mode(training: bool) -> None:
    trained = scramble(BatchNorm2d(CHANNELS, eps=1e-3)).double().eval()
    frozen = FrozenBatchNorm2d.from_batch_norm(trained).train(training)
    assert not list(frozen.parameters())
    before = {name: t.clone() for name, t in frozen.state_dict().items()}
    assert_equal_layers(trained, frozen, example())
    assert all(torch.equal(t, before[name]) for name, t in frozen.state_dict().items())
    bare = scramble(BatchNorm2d(CHANNELS, affine=False)).double().eval()
    close(FrozenBatchNorm2d.from_batch_norm(bare)(example()), bare(example()), TIGHT, "bare")


def test_a_frozen_network_takes_the_state_of_a_trained_one() -> None:
    trained, frozen = ResNet(1, 5, norm="bn", seed=0), ResNet(1, 5, norm="frozen_bn", seed=1)
    x = draw(4, 3, 8, 8).float()
    trained(x)
    frozen.load_state_dict(trained.state_dict())
    for model in (trained.eval(), frozen):
        assert model.fc.weight.requires_grad
    assert torch.equal(frozen.train()(x), trained(x))
    again = {name: t.clone() for name, t in trained.state_dict().items()}
    frozen.load_state_dict(again)
    assert any(name.endswith("num_batches_tracked") for name in again), "a state dict is not ours"


@pytest.mark.parametrize(
    "layer",
    [nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False), nn.Identity()],
    ids=lambda layer: type(layer).__name__,
)
def test_only_batch_norm_with_statistics_can_be_frozen(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match="takes a layer of batch normalization that has running"):
        FrozenBatchNorm2d.from_batch_norm(layer)
