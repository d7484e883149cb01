"""Looking at a trained model: what it says can be done with it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from normlab.cli import main
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
