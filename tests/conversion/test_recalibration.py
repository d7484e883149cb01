"""Precise statistics: those of all images, against a loop; and nothing else that changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import normlab
from normlab.errors import InputError
from normlab.norms import BatchNorm2d, make_norm


def batches(channels: int = 4, sizes: tuple[int, ...] = (6, 2, 3)) -> list[Tensor]:
    """Far from 0 and from each other, in numbers that differ."""
    generator = torch.Generator().manual_seed(3)
    return [
        1000.0 + 20.0 * place + (1 + place) * torch.randn(n, channels, 5, 3, generator=generator)
        for place, n in enumerate(sizes)
    ]


def by_loop(given: list[Tensor]) -> tuple[Tensor, Tensor]:
    """All values of a channel at once, in float64."""
    values = torch.cat([x.double().transpose(0, 1).flatten(1) for x in given], 1)
    mean = torch.stack([row.sum() / len(row) for row in values])
    return mean, torch.stack(
        [((row - m) ** 2).sum() / len(row) for row, m in zip(values, mean, strict=True)]
    )


TRACKING = ("torch_bn", "bn", "sync_bn", "ghost_bn:virtual_batch_size=2", "batch_renorm", "iebn",
            "bin", "switchable")  # fmt: skip


@pytest.mark.parametrize("norm", TRACKING)
def test_statistics_are_those_of_all_values(norm: str) -> None:
    layer = make_norm(norm, 4)
    layer.running_mean.fill_(-70.0)
    done = normlab.recalibrate(nn.Sequential(layer), [[x, "labels"] for x in batches()])
    mean, var = by_loop(batches())
    torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(layer.running_var.double(), var, rtol=1e-6, atol=0)
    assert int(layer.num_batches_tracked) == 3
    assert (done.layers, done.batches, done.images) == (("0",), 3, 11)


def test_layers_that_keep_something_else() -> None:
    mean, var = by_loop(batches())
    extended, half, evonorm = (make_norm(n, 4) for n in ("extended_bn", "ibn_a", "evonorm_b0"))
    own = nn.InstanceNorm2d(4, track_running_stats=True)
    for layer in (extended, half, evonorm, own):
        normlab.recalibrate(layer, batches())
    _, together = by_loop([x.reshape(len(x), 1, -1, 1) for x in batches()])
    torch.testing.assert_close(extended.running_var.double(), together, rtol=1e-6, atol=0)
    torch.testing.assert_close(extended.running_mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(half.running_mean.double(), mean[2:], rtol=1e-6, atol=0)
    torch.testing.assert_close(half.running_var.double(), var[2:], rtol=1e-6, atol=0)
    torch.testing.assert_close(evonorm.running_var.double(), var, rtol=1e-6, atol=0)
    images = torch.cat(batches()).double()
    torch.testing.assert_close(
        own.running_var.double(), images.var((2, 3)).mean(0), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(own.running_mean.double(), images.mean((0, 2, 3)), rtol=1e-6, atol=0)


class Deep(nn.Module):
    """Two layers, of which the second sees what the first one gives; dropout; one that no image
    passes; one that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.drop(torch.relu(self.first(x))))
        return self.second(2 * y)  # type: ignore[no-any-return]


def normalized(x: Tensor) -> Tensor:
    mean, var = by_loop([x])
    return (x.double() - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()


def test_layer_by_layer_in_the_same_passes() -> None:
    network = Deep()
    done = normlab.recalibrate(network, batches())
    assert (done.layers, done.unreached) == (("first", "second"), ("unused",))
    given = []
    for x in batches():
        y = torch.relu(normalized(x))  # by the batch, and nothing is dropped
        given += [y, 2 * normalized(y)]
    mean, var = by_loop(given)
    torch.testing.assert_close(network.second.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.second.running_var.double(), var, rtol=1e-4, atol=1e-5)
    assert network.unused.running_var.tolist() == [1.0] * 4


@pytest.mark.parametrize("breaks", [False, True])
def test_all_else_is_as_before(breaks: bool) -> None:
    network = nn.Sequential(Deep(), make_norm("batch_renorm", 4), make_norm("frozen_bn", 4))
    network[0].second.eval()
    network[0].second.momentum = None
    network[0].first.weight.requires_grad_(False)
    before = copy.deepcopy(network)
    given = batches()
    if breaks:
        given.append(torch.full((2, 4, 5, 3), float("nan")))
        with pytest.raises(InputError, match=r"statistics of 0\.first are not finite"):
            normlab.recalibrate(network, given)
    else:
        normlab.recalibrate(network, given)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for (name, now), (_, then) in zip(network.named_modules(), before.named_modules(), strict=True):
        assert now.training == then.training, name
        assert not now._forward_pre_hooks
        assert repr(now) == repr(then)
        assert getattr(now, "track_running_stats", 0) == getattr(then, "track_running_stats", 0)
    for (name, now), (_, then) in zip(
        network.state_dict().items(), before.state_dict().items(), strict=True
    ):
        moved = name.endswith(statistics) and not name.startswith(("0.unused", "2."))
        assert torch.equal(now, then) == (breaks or not moved), name
    flags = [[p.requires_grad for p in n.parameters()] for n in (network, before)]
    assert flags[0] == flags[1]


def test_accuracy_comes_back() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    images = torch.randn(64, 1, 6, 6, generator=generator) + 3.0
    images[labels == 1, :, :, :3] += 2.0
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.ReLU(), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in network:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    def accuracy() -> float:
        with torch.no_grad():
            return float((network.eval()(images).argmax(1) == labels).float().mean())

    for layer in (network[1], network[4]):
        layer.running_mean.add_(30.0)
        layer.running_var.mul_(900.0)
    assert accuracy() <= 0.6
    normlab.recalibrate(network, images.split(16))
    assert accuracy() >= 0.95


def test_bad_input() -> None:
    small = BatchNorm2d(4).half()
    with pytest.raises(InputError, match="too large for its buffers"):
        normlab.recalibrate(nn.Sequential(small), [1e3 * batches()[0]])
    assert small.running_var.tolist() == [1.0] * 4
    with pytest.raises(InputError, match="no layer with running statistics"):
        normlab.recalibrate(nn.Sequential(nn.GroupNorm(2, 4)), batches())
    with pytest.raises(InputError, match="no batches"):
        normlab.recalibrate(nn.BatchNorm2d(4), [])
