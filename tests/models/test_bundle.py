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

from normlab.cli import main
from normlab.errors import InputError
from normlab.files import write_json
from normlab.models import ModelInfo, load_card, load_info, load_model, packed, save_model
from normlab.models.shapes import Kind, state_parts
from normlab.models.weights import WeightsFile
from normlab.norms import CATALOG
from normlab.runs import MODEL, WEIGHTS
from normlab.seals import digest_of
from normlab.workflow import inspect

HERE = Path(__file__).stem
INFO = ModelInfo(1, ("cat", "dog"), "gn:groups=4", "B", 1, 16, (0.5,), (0.25,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "seed-0", INFO, INFO.build(seed=3).state_dict())
    return tmp_path / "seed-0"


def _described(folder: Path, **changed: Any) -> None:
    path = folder / MODEL
    content = {**json.loads(path.read_text()), **changed}
    content.pop("sha256", None)
    path.write_text(json.dumps(content))


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    change(weights)
    safetensors.torch.save_file(weights, folder / WEIGHTS)
    _sealed(folder, files={WEIGHTS: digest_of(folder / WEIGHTS)})


def _sealed(folder: Path, **changed: Any) -> None:
    """As whoever makes a bundle on purpose would write it."""
    write_json(folder / MODEL, {**json.loads((folder / MODEL).read_text()), **changed})


def _refused(folder: Path, message: str, *, trust: bool = False) -> None:
    """In one line that is short enough to read."""
    with pytest.raises(InputError, match=message) as refused:
        load_model(folder, trust=trust)
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
        ({"n": -1}, "n must be a whole number of at least 1, got -1"),
        ({"n": True}, "n must be a whole number"),
        ({"n": "1"}, "n must be a whole number"),
        ({"n": 10**9}, r"says n = 1000000000\. The weights have 1"),
        ({"classes": "cat"}, "classes must be a list of at least two names, got 'cat'"),
        ({"classes": ["cat"]}, "classes must be a list of at least two names"),
        ({"classes": ["cat", 2]}, "classes must be a list of at least two names"),
        ({"norm": "batchnorm"}, "an impossible model: unknown normalization 'batchnorm'"),
        ({"norm": "gn:groups=5"}, "an impossible model: groups must divide"),
        ({"norm": "torch.nn:Linear9"}, r"the layer torch.nn:Linear9, which is not part of normlab"),
        ({"norm": "normlab.cli:App"}, r"impossible model: 'normlab.cli' has no layer 'App'"),
        ({"norm": "normlab.__main__:x"}, r"impossible model: 'normlab.__main__' has no layer 'x'"),
        ({"norm": "bn:eps=1e999"}, "an impossible model: eps must be a number"),
        ({"norm": "torch_bn:eps=a"}, "an impossible model: eps of torch_bn must be a number"),
        ({"norm": "bn" + 10_000 * "x"}, "norm must be text"),
        ({"norm": None}, "norm must be text"),
        ({"shortcut": ["A"]}, "shortcut must be 'A' or 'B'"),
        ({"in_channels": 10**9}, "in_channels must be a whole number from 1 to 1024"),
        ({"in_channels": 3, "mean": [0.5] * 3, "std": [1] * 3}, r"in_channels = 3\. The weights h"),
        ({"image_size": 10**6}, "image_size must be a whole number from 8 to 1024"),
        ({"mean": [float("nan")]}, r"model\.json is damaged .*: it cannot be read: NaN is not"),
        ({"mean": 0.5}, "mean must be a list of 1 numbers"),
        ({"mean": [10**4000]}, "mean must be a list of 1 numbers"),
        ({"mean": [1e300]}, r"mean must be from -1e\+06 to 1e\+06"),
        ({"std": [0]}, "std must be a list of 1 numbers above 0"),
        ({"std": [1e-300]}, "std must be from 1e-20 to 1e"),
        ({"std": [1e300]}, "std must be from 1e-20 to 1e"),
        ({"n": 10**4000}, r"says n = 10000000000000000000\. The weights have 1"),
        ({"classes": ["cat", "cat"]}, "classes must be different names"),
        ({"classes": ["cat", ""]}, "classes must be a list of at least two names"),
        ({"classes": ["cat", 10_001 * "x"]}, "classes must be a list of at least two names"),
        ({"classes": [str(i) for i in range(100_001)]}, "classes must be a list of at least two"),
        ({"grey_range": [-1e308, 1e308]}, "grey_range must be two increasing numbers"),
        ({"float_range": [0, 1e-310]}, "float_range must be two increasing numbers"),
        (
            {"norm": "os:system"},
            r"import os.* It is a part of Python, which has nothing of the kind\.",
        ),
        ({"grey_range": [0, 10**4000]}, "grey_range must be two increasing numbers"),
        ({"files": []}, "files must have the SHA-256 of weights.safetensors"),
        ({"files": {"weights.safetensors": "../x"}}, "files must have the SHA-256"),
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
        r"fc\.weight is float32 \(5, 64\), but the model has float32 \(2, 64\); "
        r"fc\.bias is missing; extra is unknown to the model\.$",
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
    _refused(folder, "is damaged or not a safetensors file")


def test_missing_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    _refused(folder, r"weights\.safetensors does not exist")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(value: float, folder: Path) -> None:
    _weights(folder, lambda weights: weights["fc.bias"].fill_(value))
    _refused(folder, r"no model that could answer\. Not finite in the model: fc\.bias\.")


def test_a_variance_below_0_is_refused(folder: Path) -> None:
    info = replace(INFO, norm="bn")
    state = info.build(seed=0).state_dict()
    state["norm0.running_var"][3] = -1e-3
    save_model(folder, info, state)
    _refused(folder, r"Variances below 0 in the model: norm0\.running_var\.")


def test_a_layer_that_cannot_be_imported_here_is_not_held_against_the_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _described(folder, norm="mislaid_layers:Simple")
    said = r"^mislaid_layers, .* cannot be imported here: .* Set PYTHONPATH to the folder it is in"
    _refused(folder, said, trust=True)
    # One that is found, and whose own import is not: another PYTHONPATH for it is no advice.
    (tmp_path / "found_layers.py").write_text("import mislaid_too\n")
    monkeypatch.syspath_prepend(tmp_path)
    _described(folder, norm="found_layers:Simple")
    said = r"^found_layers, .* cannot be imported here: .*'mislaid_too'\.$"
    _refused(folder, said, trust=True)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ([1], "card must be a JSON object"),
        ({"data": []}, "data of card must be an object"),
        ({"data": {"images": {"val": "many"}}}, "data of card must be an object"),
        ({"metrics": {"val": {"accuracy": "nan"}}}, "metrics of card must be splits"),
        ({"metrics": {"val": {"accuracy": 5}}}, "metrics of card must be splits"),
        ({"metrics": ["val"]}, "metrics of card must be splits"),
        ({"seed": "0"}, "seed of card must be a whole number"),
        ({"sites": [["norm0", "bn"]]}, "sites of card must be a list of sites"),
        ({"code": {"mine.py": 3}}, "code of card must be file names"),
        ({"origin": ["/"]}, "origin of card must be a folder"),
        ({"chosen_epoch": True}, "chosen_epoch of card must be a whole number or null"),
        ({"command": "rm -rf /"}, "command of card must be a command of normlab train"),
        ({"command": "normlab train --out /home"}, "command of card must be a command of"),
        ({"command": "normlab train 'open"}, "command of card must be a command of"),
    ],
)
def test_a_card_with_something_else(card: Any, message: str, folder: Path) -> None:
    """It is printed, and its command is run by people."""
    _described(folder, card=card)
    _refused(folder, message)
    with pytest.raises(InputError, match=message):
        load_card(folder)


