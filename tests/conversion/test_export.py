"""An exported model is the model: proven with onnxruntime, or not written."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import normlab
from normlab.conversion import export, export_onnx
from normlab.data import DataConfig, load
from normlab.data.decode import decode
from normlab.errors import InputError
from normlab.files import write_json
from normlab.models import ModelInfo
from normlab.norms import CATALOG, make_norm, parse_norm
from normlab.runs import RunConfig
from normlab.training import train
from normlab.workflow.exporting import PROOF_IMAGES
from normlab.workflow.exporting import export as export_run

INFO = ModelInfo(1, ("a", "b", "ü"), "gn", "A", 3, 9, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


class EveryLayer(nn.Module):
    """The layer of each method in a row, each class once, and the convolution of each that has its
    own, all that is learned or tracked away from its start."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        once = {spec.layer: name for name, spec in CATALOG.items()}
        self.norms = nn.Sequential(*(make_norm(name, 8) for name in once.values()))
        choices = [parse_norm(name) for name, spec in CATALOG.items() if not spec.parts.plain]
        made = [choice.convolution(8, 8, 3) for choice in choices]
        self.convs = nn.Sequential(*(conv for conv in made if type(conv) is not nn.Conv2d))
        self.fc = nn.Linear(8, 3)
        with torch.no_grad():
            for conv in self.convs:
                for _, extra in conv.named_parameters():
                    if extra.dim() == 1:
                        extra.uniform_(0.5, 1.0)
            for name, tensor in self.norms.state_dict().items():
                if name.endswith("gate"):
                    tensor.uniform_(0.2, 0.8)
                elif tensor.is_floating_point():
                    tensor.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for norm in self.norms:
            x = norm(x) + x.sin()
        for conv in self.convs:
            x = conv(x).sin()
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 9, 9), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(RunConfig(norm="bn", n=1, epochs=1), load(DataConfig(limit_per_class=8)), folder)
    return folder


def _logits(path: Path, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"pixels": pixels})[0]  # type: ignore[no-any-return]


def test_every_layer_at_every_batch_size(
    tmp_path: Path, pixels: np.ndarray[Any, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    model = EveryLayer()
    report = export_onnx(model, INFO, tmp_path / "m.onnx", pixels, notes={"said": "by me"})
    assert capfd.readouterr() == ("", "")
    assert model.training
    reference = EveryLayer().double().eval()
    x = (pixels / 255 - np.reshape(INFO.mean, (3, 1, 1))) / np.reshape(INFO.std, (3, 1, 1))
    with torch.no_grad():
        expected = reference(torch.from_numpy(x)).numpy()
    for batch in (1, 2, 5):
        found = _logits(tmp_path / "m.onnx", pixels[:batch])
        assert found == pytest.approx(expected[:batch], abs=1e-4)
    assert report.images == 5
    assert report.size == (tmp_path / "m.onnx").stat().st_size
    assert 0 <= report.difference <= 1e-4 * report.scale

    written = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(written)
    facts = {entry.key: entry.value for entry in written.metadata_props}
    assert json.loads(facts["classes"]) == ["a", "b", "ü"]
    assert (facts["image_size"], facts["channels"], facts["norm"]) == ("9", "3", "gn")
    assert (json.loads(facts["mean"]), json.loads(facts["std"])) == (
        list(INFO.mean),
        list(INFO.std),
    )
    assert facts["said"] == "by me"
    content = (tmp_path / "m.onnx").read_bytes()
    assert str(Path(normlab.__file__).parent).encode() not in content
    assert b".py" not in content


def test_a_run_with_its_own_images(run: Path, tmp_path: Path) -> None:
    report = export_run(run)
    assert report.path == run / "model.onnx"
    assert report.images == PROOF_IMAGES
    images = load(DataConfig(limit_per_class=8)).splits["test"].images().transpose(0, 3, 1, 2)
    logits = torch.from_numpy(_logits(report.path, images))
    said = np.load(run / "predictions.npz")["test_probabilities"]
    assert logits.softmax(1).numpy() == pytest.approx(said, abs=1e-5)
    facts = {entry.key: entry.value for entry in onnx.load(report.path).metadata_props}
    assert "shorter side to 8 px" in facts["resize_rule"]
    assert json.loads(facts["classes"]) == [str(digit) for digit in range(10)]


class Otherwise(nn.Module):
    """A layer that is another one when it is exported."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3))
        return y + 1e-3 if torch.compiler.is_compiling() else y


def test_a_graph_that_is_not_the_model_is_not_written(
    tmp_path: Path, pixels: np.ndarray[Any, Any]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"older")
    with pytest.raises(InputError, match=r"not match the model: its logits differ by up to 0\.001"):
        export_onnx(Otherwise(), INFO, path, pixels)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


class Undecided(nn.Module):
    """A layer that looks at the values before it decides."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3))
        return y if float(y.sum()) > 0 else -y


def test_a_layer_that_onnx_cannot_express(
    tmp_path: Path, pixels: np.ndarray[Any, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"normalization 'gn' cannot be exported to ONNX: \w+"):
        export_onnx(Undecided(), INFO, tmp_path / "m.onnx", pixels)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_logits_that_are_not_finite(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    model = EveryLayer()
    torch.nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(InputError, match="logits are not finite"):
        export_onnx(model, INFO, tmp_path / "m.onnx", pixels)


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    name: str, tmp_path: Path, pixels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"needs {name}, which is .*'normlab\[export\]'"):
        export_onnx(EveryLayer(), INFO, tmp_path / "m.onnx", pixels)


@pytest.mark.parametrize(
    "sample",
    [
        np.zeros((2, 9, 9, 3), np.uint8),
        np.zeros((2, 3, 9, 9), np.float32),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((0, 3, 9, 9), np.uint8),
    ],
)
def test_images_of_another_shape(sample: np.ndarray[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be uint8 of shape \(N, 3, 9, 9\), got"):
        export_onnx(EveryLayer(), INFO, tmp_path / "m.onnx", sample)


def test_without_the_data_images_must_be_given(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(run, tmp_path / "seed-0")
    record = json.loads((here / "run.json").read_text())
    record["data"]["config"]["source"] = str(tmp_path / "gone")
    write_json(here / "run.json", record)
    with pytest.raises(InputError, match=r"cannot be loaded: .* Give images"):
        export_run(here)
    (here / "run.json").unlink()
    with pytest.raises(InputError, match=r"does not say which data .*\. Give images"):
        export_run(here)

    asked: dict[str, Any] = {}

    def spy(model: nn.Module, info: ModelInfo, path: Path, sample: Any, **rest: Any) -> str:
        asked.update(path=path, sample=sample)
        return "report"

    monkeypatch.setattr(export, "export_onnx", spy)
    rng = np.random.default_rng(1)
    for name in "ab":
        pixels = rng.integers(0, 256, (11, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    output = tmp_path / "out" / "m.onnx"
    found = export_run(here, onnx=output, images=[str(tmp_path / "*.png")])
    assert (found, asked["path"]) == ("report", output)
    expected = [decode(tmp_path / f"{name}.png", 8, 1).transpose(2, 0, 1) for name in "ab"]
    assert np.array_equal(asked["sample"], np.stack(expected))
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"c\.png is not an image.*\. Give other images"):
        export_run(here, images=[str(tmp_path / "c.png")])
