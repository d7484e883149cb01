"""Layers that are not ours: what a run relies on is tried before the first one, and what a layer is
made of stays as it made it."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normlab import compare, stopping
from normlab.cli import main
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.models import ResNet, load_model, save_model
from normlab.norms import ParameterNeeds, Ramp
from normlab.runs import CHECKPOINTS, RunConfig, read_predictions
from normlab.training import Keeping, check_layer, layer_check, run, train
from normlab.training.optimizer import LayerAwareOptimizer

HERE = Path(__file__).stem
SMALL: dict[str, Any] = {"n": 1, "epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=16))


@pytest.fixture(scope="module")
def uneven() -> DataSet:
    """Whose last batch of 32 is half as large."""
    data = load(DataConfig(limit_per_class=8, test_fraction=0.2, val_fraction=0.2))
    assert len(data.splits["train"]) % 32 == 16
    return data


class Plain(nn.BatchNorm2d):
    """Right in every way."""


class Gated(nn.Module):
    """Squeeze and excitation after batch normalization: linear layers and a convolution inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.squeeze = nn.Linear(channels, 4)
        self.excite = nn.Linear(4, channels)
        nn.init.zeros_(self.excite.weight)
        nn.init.constant_(self.excite.bias, 3.0)
        nn.init.dirac_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.norm(x))
        gate = self.excite(self.squeeze(y.mean((2, 3))).relu()).sigmoid()
        return y * gate[:, :, None, None]  # type: ignore[no-any-return]


class Viewed(nn.Module):
    """Group normalization as it is often written: for contiguous input alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        g = x.view(n, 4, -1)
        g = (g - g.mean(-1, keepdim=True)) / (g.var(-1, keepdim=True) + 1e-5).sqrt()
        return g.view(n, c, h, w) * self.weight[:, None, None]


class Strided(Viewed):
    """Reads memory by itself: no error, other values."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return super().forward(x.as_strided((n, c, h, w), (c * h * w, h * w, w, 1)))


class Counted(nn.BatchNorm2d):
    """Its momentum follows a Python counter, which evaluation does not read."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self.momentum = 1 / self.steps
        return super().forward(x)


class Remembered(Counted):
    """The same, with the counter in the state dict."""

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": self.steps}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]
        if self.steps:
            self.momentum = 1 / self.steps


class NotSaved(nn.Module):
    """Running statistics in a buffer that is not saved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running", torch.zeros(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.running.lerp_(x.float().mean((0, 2, 3)), 0.1)
        return x - self.running[:, None, None].to(x)


class Attribute(nn.Module):
    """Running statistics in a plain attribute."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.running = torch.zeros(channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running = 0.9 * self.running + 0.1 * x.detach().mean((0, 2, 3))
        return x - self.running[:, None, None]


class DrawnConstant(nn.Module):
    """A random projection that is not saved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.signs = torch.randn(channels).sign()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.signs[:, None, None]


class MadeInForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "running"):
            self.register_buffer("running", torch.zeros(x.shape[1]))
        return x


class ReplacedInForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        self.weight = nn.Parameter(self.weight.detach().clone())
        return x * self.weight[:, None, None]


class ObjectState(nn.BatchNorm2d):
    def get_extra_state(self) -> object:
        return {"generator": torch.Generator()}

    def set_extra_state(self, state: object) -> None:
        pass


class GlobalCounter(nn.Module):
    calls: ClassVar[Any] = itertools.count()

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 0.01 * next(self.calls)) if self.training else x


SHARED = nn.Parameter(torch.ones(1))


class SharedParameter(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = SHARED

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class OwnGenerator(nn.Module):
    made: ClassVar[Any] = np.random.default_rng()

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(self.made.random(channels)).float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


class _Formula(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))


class Tupled(_Formula):
    def forward(self, x: Tensor) -> Any:
        return x, x


class Reshaped(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1:]


