"""A model on disk: what is saved comes back, and nothing else gets in."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from normlab.errors import InputError
from normlab.files import write_json
from normlab.models import ModelInfo, load_info, load_model, save_model
from normlab.models.bundle import load_card
from normlab.runs import MODEL, WEIGHTS

INFO = ModelInfo(1, ("cat", "dog"), "gn:groups=4", "B", 1, 16, (0.5,), (0.25,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "seed-0", INFO, INFO.build(seed=3).state_dict())
    return tmp_path / "seed-0"


def _described(folder: Path, **changed: Any) -> None:
    """As somebody writes it who changes files and their checksums."""
    path = folder / MODEL
    content = json.loads(path.read_text())
    content.pop("sha256", None)
    content.pop("weights_sha256", None)
    path.write_text(json.dumps({**content, **changed}))


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    change(weights)
    safetensors.torch.save_file(weights, folder / WEIGHTS)
    _described(folder)


def _refused(folder: Path, message: str) -> None:
    """In one line that is short enough to read."""
    with pytest.raises(InputError, match=message) as refused:
        load_model(folder)
    text = str(refused.value)
    assert "\n" not in text
    assert len(text.replace(str(folder.parent), "")) < 400


def test_what_is_saved_comes_back(folder: Path) -> None:
    assert load_info(folder) == INFO
    model, expected = load_model(str(folder)), INFO.build(seed=3).state_dict()
    assert not model.training
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert load_card(folder) == {}


def test_a_card_goes_along(folder: Path) -> None:
    card = {"pruned": {"share": 0.5, "sites": ["norm0"]}, "said": "ü"}
    save_model(folder, INFO, INFO.build(seed=3).state_dict(), card)
    assert load_card(folder) == card
    assert load_info(folder) == INFO
    assert not load_model(folder).training


@pytest.mark.parametrize("card", [{"loss": float("nan")}, {"where": Path("x")}])
def test_a_card_json_cannot_hold_changes_nothing(card: dict[str, Any], folder: Path) -> None:
    before = (folder / WEIGHTS).read_bytes()
    with pytest.raises(InputError, match=r"A model.s card must be plain JSON"):
        save_model(folder, INFO, INFO.build(seed=4).state_dict(), card)
    assert (folder / WEIGHTS).read_bytes() == before


def test_other_files_are_not_read(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(pickle.dumps({}))
    (folder / "history.csv").write_text("epoch\n")
    load_model(folder)


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle was opened')",))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_is_refused_unopened(protocol: int, folder: Path) -> None:
    trap = pickle.dumps(_Trap(), protocol)
    for name in ("model.pth", "model.PT", "x.bin", "x.pkl"):
        (folder / name).write_bytes(trap)
        _refused(folder / name, f"{name} is a pickle, which can run code")
        (folder / name).unlink()
    if protocol >= 2:
        (folder / WEIGHTS).write_bytes(trap)
        _refused(folder, f"{WEIGHTS} is a pickle, which can run code")
        (folder / "model").write_bytes(trap)
        _refused(folder / "model", "model is a pickle, which can run code")


def test_what_torch_saves_is_a_pickle(folder: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, folder / WEIGHTS)
    _refused(folder, "is a pickle.*only reads safetensors and JSON")
    (folder / MODEL).unlink()
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    _refused(folder, r"pytorch_model\.bin is a pickle")


def test_safetensors_of_any_header_length_are_no_pickle(folder: Path) -> None:
    """A header of 0x0280 bytes begins as a pickle of protocol 2 does."""
    path = folder / "x.safetensors"
    header = json.dumps({"__metadata__": {}}).ljust(0x0280).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert path.read_bytes()[:2] == b"\x80\x02"
    _refused(path, r"x\.safetensors is a file, not the folder of a run\. Give STUDY")


def test_not_a_folder(folder: Path) -> None:
    _refused(folder / MODEL, f"one file of a model. Give its folder, {re.escape(str(folder))}")
    _refused(folder / "gone", r"gone does not exist\. Give STUDY")
    (folder / "notes.txt").write_text("hello")
    _refused(folder / "notes.txt", r"is a file, not the folder of a run\. Give STUDY")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    _refused(tmp_path / "x", r"does not contain a model \(no model.json\)\. Give STUDY")


def test_a_study_names_its_runs(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.toml").write_text("")
    _refused(study, r"is a study, not a run\. None of its runs is complete yet")
    for seed in range(5):
        save_model(study / f"runs/bn/seed-{seed}", INFO, {})
    _refused(study, r"is a study, not a run\. Give one of its runs: .*bn/seed-0, .* and 2 more")


@pytest.mark.parametrize("status", ["interrupted", "diverged at step 7"])
def test_a_run_without_a_model_says_its_status(status: str, tmp_path: Path) -> None:
    run = tmp_path / "seed-0"
    run.mkdir()
    write_json(run / "run.json", {"status": status})
    _refused(run, f"has no model: its status is '{status}'")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": -1}, "n must be a whole number from 1 to 10,000, got -1"),
        ({"n": True}, "n must be a whole number"),
        ({"n": "1"}, "n must be a whole number"),
        ({"n": 10**9}, "n must be a whole number from 1 to 10,000"),
        ({"n": 1000}, r"says n = 1000\. The weights have 1"),
        ({"classes": "cat"}, "classes must be a list of at least two different names, got 'cat'"),
        ({"classes": ["cat"]}, "classes must be a list of at least two different names"),
        ({"classes": ["cat", "cat"]}, "classes must be a list of at least two different names"),
        ({"classes": ["cat", ""]}, "classes must be a list of at least two different names"),
        ({"classes": [str(n) for n in range(100_000)]}, "a network of .* bytes"),
        ({"classes": ["cat", 2]}, "classes must be a list of at least two different names"),
        ({"norm": "batchnorm"}, "an impossible model: unknown normalization 'batchnorm'"),
        ({"norm": "gn:groups=5"}, "an impossible model: groups must divide"),
        ({"norm": "normlab.__main__:Layer"}, "'normlab.__main__:Layer' is not a layer of normlab"),
        ({"norm": "normlab.models:ResNet"}, "'normlab.models:ResNet' is not a layer of normlab"),
        ({"norm": "gn:groups=1000000000"}, "an impossible model: groups must divide"),
        ({"norm": "gn:groups=a"}, "an impossible model"),
        ({"norm": "bn:eps"}, "an impossible model: cannot read 'eps'"),
        ({"norm": None}, "norm must be text"),
        ({"shortcut": ["A"]}, "shortcut must be 'A' or 'B'"),
        ({"in_channels": 10**9}, "in_channels must be a whole number from 1 to 1,024"),
        ({"in_channels": 3, "mean": [0.5] * 3, "std": [1] * 3}, r"in_channels = 3\. The weights h"),
        ({"image_size": 10**6}, "image_size must be a whole number from 8 to 1024"),
        ({"mean": [float("nan")]}, "NaN is not JSON"),
        ({"mean": [10**4000]}, "mean must be a list of 1 numbers"),
        ({"grey_range": [0, 10**4000]}, "grey_range must be two increasing numbers"),
        ({"mean": 0.5}, "mean must be a list of 1 numbers"),
        ({"std": [0]}, "std must be a list of 1 numbers of at least 1e-09"),
        ({"std": [1e-300]}, "std must be a list of 1 numbers of at least 1e-09"),
        ({"weights_sha256": 5}, "weights_sha256 must be 64 hexadecimal digits, got 5"),
        ({"classses": []}, r"unknown field 'classses' \(did you mean classes\?\)"),
        ({"format": "normlab model 2"}, "does not have the format 'normlab model 1'"),
    ],
)
def test_impossible_values(changed: dict[str, Any], message: str, folder: Path) -> None:
    _described(folder, **changed)
    _refused(folder, message)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", "[" * 100_000, '{"n": ' + "9" * 5000 + "}", "\0\xff"]
)
def test_a_model_json_that_is_something_else(text: str, folder: Path) -> None:
    (folder / MODEL).write_bytes(text.encode("latin-1"))
    _refused(folder, r"model\.json")


def test_a_missing_field_is_named(folder: Path) -> None:
    content = json.loads((folder / MODEL).read_text())
    del content["std"], content["n"]
    write_json(folder / MODEL, content)
    _refused(folder, r"model\.json lacks n, std")


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        del weights["fc.bias"]
        weights["extra"] = torch.zeros(1)
        weights["fc.weight"] = torch.zeros(5, 64)

    _weights(folder, change)
    _refused(
        folder,
        r"fc\.bias is missing; extra is unknown to the model; "
        r"fc\.weight is float32 \(5, 64\), but the model has float32 \(2, 64\)\.$",
    )


def test_many_that_do_not_fit_are_counted(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            if "conv2" in name or "norm2" in name:
                del weights[name]

    _weights(folder, change)
    _refused(folder, r"stages\.0\.0\.conv2\.weight is missing; .*; and 6 more\.$")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_another_type_is_not_converted_silently(dtype: torch.dtype, folder: Path) -> None:
    _weights(folder, lambda weights: weights.update({"fc.bias": torch.zeros(2, dtype=dtype)}))
    _refused(folder, rf"fc\.bias is {str(dtype)[6:]} \(2,\), but the model has float32 \(2,\)")


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_truncated_weights(kept: int, folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    _refused(folder, r"weights\.safetensors is damaged or was edited.*SHA-256 differs")
    _described(folder)
    _refused(folder, "is damaged or not a safetensors file")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{" * 100,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 60)
        + b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4]}} ' + bytes(4),
    ],
)  # fmt: skip
def test_a_header_that_lies(content: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(content)
    _described(folder)
    _refused(folder, "is damaged or not a safetensors file")


def test_missing_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    _refused(folder, r"weights\.safetensors does not exist")


def test_a_card_that_is_no_object(folder: Path) -> None:
    _described(folder, card=[1])
    with pytest.raises(InputError, match="card must be a JSON object"):
        load_card(folder)


def test_weights_that_mean_nothing_are_refused(folder: Path) -> None:
    _weights(folder, lambda weights: weights["fc.bias"].fill_(float("nan")))
    _refused(folder, r"impossible values\. Not finite in the model: fc\.bias\.")


def test_a_negative_variance_is_refused(tmp_path: Path) -> None:
    info = replace(INFO, norm="bn")
    save_model(tmp_path / "seed-0", info, info.build(seed=0).state_dict())
    _weights(tmp_path / "seed-0", lambda weights: weights["norm0.running_var"].fill_(-1.0))
    _refused(tmp_path / "seed-0", r"Negative variance: norm0\.running_var\.")


def test_a_thousand_blocks_without_weights_are_refused_before_they_are_built(folder: Path) -> None:
    def empty(weights: dict[str, torch.Tensor]) -> None:
        for stage in range(3):
            for block in range(1, 3000):
                weights[f"stages.{stage}.{block}.conv1.weight"] = torch.zeros(0)

    _weights(folder, empty)
    _described(folder, n=3000)
    _refused(folder, r"describes a network of 1,1\d\d,\d\d\d,\d\d\d bytes")


@pytest.mark.parametrize("name", [MODEL, WEIGHTS])
def test_a_pipe_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    _refused(folder, "is a pipe, not a file|does not contain a model")


def test_every_flipped_bit_is_found(folder: Path) -> None:
    draw = random.Random(0)
    for name in (MODEL, WEIGHTS):
        whole = (folder / name).read_bytes()
        for _ in range(100):
            at = draw.randrange(len(whole))
            flipped = bytes([whole[at] ^ (1 << draw.randrange(8))])
            (folder / name).write_bytes(whole[:at] + flipped + whole[at + 1 :])
            with pytest.raises(InputError):
                load_model(folder)
        (folder / name).write_bytes(whole)
    load_model(folder)


def test_a_model_without_checksums_is_loaded(folder: Path) -> None:
    _described(folder)
    load_model(folder)


def test_a_layer_that_cannot_be_imported_here_is_not_held_against_the_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _described(folder, norm="mislaid_layers:Simple")
    _refused(folder, r"names the layer mislaid_layers:Simple.*which is not here.*--trust")
    with pytest.raises(InputError, match=r"^mislaid_layers, .* cannot be imported here: .*PYTHONP"):
        load_model(folder, trust=True)
    # One that is found, and whose own import is not: another PYTHONPATH for it is no advice.
    (tmp_path / "found_layers.py").write_text("import mislaid_too\n")
    monkeypatch.syspath_prepend(tmp_path)
    _described(folder, norm="found_layers:Simple")
    _refused(folder, r"found_layers\.py.*--trust")
    with pytest.raises(InputError, match=r"^found_layers, .* imported here: .*'mislaid_too'\.$"):
        load_model(folder, trust=True)


MARKS = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
LAYER = MARKS + "from normlab.norms import GroupNorm2d as Layer\n"


def _ran(folder: Path) -> bool:
    return any(folder.rglob("*.ran"))


def test_what_lies_in_the_working_folder_is_not_imported_by_a_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path / "here", tmp_path / "there"):
        (place / "package").mkdir(parents=True)
        for name in ("stray.py", "package/__init__.py", "package/inner.py"):
            (place / name).write_text(LAYER)
    monkeypatch.chdir(tmp_path / "here")
    for norm in ("stray:Layer", "package.inner:Layer"):
        _described(folder, norm=norm)
        _refused(folder, rf"imports the module {norm[:-6]} \(.*here/.*\).*--trust")
        for card in ({}, {"origin": str(tmp_path / "there")}, {"origin": [1]}):
            _described(folder, card=card)
            with pytest.raises(InputError, match="is not taken from the working folder"):
                load_model(folder, trust=True)
    assert not _ran(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "here"))
    _described(folder, norm="stray:Layer", card={})
    load_model(folder, trust=True)
    assert _ran(tmp_path / "here")
    assert not _ran(tmp_path / "there")


def test_a_model_from_this_folder_finds_its_layer_here_if_it_is_trusted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nearby.py").write_text(LAYER)
    monkeypatch.chdir(tmp_path)
    _described(folder, norm="nearby:Layer", card={"origin": str(tmp_path)})
    _refused(folder, "--trust")
    assert not _ran(tmp_path)
    load_model(folder, trust=True)
    assert _ran(tmp_path)