def test_a_card_that_could_not_be_read_is_not_written(folder: Path) -> None:
    with pytest.raises(InputError, match="seed of card must be"):
        save_model(folder, INFO, INFO.build(seed=4).state_dict(), {"seed": "first"})
    assert torch.equal(load_model(folder).fc.weight, INFO.build(seed=3).fc.weight)


@pytest.mark.parametrize("name", [MODEL, WEIGHTS])
def test_what_is_no_file_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    _refused(folder, rf"{name} is a pipe, not a file")
    (folder / name).unlink()
    (folder / name).mkdir()
    _refused(folder, rf"{name} is a folder, not a file")


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    _refused(tmp_path / "x", "is a file, not the folder of a run")


@pytest.mark.parametrize("norm", [*CATALOG, "gn:groups=4", "bn:affine=false", f"{HERE}:Kept"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_parts_of_a_network_are_known_without_it(norm: str, shortcut: Any) -> None:
    info = replace(INFO, n=2, norm=norm, shortcut=shortcut)
    state = info.build(seed=0).state_dict()
    expected = {name: Kind.of(tensor) for name, tensor in packed(state).items()}
    parts = {part.name: part.kind for part in state_parts(info)}
    assert set(parts) == set(expected)
    assert {name: kind for name, kind in parts.items() if kind is not None} == {
        name: kind for name, kind in expected.items() if "extra" not in name
    }


class Kept(torch.nn.Module):
    """Gives more than tensors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inside = torch.nn.Conv2d(channels, channels, 1)

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x)  # type: ignore[no-any-return]


def _header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


def _forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("a network was built, or weights were read")


def test_nothing_is_made_of_sizes_that_do_not_agree(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer of 64 TB, 3,000 blocks of nothing, a depth that only model.json has."""
    monkeypatch.setattr(ModelInfo, "build", _forbidden)
    monkeypatch.setattr(WeightsFile, "read", _forbidden)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    first = {"dtype": "F32", "shape": [0, 1, 3, 3], "data_offsets": [0, 0]}
    huge = {"dtype": "F32", "shape": [1 << 44], "data_offsets": [0, 1 << 46]}
    blocks = {f"stages.0.{block}.x": empty for block in range(3000)}
    for entries, n, message in (
        ({"conv.weight": first, "fc.weight": huge}, 1, "header describes 70,368,744,177,664 bytes"),
        ({"conv.weight": first, **blocks}, 3000, r"do not fit model.json: .* and 998 more\.$"),
        ({"conv.weight": first, "fc.weight": {**empty, "shape": 1}}, 1, "the sizes of 'fc.weight'"),
        ({"conv.weight": first, "x": {**empty, "dtype": ["F32"]}}, 1, "a type that is not read"),
        ({"conv.weight": first, "x": {**empty, "data_offsets": [8, 8]}}, 1, "leave gaps"),
        ({"conv.weight": first, "x": 3}, 1, "no description of 'x'"),
        ({"conv.weight": first, "x" * (4 << 20): empty}, 1, "header is incomplete or too long"),
        ({"conv.weight": first, "stages.0.0.a\nb" + 500 * "x": empty}, 1, "conv.weight is float32"),
    ):
        (folder / WEIGHTS).write_bytes(_header(entries))
        _sealed(folder, n=n, files={WEIGHTS: digest_of(folder / WEIGHTS)})
        _refused(folder, message)


def test_weights_are_read_and_not_mapped(folder: Path) -> None:
    """A file that shrinks while it is mapped ends the process."""
    model = load_model(folder)
    before = model.fc.weight.clone()
    with (folder / WEIGHTS).open("r+b") as opened:
        opened.truncate(100)
    assert torch.equal(model.fc.weight, before)


def test_every_flipped_bit_is_found(folder: Path) -> None:
    generator = random.Random(0)
    for name in (MODEL, WEIGHTS):
        path = folder / name
        good = path.read_bytes()
        places = [*range(16), *range(len(good) - 80, len(good))] if name == MODEL else [*range(16)]
        bits = [8 * place + generator.randrange(8) for place in places]
        bits += [generator.randrange(8 * len(good)) for _ in range(100)]
        for bit in bits:
            flipped = bytearray(good)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(InputError):
                load_model(folder)
        path.write_bytes(good)
    assert load_info(folder) == INFO


def test_damage_says_which_file_and_what_to_do(folder: Path) -> None:
    path = folder / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _refused(folder, r"weights\.safetensors is damaged or was edited.*Copy the whole folder again")


def test_a_bundle_of_before_has_no_checksum_and_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(folder)]) == 0
    assert "checksum" not in capsys.readouterr().out
    content = json.loads((folder / MODEL).read_text())
    del content["sha256"], content["files"]
    (folder / MODEL).write_text(json.dumps(content))
    assert torch.equal(load_model(folder).fc.weight, INFO.build(seed=3).fc.weight)
    assert main(["inspect", str(folder)]) == 0
    assert "This model has no checksum" in capsys.readouterr().out


