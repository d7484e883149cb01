"""Looking at a trained model: what it says can be done with it."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from normlab.cli import main
from normlab.models import load_info, load_model, save_model
from normlab.models.bundle import load_card
from normlab.workflow import inspect


def test_the_command_makes_the_run_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the photos are elsewhere
    settings = ["--n", "1", "--epochs", "1", "--lr", "0.05", "--clip-norm", "none,1", "--flip"]
    made = ["compare", "--data", str(photos), "--arms", "gn:groups=4", "--seeds", "2", *settings]
    assert main([*made, "--workers", "1", "--out", "study"]) == 0
    run = tmp_path / "study/runs/gn,groups=4,clip_norm=1.0/seed-1"
    words = shlex.split(inspect(run).command)
    assert words[:2] == ["normlab", "train"]
    assert main([*words[1:], "--out", "again"]) == 0
    weights = "weights.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (run / weights).read_bytes()
    # A model that was handed on knows the name of its data, not where they are.
    handed = tmp_path / "handed"
    handed.mkdir()
    for name in ("model.json", weights):
        shutil.copy(run / name, handed)
    assert f"--data {photos.name} " in inspect(handed).command
    assert str(photos) not in inspect(handed).command


@pytest.mark.parametrize(
    ("arm", "elsewhere"),
    [
        ("lrn:size=3", {"relu": "ReLULocalResponseNorm2d(16, size=3, "}),
        ("ws:weight_eps=1e-3", {"conv": "HeStandardizedConv2d(weight_eps=0.001)"}),
        ("ibn_b", {"stages.0.0.after_sum": "InstanceNorm2d(16, "}),
        ("evonorm_s0", {"stages.0.0.relu1": "Identity()"}),
    ],
)
def test_a_method_that_is_more_than_its_layers_is_told_whole(
    arm: str, elsewhere: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = ["--n", "1", "--epochs", "1", "--limit-per-class", "4", "--out", str(run)]
    assert main(["train", "--norm", arm, *settings]) == 0
    capsys.readouterr()
    assert main(["inspect", str(run)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    record = json.loads((run / "run.json").read_text())
    parts = {part["name"]: part["layer"] for part in record["parts"]}
    assert load_card(run)["parts"] == record["parts"]
    for place, layer in elsewhere.items():
        assert parts[place].startswith(layer)
        assert f"{place} │ 16 │ {layer}" in shown
    assert f"All 7 sites and {len(parts)} other place" in shown
    assert "sites carry" not in shown


def test_what_looks_wrong_is_told_and_only_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = ["--n", "1", "--epochs", "1", "--limit-per-class", "4", "--out", str(run)]
    assert main(["train", "--norm", "gn:groups=16", *settings]) == 0
    capsys.readouterr()
    assert main(["inspect", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "What to look at:\n- 3 group norms have as many groups as channels: norm0, " in shown
    model = load_model(run)
    state = model.state_dict()
    state["stages.0.0.norm1.weight"][:2] = 0
    save_model(tmp_path / "scaled", load_info(run), state, load_card(run))
    kinds = [one.kind for one in inspect(tmp_path / "scaled").concerns]
    assert kinds == ["zero weights", "groups of one"]
    assert main(["train", "--norm", "gn:groups=4", *settings[:-1], str(tmp_path / "other")]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "other")]) == 0
    assert "What to look at" not in capsys.readouterr().out
