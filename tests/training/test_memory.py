"""Memory of a training step: what is counted, and that counting leaves a run as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normlab.data import DataConfig, DataSet, load
from normlab.norms import _core
from normlab.runs import RunConfig, read_record
from normlab.training import run, train
from normlab.training.memory import kept_for_backward, peak_on

X = torch.linspace(-1, 1, 4 * 8, dtype=torch.float32).reshape(4, 8)


class _Called(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _kept(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    model = _Called(function)
    return kept_for_backward(model, lambda: model(x))


def test_a_storage_counts_once_and_whole() -> None:
    x = X.clone().requires_grad_()
    assert _kept(lambda x: x.exp(), x) == 4 * 32  # its own output
    assert _kept(lambda x: x * x, x) == 4 * 32  # the input, saved twice
    assert _kept(lambda x: x.exp().exp(), x) == 2 * 4 * 32
    assert _kept(lambda x: x + 1, x) == 0
    # Of a part the whole storage stays: X, though half of it is saved.
    assert _kept(lambda x: x[:2] * x[:2], x) == 4 * 32
    assert _kept(lambda x: x.double().exp(), x) == 8 * 32


def test_parameters_do_not_count() -> None:
    layer = nn.Linear(8, 3)
    # The weight is saved for the gradient of the input, the input for that of the weight.
    x = X.clone().requires_grad_()
    assert kept_for_backward(layer, lambda: layer(x)) == 4 * 32


def test_functions_of_ones_own_are_seen() -> None:
    """The layers keep less than their definition, which keeps what every operation needs."""
    x = torch.randn(4, 8, 6, 6).requires_grad_()
    pools = (_core.Pool(groups=2),)
    weight, bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def lean(x: Tensor) -> Tensor:
        return _core.normalize(x, weight, bias, pools, 1e-5)

    def defined(x: Tensor) -> Tensor:
        return _core.definition(x, weight, bias, None, None, pools, 1e-5)[0]

    assert torch.allclose(lean(x), defined(x), atol=1e-5)
    image = 4 * x.numel()
    assert image <= _kept(lean, x) < 1.2 * image
    assert _kept(defined, x) > 2 * image


class _Drawing(nn.Module):
    """Writes into one buffer, puts another tensor into the place of a second, and draws."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("none", None)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x * self.weight * torch.rand(8)


def test_nothing_is_left_behind() -> None:
    model = nn.Sequential(_Drawing(), nn.BatchNorm1d(8), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held = dict(model.named_buffers())
    state = torch.get_rng_state()
    assert kept_for_backward(model, lambda: model(X)) > 0
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(buffer is held[name] for name, buffer in model.named_buffers())
    assert all(p.grad is None for p in model.parameters())
    assert model.training

    def failing() -> Tensor:
        model(X)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        kept_for_backward(model, failing)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=16))


@pytest.mark.parametrize("norm", ["torch_bn", "bin"])
def test_a_run_keeps_its_bits(
    norm: str, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(norm=norm, n=1, epochs=1, batch_size=32)
    record = train(config, digits, tmp_path / "measured")
    monkeypatch.setattr(run, "kept_for_backward", lambda model, loss: 0)
    train(config, digits, tmp_path / "not")
    same = ("weights.safetensors", "predictions.npz")
    for name in same:
        one, two = ((tmp_path / where / name).read_bytes() for where in ("measured", "not"))
        assert one == two, name
    assert read_record(tmp_path / "measured") == record
    assert set(record["memory"]) == {"kept_for_backward"}  # nothing counts the peak of a CPU
    assert record["side_by_side"] == 1


def test_of_a_network_it_grows_with_the_batch_and_without_normalization_shrinks(
    digits: DataSet, tmp_path: Path
) -> None:
    def of(norm: str, size: int) -> int:
        config = RunConfig(norm=norm, n=1, epochs=1, batch_size=size)
        one = run._Run(config, digits, tmp_path / f"{norm}-{size}", {})
        one.model.train()
        one._measure_memory()
        return one.standing.memory["kept_for_backward"]

    assert 1.9 < of("bn", 32) / of("bn", 16) < 2.01
    assert of("none", 32) < of("bn", 32)
    assert of("bn", 32) == of("bn", 32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_peak_of_a_gpu() -> None:
    with peak_on("cuda") as peak:
        made = torch.empty(1 << 24, dtype=torch.uint8, device="cuda")
        del made
        reached = peak()
    assert reached is not None
    assert reached >= 1 << 24


def test_a_cpu_tells_no_peak() -> None:
    with peak_on("cpu") as peak:
        assert peak() is None