_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 40, 10**400, 1.5, 1e300, "", "x", "gn:groups=1000000000", "\0", [], {},
    [[]], [None, None], ["a", "a"], {"a": {"b": []}}, [1e300, -1e300], 48 * "[",
)  # fmt: skip


def test_whatever_a_field_is_it_is_refused_in_a_line(folder: Path) -> None:
    """Or it is a value that the field can have."""
    good = json.loads((folder / MODEL).read_text())
    card = {
        "arm": "gn", "seed": 0, "layers": 8, "parameters": 9, "sites": [], "code": {}, "origin": "",
        "data": {}, "metrics": {"val": {"accuracy": 1.0}}, "metrics_note": "", "chosen_epoch": 1,
        "command": "normlab train", "versions": {},
    }  # fmt: skip
    changed = [{**good, name: odd} for name in good for odd in _ODD]
    changed += [{**good, "card": {**card, name: odd}} for name in card for odd in _ODD]
    refused = []
    for content in changed:
        write_json(folder / MODEL, content)
        try:
            inspect(folder)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > len(changed) // 2
    assert not [said for said in refused if "\n" in said or len(said) > 600]


def test_a_sealed_model_lists_its_weights(folder: Path) -> None:
    content = json.loads((folder / MODEL).read_text())
    write_json(folder / MODEL, {**content, "files": {}})
    _refused(folder, r"model\.json does not have the SHA-256 of weights\.safetensors\.")
