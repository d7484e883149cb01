"""Trained weights to start from, from the files in which people have them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from networks import CLASSES, Residual, trained
from normlab.errors import InputError
from normlab.models import ModelInfo, digest_of_weights, save_model, start_from
from normlab.models.initial import Loaded

LARGE = torch.full((8,), 1e300, dtype=torch.float64)
INFO = ModelInfo(
    2, tuple("abcd"), "gn:groups=4", "A", 3, 8, (0.5,) * 3, (0.2,) * 3, model="networks:Residual"
)


def state() -> dict[str, Any]:
    return dict(trained(Residual).state_dict())


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def start(path: Path, info: ModelInfo = INFO, least: float = 0.9) -> tuple[nn.Module, str, Loaded]:
    return start_from(path, info, least, 0)


@pytest.mark.parametrize("form", ["safetensors", "plain", "wrapped", "parallel", "compiled"])
def test_every_form_of_a_state_dict_is_read(tmp_path: Path, form: str) -> None:
    file, content = tmp_path / "w.pth", state()
    if form == "safetensors":
        file = tmp_path / "w.safetensors"
        safetensors.torch.save_file(content, file)
    elif form == "wrapped":
        torch.save({"epoch": 3, "state_dict": content, "optimizer": {"lr": 0.1}}, file)
    else:
        prefix = {"parallel": "module.", "compiled": "_orig_mod."}.get(form, "")
        torch.save({prefix + name: value for name, value in content.items()}, file)
    model, norm, loaded = start(file)
    assert norm == "as_is"
    assert loaded.share == 1
    assert not loaded.missing
    assert not loaded.left_over
    assert all(torch.equal(value, content[name]) for name, value in model.state_dict().items())
    assert bool(loaded.notes) == (form not in ("safetensors", "plain"))


def test_a_pickle_runs_no_code(tmp_path: Path) -> None:
    file, made = tmp_path / "w.pth", tmp_path / "made"
    torch.save({**state(), "more": Harmful(made)}, file)
    with pytest.raises(InputError, match=r"cannot be read as weights.*tensors alone"):
        start(file)
    assert not made.exists()


def test_a_classifier_of_another_size_is_replaced_and_said(tmp_path: Path) -> None:
    file, content = tmp_path / "w.pth", state()
    torch.save(content, file)
    model, _, loaded = start(file, replace(INFO, classes=tuple("abcdefg"), model="sevens:build"))
    assert loaded.classifier == "head.fc"
    assert loaded.share == 1
    assert not loaded.missing
    assert model.get_parameter("head.fc.weight").shape == (7, 8)
    assert torch.equal(model.get_parameter("layers.0.bn.weight"), content["layers.0.bn.weight"])
    assert "besides the classifier head.fc start from" in loaded.sentences[0]
    assert "starts anew" in loaded.sentences[1]


@pytest.fixture(autouse=True)
def _sevens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory for any number of classes."""
    (tmp_path / "sevens.py").write_text(
        "from networks import Residual\nfrom torch import nn\n"
        "def build(classes):\n    made = Residual()\n"
        "    made.head.fc = nn.Linear(8, classes)\n    return made\n"
    )
    monkeypatch.chdir(tmp_path)


def test_what_is_missing_and_left_over_is_named(tmp_path: Path) -> None:
    file, content = tmp_path / "w.pth", state()
    del content["layers.1.bn.bias"]
    content["layers.0.bn.weight"] = torch.ones(3)
    content["aux.weight"] = torch.ones(2)
    torch.save(content, file)
    fresh, (model, _, loaded) = INFO.build(0), start(file)
    assert loaded.missing == ("layers.0.bn.weight", "layers.1.bn.bias")
    assert loaded.left_over == ("aux.weight",)
    assert 0.9 < loaded.share < 1
    said = " ".join(loaded.sentences)
    assert "layers.0.bn.weight and layers.1.bn.bias" in said
    assert "aux.weight" in said
    assert torch.equal(model.get_parameter("layers.0.bn.weight"), torch.ones(8))
    assert fresh is not model