class Widened(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


class Detached(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class DetachedInput(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach() * self.weight[:, None, None]


class NotANumber(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


class WrongBackward(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 0).sqrt() + x


class BatchInEvaluation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


class NoiseInEvaluation(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


class UpdatedInEvaluation(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        self.num_batches_tracked.add_(1)
        return super().forward(x)


class OneSize(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(1, 1, 32, 32)


class EvenBatches(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) % 32:
            raise ValueError("whole ghosts only")
        return x * self.weight[:, None, None]


class NoChannels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class EpsFirst(nn.Module):
    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()


class NoInit(nn.Module):
    def __init__(self, channels: int) -> None:
        pass


class WrongInConstructor(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        raise RuntimeError("no licence")


class _Needy(_Formula):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


class Steep(_Needy):
    """Too steep for gradients that are not clipped."""

    optimizer_needs: ClassVar[Any] = {"weight": ParameterNeeds(unit_clip=0.01)}

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 1e20 * (self.weight[:, None, None] - 1))


class NeedsOfNothing(_Needy):
    optimizer_needs: ClassVar[Any] = {"wieght": ParameterNeeds(lr_scale=2.0)}


class NeedsAsDict(_Needy):
    optimizer_needs: ClassVar[Any] = {"weight": {"lr_scale": 2.0}}


class NeedsAsList(_Needy):
    optimizer_needs: ClassVar[Any] = [("weight", ParameterNeeds())]


class Followed(nn.BatchNorm2d):
    """What it gives depends on where the run is, in evaluation too."""

    schedules: ClassVar[Any] = {"gain": Ramp(((0.25, 0.5), (0.75, 2.0)))}

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class FollowsNothing(Followed):
    schedules: ClassVar[Any] = {"gian": Ramp(((0.0, 2.0),))}


class FollowsNoNumber(Followed):
    schedules: ClassVar[Any] = {"affine": Ramp(((0.0, 1.0),))}


class FollowsByPairs(Followed):
    schedules: ClassVar[Any] = {"gain": ((0.0, 0.5), (1.0, 2.0))}


class FollowsAList(Followed):
    schedules: ClassVar[Any] = [("gain", Ramp(((0.0, 2.0),)))]


class EndsElsewhere(Followed):
    schedules: ClassVar[Any] = {"gain": Ramp(((0.0, 2.0), (1.0, 3.0)))}


class CannotFollow(Followed):
    schedules: ClassVar[Any] = {"doubled": Ramp(((0.0, 4.0),))}

    @property
    def doubled(self) -> float:
        return 2.0 * self.gain


class FailsAtTheStart(Followed):
    def forward(self, x: Tensor) -> Tensor:
        if self.gain < 1:
            raise RuntimeError("too little")
        return super().forward(x)


class Lazy(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LazyBatchNorm2d()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


class Locked(_Needy):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.lock = threading.Lock()


class WrongInBfloat16(_Needy):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16:
            raise TypeError("float32 only")
        return super().forward(x)


class Fails(_Needy):
    """Later than anything that is tried."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        if self.calls > 8:
            raise RuntimeError("worn out")
        return super().forward(x)


class LateFlag(_Needy):
    """A flag that evaluation reads, set later than anything that is tried."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.warm = False

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            self.warm = bool(self.calls > 8)
        return super().forward(x) * (2.0 if self.warm and not self.training else 1.0)


class Noisy(nn.BatchNorm2d):
    """Noise in training from every global generator that there is."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.training:
            y = y * (1 + 0.1 * torch.randn(x.shape[1], 1, 1)) + 0.1 * float(np.random.rand())
        return y


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("NotSaved", "after it is saved and loaded.*persistent=False"),
        ("Attribute", "after it is saved and loaded"),
        ("DrawnConstant", "after it is saved and loaded.*drawn in __init__"),
        ("MadeInForward", "running is made or replaced in forward"),
        ("ReplacedInForward", "weight is made or replaced in forward"),
        ("ObjectState", "extra state .*must return a tensor or plain JSON"),
        ("GlobalCounter", "two copies.*a global or a class attribute"),
        ("SharedParameter", "scale is shared between layers"),
        ("OwnGenerator", "initial values differ between two copies"),
        ("Tupled", "returns tuple, not a tensor"),
        ("Reshaped", r"turns shape \(32, 16, 8, 8\) into \(32, 16, 7, 8\)"),
        ("Widened", "turns torch.float32 on cpu into torch.float64"),
        ("Detached", "no gradient passes through it"),
        ("DetachedInput", "its input gets no gradient"),
        ("NotANumber", "values that are not finite in training"),
        ("WrongBackward", "its input gets a gradient that is not finite"),
        ("BatchInEvaluation", "depends on the other images of the batch"),
        ("NoiseInEvaluation", "output in evaluation is not the same twice"),
        ("UpdatedInEvaluation", "state changes in evaluation"),
        ("OneSize", r"fails in training for input of shape \(32, 16, 8, 8\).*RuntimeError"),
        ("EvenBatches", r"shape \(16, 16, 8, 8\).*ValueError: whole ghosts only \(test_own_layers"),
        ("NeedsOfNothing", r"needs of 'wieght'.*did you mean weight\?"),
        ("NeedsAsDict", "needs of 'weight' as {'lr_scale': 2.0}. Use"),
        ("Lazy", "norm.weight has no shape before the first input"),
        ("Locked", "cannot be copied.*TypeError: cannot pickle"),
        ("NeedsAsList", "must map names of parameters"),
        ("FollowsNothing", "schedule of 'gian', which is not one of its attributes"),
        ("FollowsNoNumber", "schedule of 'affine', which is not one of its .*it is True"),
        ("FollowsByPairs", r"schedule of 'gain' as \(\(0.0, 0.5\).*Use normlab.norms.Ramp"),
        ("FollowsAList", "schedules of FollowsAList at the top must map names of attributes"),
        ("EndsElsewhere", "sets gain to 2 in __init__, but its schedule ends at 3.0"),
        ("CannotFollow", "an attribute with a schedule cannot be set: .*no setter"),
        ("FailsAtTheStart", "fails in training .*too little"),
    ],
)  # fmt: skip
def test_what_a_run_relies_on_is_tried_first(
    layer: str, message: str, uneven: DataSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        train(RunConfig(**SMALL, norm=f"{HERE}:{layer}"), uneven, tmp_path / "run")
    assert f"Arm {HERE}:{layer}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("NoChannels", "could not be made for 16 channels: TypeError"),
        ("EpsFirst", "first argument of .* is eps, so"),
        ("NoInit", r"does not call super\(\).__init__\(\)"),
        ("WrongInConstructor", "RuntimeError: no licence"),
        ("Nothing", "has no 'Nothing'"),
        ("HERE", "must be a subclass of torch.nn.Module"),
    ],
)
def test_what_cannot_be_made_is_refused_before_data_is_read(layer: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(arms=f"{HERE}:{layer}", data="nowhere", dry_run=True)


@pytest.mark.parametrize("layer", ["LocalResponseNorm", "GroupNorm", "ReLU"])
def test_a_layer_of_torch_that_takes_something_else_first_is_refused(layer: str) -> None:
    # LocalResponseNorm(16) works, with a window of 16 channels.
    with pytest.raises(InputError, match="would take the number of channels for its"):
        compare(arms=f"torch.nn:{layer}", data="nowhere", dry_run=True)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("class Layer(:", "SyntaxError.*line 1"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("from normlab.norms import ParameterNeeds as P\nP(clamp=(1, 0))", "low <= high"),
        ("from normlab.norms import ParameterNeeds as P\nP(lr_scale=-1)", "at least 0, got -1"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_message(
    code: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_layer.py").write_text(code + "\n")
    assert main(["compare", "--arms", "bn,broken_layer:Layer", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "cannot import 'broken_layer'" in said
    assert "Traceback" not in said
    with pytest.raises(InputError, match=message):
        compare(arms="broken_layer:Layer", dry_run=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"clamp": (1, 0)}, {"clamp": (0.0,)}, {"clamp": 1.0}, {"clamp": (0.0, float("nan"))},
        {"clamp": ("0", "1")}, {"lr_scale": -1.0}, {"lr_scale": float("nan")},
        {"lr_scale": float("inf")}, {"lr_scale": "fast"}, {"weight_decay": 0},
        {"unit_clip": 0}, {"unit_clip": -0.01}, {"unit_clip": True}, {"unit_clip": "0.01"},
        {"unit_clip": float("nan")}, {"unit_clip": float("inf")},
    ],
)  # fmt: skip
def test_impossible_needs(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ValueError, match=f"^{name} must be"):
        ParameterNeeds(**fields)


def test_a_parameter_that_the_layer_was_made_without_needs_nothing() -> None:
    class Optional(nn.Module):
        optimizer_needs: ClassVar[Any] = {"gate": ParameterNeeds(lr_scale=2.0)}

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.register_parameter("gate", None)

    assert LayerAwareOptimizer(Optional(), RunConfig()).parameters


def test_weights_inside_a_layer_are_its_own() -> None:
    reference, model = ResNet(1, 3, "bn", seed=4), ResNet(1, 3, f"{HERE}:Gated", seed=4)
    other = ResNet(1, 3, f"{HERE}:Gated", seed=5)
    theirs = model.norm0
    assert isinstance(theirs, Gated)
    assert theirs.excite.bias.tolist() == [3.0] * 16
    assert not bool(theirs.excite.weight.any())
    assert torch.equal(theirs.mix.weight[:, :, 0, 0], torch.eye(16))
    # What it draws depends on seed and place alone.
    torch.manual_seed(99)
    again = ResNet(1, 3, f"{HERE}:Gated", seed=4)
    block = model.stages[0][0]
    drawn = [m.squeeze.weight for m in (theirs, block.norm1, block.norm2, other.norm0)]
    assert torch.equal(again.norm0.squeeze.weight, theirs.squeeze.weight)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
    # And the rest of the network is that of every arm.
    assert torch.equal(reference.conv.weight, model.conv.weight)
    assert torch.equal(reference.stages[1][0].conv2.weight, model.stages[1][0].conv2.weight)
    assert torch.equal(reference.fc.weight, model.fc.weight)


def test_a_layer_with_layers_inside_goes_through_everything(
    digits: DataSet, tmp_path: Path
) -> None:
    from normlab.explain.randomization import _cascade

    record = train(RunConfig(**SMALL, norm=f"{HERE}:Gated"), digits, tmp_path / "one")
    assert record["status"] == "complete"
    assert [site["name"] for site in record["sites"]][:2] == ["norm0", "stages.0.0.norm1"]
    assert len(record["sites"]) == 7
    model = load_model(tmp_path / "one", trust=True)
    assert [name for name, _ in _cascade(model, torch.zeros(1, 1, 8, 8), 0, None)][:2] == [
        "", "fc"
    ]  # fmt: skip
    # With other draws before it, in the same process.
    train(RunConfig(**SMALL, norm=f"{HERE}:Plain"), digits, tmp_path / "between")
    torch.manual_seed(3)
    train(RunConfig(**SMALL, norm=f"{HERE}:Gated"), digits, tmp_path / "two")
    weights = [(tmp_path / n / "weights.safetensors").read_bytes() for n in ("one", "two")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("layer", ["Viewed", "Strided"])
def test_a_layer_for_contiguous_input_gets_it(layer: str, digits: DataSet, tmp_path: Path) -> None:
    record = train(RunConfig(**SMALL, norm=f"{HERE}:{layer}"), digits, tmp_path)
    assert record["status"] == "complete"
    assert record["notes"] == [
        f"{HERE}:{layer} gets contiguous input, where the network works in channels_last. The "
        "copies that this takes are part of its times."
    ]
    # What it computes is what it computes on contiguous input.
    model = load_model(tmp_path, trust=True)
    x = torch.randn(2, 16, 8, 8)
    expected = Viewed.forward(model.norm0, x)
    assert torch.allclose(model.norm0(x.contiguous(memory_format=torch.channels_last)), expected)


def test_a_layer_that_takes_any_format_is_given_what_there_is(digits: DataSet) -> None:
    assert check_layer(RunConfig(norm=f"{HERE}:Plain"), digits) == layer_check.LayerTraits()
    assert not ResNet(1, 3, f"{HERE}:Plain", seed=0).norm0._forward_pre_hooks


def test_a_layer_is_tried_with_the_gradients_that_it_asks_for(digits: DataSet) -> None:
    assert check_layer(RunConfig(norm=f"{HERE}:Steep"), digits).resumable


def _stopped_and_resumed(norm: str, digits: DataSet, folder: Path) -> int:
    """Runs whole, and stopped in the second epoch; returns the epoch that it went on from."""
    config = RunConfig(**{**SMALL, "epochs": 3}, norm=norm)
    train(config, digits, folder / "whole")

    def stop(at: run.Progress) -> None:
        if at.epoch == 2 and at.step == at.steps * 2 // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, digits, folder / "cut", stop, keeping=Keeping(checkpoint_minutes=0))
    epochs: list[int] = []
    train(config, digits, folder / "cut", lambda at: epochs.append(at.epoch))
    whole, cut = ((folder / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    return min(epochs)


def test_extra_state_is_saved_and_resumed_without_a_pickle(digits: DataSet, tmp_path: Path) -> None:
    assert _stopped_and_resumed(f"{HERE}:Remembered", digits, tmp_path) == 2
    model = load_model(tmp_path / "cut", trust=True)
    assert isinstance(model.norm0, Remembered)
    assert model.norm0.steps > 0
    record = json.loads((tmp_path / "cut/run.json").read_text())
    assert model.norm0.steps == record["chosen_epoch"] * record["steps_done"] // 3


def test_state_that_cannot_be_resumed_starts_over_and_says_so(
    digits: DataSet, tmp_path: Path
) -> None:
    assert _stopped_and_resumed(f"{HERE}:Counted", digits, tmp_path) == 1
    (note,) = json.loads((tmp_path / "whole/run.json").read_text())["notes"]
    assert "keeps momentum, steps outside of its state dict. Its runs cannot resume" in note
    assert not (tmp_path / "cut" / CHECKPOINTS).exists()


def test_noise_in_training_is_keyed_and_resumes_to_the_bit(digits: DataSet, tmp_path: Path) -> None:
    np.random.seed(1)
    assert _stopped_and_resumed(f"{HERE}:Noisy", digits, tmp_path) == 2
    assert np.random.rand() == pytest.approx(0.417022004702574)  # the caller's, untouched


def test_a_saved_model_that_answers_otherwise_fails_the_run(
    digits: DataSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the model that was saved gives other predictions"):
        train(RunConfig(**SMALL, norm=f"{HERE}:LateFlag"), digits, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "interrupted"
    with pytest.raises(InputError, match="its status is 'interrupted'"):
        load_model(tmp_path, trust=True)


def test_a_saved_model_of_ours_is_compared_with_its_predictions_too(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from normlab.training import outcome

    def spoilt(folder: Path, info: Any, weights: Any, card: Any) -> None:
        save_model(folder, info, {n: t * 1.001 if "fc" in n else t for n, t in weights.items()},
                   card)  # fmt: skip

    monkeypatch.setattr(outcome, "save_model", spoilt)
    with pytest.raises(InputError, match="the model that was saved gives other predictions"):
        train(RunConfig(**SMALL), digits, tmp_path)
    assert len(read_predictions(tmp_path, "val").labels)


def test_what_a_layer_raises_later_is_one_line(digits: DataSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"seed 0: the run failed: RuntimeError: worn out \(test_"):
        train(RunConfig(**SMALL, norm=f"{HERE}:Fails"), digits, tmp_path)


def test_the_precision_of_the_run_is_tried(digits: DataSet) -> None:
    norm = f"{HERE}:WrongInBfloat16"
    assert check_layer(RunConfig(norm=norm), digits).resumable
    with pytest.raises(InputError, match="TypeError: float32 only"):
        check_layer(RunConfig(norm=norm, precision="bfloat16"), digits)


def test_the_last_batch_is_smaller_with_a_budget_of_updates_too(uneven: DataSet) -> None:
    norm = f"{HERE}:EvenBatches"
    with pytest.raises(InputError, match="whole ghosts only"):
        check_layer(RunConfig(norm=norm, batch_size=32, budget="updates"), uneven)
    assert check_layer(RunConfig(norm=f"{HERE}:Plain", batch_size=999), uneven).resumable


def test_a_dry_run_tries_the_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", "--arms", f"bn,{HERE}:NotSaved", "--limit-per-class", "8", "--dry-run"]
    assert main([*asked, "--out", str(tmp_path / "s")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "after it is saved and loaded" in said
    assert not (tmp_path / "s").exists()


def test_what_is_to_be_known_of_a_layer_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", "--arms", f"{HERE}:Viewed", "--limit-per-class", "8", "--epochs", "1",
             "--n", "1", "--seeds", "1", "--workers", "1"]  # fmt: skip
    asked += ["--out", str(tmp_path / "s")]
    said = "gets contiguous input, where the network works in channels_last"
    assert main([*asked, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert said in " ".join((captured.out + captured.err).split())
    assert main(asked) == 0
    for name in ("report.html", "results.md"):
        assert said.split(",")[0] in (tmp_path / "s" / name).read_text()


def test_attributes_follow_the_run_and_its_continuation(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before every update the value for what is done, the last one in evaluation, in a run that is
    stopped and resumed as in one that is not; and the saved model answers as the trained one."""
    trained: list[float] = []
    evaluated: list[float] = []

    def gains(model: nn.Module) -> float:
        (found,) = {m.gain for m in model.modules() if isinstance(m, Followed)}
        return float(found)

    def train_step(model: nn.Module, *rest: Any, **named: Any) -> Any:
        trained.append(gains(model))
        if len(trained) == stop_at:
            stopping.request()
        return step_as_it_is(model, *rest, **named)

    def evaluate(model: nn.Module, *rest: Any) -> Any:
        evaluated.append(gains(model))
        return evaluation_as_it_is(model, *rest)

    step_as_it_is, evaluation_as_it_is = run.train_step, run.evaluate
    monkeypatch.setattr(run, "train_step", train_step)
    monkeypatch.setattr(run, "evaluate", evaluate)
    config = RunConfig(**SMALL, norm=f"{HERE}:Followed")
    stop_at = 0
    record = train(config, digits, tmp_path / "whole")
    updates = record["steps_done"]
    ramp = Followed.schedules["gain"]
    assert trained == [ramp.at(done / updates) for done in range(updates)]
    assert trained[0] == 0.5
    assert len(set(trained)) >= 4
    assert set(evaluated) == {2.0}
    assert "notes" not in record, "it resumes"
    whole = trained[:]
    trained.clear()
    stop_at = updates // 2 + 1
    with pytest.raises(stopping.Stopped), stopping.handled():
        train(config, digits, tmp_path / "cut", keeping=Keeping(checkpoint_minutes=1e6))
    assert len(trained) == stop_at < updates
    train(config, digits, tmp_path / "cut")
    assert trained == whole
    for name in ("weights.safetensors", "predictions.npz"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_method_that_is_called_schedules_is_the_layers_own(digits: DataSet) -> None:
    config = RunConfig(**SMALL, norm=f"{HERE}:Scheduling")
    assert check_layer(config, digits).resumable


class Scheduling(Plain):
    def schedules(self) -> list[str]:
        return []