def test_too_few_weights_are_refused_unless_told(tmp_path: Path) -> None:
    file, content = tmp_path / "w.pth", state()
    kept = {name: value for name, value in content.items() if "layers.1" not in name}
    torch.save(kept, file)
    with pytest.raises(InputError, match=r"% of the parameters.*At least 90 %.*--weights-least"):
        start(file)
    assert start(file, least=0.1)[2].share < 0.9


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3}, "has no state dict"),
        ([1, 2], "has no state dict"),
        ({"state_dict": {"a": 1}}, "has no state dict"),
    ],
)
def test_files_without_weights_are_refused(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=said):
        start(tmp_path / "w.pth")


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as weights"):
        start(tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not exist"):
        start(tmp_path / "nothing.pth")
    with pytest.raises(InputError, match="does not contain a model"):
        start(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        digest_of_weights(tmp_path / "nothing.pth")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    content = state()
    content["layers.0.conv.weight"][0] = float("nan")
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"not finite: layers\.0\.conv\.weight"):
        start(tmp_path / "w.pth")


def test_a_trained_model_says_its_normalization(tmp_path: Path) -> None:
    model = INFO.build(3)
    save_model(tmp_path / "m", INFO, model.state_dict())
    found, norm, loaded = start(tmp_path / "m", replace(INFO, norm="bn"))
    assert norm == "gn:groups=4"
    assert loaded.share == 1
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in found.state_dict().items())
    # Its file of weights alone stands for the folder.
    assert start(tmp_path / "m" / "weights.safetensors")[1] == "gn:groups=4"
    with pytest.raises(InputError, match="Give --model networks:Residual"):
        start(tmp_path / "m", replace(INFO, model="sevens:build"))
    with pytest.raises(InputError, match="takes images of 3 channels, and the data have 1"):
        start(tmp_path / "m", replace(INFO, in_channels=1, mean=(0.5,), std=(0.2,)))


def test_weights_of_our_network_need_their_normalization(tmp_path: Path) -> None:
    ours = replace(INFO, model="resnet6n2", norm="bn")
    torch.save(ours.build(0).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not say which normalization"):
        start(tmp_path / "w.pth", ours)
    save_model(tmp_path / "m", ours, ours.build(0).state_dict())
    assert start(tmp_path / "m", replace(ours, norm="gn:groups=4"))[1] == "bn"
    with pytest.raises(InputError, match=r"has n 2, and the run 3\. Give --n 2"):
        start(tmp_path / "m", replace(ours, n=3))


def test_weights_count_by_their_content(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    assert digest_of_weights(tmp_path / "a.pth") == digest_of_weights(tmp_path / "b.pth")
    assert len(INFO.classes) == CLASSES


def test_what_weights_mean_counts_too(tmp_path: Path) -> None:
    weights = INFO.build(3).state_dict()
    for name, info in (("a", INFO), ("b", replace(INFO, norm="gn:groups=2")), ("c", INFO)):
        save_model(tmp_path / name, info, weights)
    first, second, third = (digest_of_weights(tmp_path / name) for name in "abc")
    assert first == third != second
    # Without what says so, the file is that of the factory's network.
    (tmp_path / "bare").mkdir()
    content = (tmp_path / "a/weights.safetensors").read_bytes()
    (tmp_path / "bare/weights.safetensors").write_bytes(content)
    assert digest_of_weights(tmp_path / "bare/weights.safetensors") not in (first, second)


def test_a_classifier_for_other_classes_is_not_kept(tmp_path: Path) -> None:
    save_model(tmp_path / "m", INFO, INFO.build(3).state_dict())
    _, _, loaded = start(tmp_path / "m", replace(INFO, classes=tuple("dcba")))
    assert loaded.classifier == "head.fc"
    _, _, loaded = start(tmp_path / "m", replace(INFO, mean=(0.1,) * 3))
    assert any("Pixels were normalized otherwise" in said for said in loaded.sentences)


def test_a_missing_bias_is_no_other_classifier(tmp_path: Path) -> None:
    content = state()
    del content["head.fc.bias"]
    torch.save(content, tmp_path / "w.pth")
    _, _, loaded = start(tmp_path / "w.pth")
    assert not loaded.classifier
    assert loaded.missing == ("head.fc.bias",)
    assert not loaded.sentences[0].startswith("100 %")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {**s, "layers.0.bn.running_var": -torch.ones(8)}, "variances below 0"),
        (
            lambda s: {**s, "layers.0.bn.weight": torch.full((8,), 1e300, dtype=torch.float64)},
            "not finite",
        ),
        (lambda s: {n: t.to_sparse() if t.dim() == 4 else t for n, t in s.items()}, "At least 90"),
    ],
)
def test_weights_that_would_compute_nothing_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    torch.save(change(state()), tmp_path / "w.pth")
    with pytest.raises(InputError, match=said):
        start(tmp_path / "w.pth")


def test_values_of_another_type_are_said(tmp_path: Path) -> None:
    torch.save({n: t.half() if t.is_floating_point() else t for n, t in state().items()}, "w.pth")
    _, _, loaded = start(Path("w.pth"))
    assert loaded.share == 1
    assert any("float16" in said for said in loaded.sentences)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as stored,
        zipfile.ZipFile(tmp_path / "z.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for one in stored.infolist():
            packed.writestr(one.filename, stored.read(one))
    with pytest.raises(InputError, match="is compressed"):
        start(tmp_path / "z.pth")
