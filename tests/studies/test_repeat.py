"""How to repeat it: the commands on the page reproduce the whole study in a fresh folder."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from normlab.cli import main
from normlab.runs.study_file import read_question

QUICK = ["--n", "1", "--epochs", "1", "--limit-per-class", "8", "--workers", "1"]


def _hashes(study: Path) -> dict[str, str]:
    return {
        str(path.relative_to(study)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(study.rglob("*"))
        if path.name in ("weights.safetensors", "results.csv", "comparisons.csv", "tuning.json")
    }


CALLS: dict[str, list[list[str]]] = {
    "one call": [["--arms", "bn,none", "--seeds", "2", "--lr", "0.05", "--flip"]],
    "arms and seeds joined": [
        ["--arms", "bn", "--seeds", "1"],
        ["--arms", "gn:groups=4,none", "--seeds", "2", "--margin", "2"],
    ],
    "another reference and title": [
        [
            "--arms",
            "bn,none",
            "--seeds",
            "2",
            "--reference",
            "none",
            "--title",
            "Mine: no BN",
            "--target",
            "62.5",
        ],
    ],
    "a grid in parts": [
        ["--arms", "bn,ln", "--batch-size", "8,16", "--seeds", "1"],
        ["--arms", "gn", "--batch-size", "16,", "--seeds", "1"],
    ],
    "a preset": [["depth", "--n", "1,2", "--seeds", "1"]],
    "looks, where an arm is decided before another, and then an arm": [
        ["--arms", "bn,torch_bn,in", "--until-decided", "--seeds", "4", "--margin", "4"],
        ["--arms", "ln", "--seeds", "3"],
    ],
    "tuned afterwards": [
        ["--arms", "bn,none", "--seeds", "1"],
        ["--arms", "bn,none", "--seeds", "1", "--tune", "lr=0.01,0.05", "--tune-seeds", "1"],
    ],
    "tuned and then more of everything": [
        ["--arms", "bn,none", "--seeds", "1", "--tune", "lr=0.01,0.05", "--tune-seeds", "1"],
        ["--arms", "bn,none,ln", "--seeds", "2"],
    ],
    "fractions": [["--arms", "bn", "--seeds", "1", "--test-fraction", "0.3", "--split-seed", "4"]],
    "an axis with none": [["--arms", "bn", "--seeds", "1", "--clip-norm", "none,1"]],
}


@pytest.mark.parametrize("name", list(CALLS))
def test_the_commands_reproduce_the_study(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for call in CALLS[name]:
        limits = QUICK[2:] if "--n" in call else QUICK
        assert main(["compare", *call, *limits, "--out", "made"]) == 0
    before = read_question(tmp_path / "made")
    for command in before["commands"]:
        words = shlex.split(command)
        assert words[:2] == ["normlab", "compare"]
        assert main([*words[1:], "--workers", "1"]) == 0
    assert _hashes(tmp_path / "repeated") == _hashes(tmp_path / "made")
    assert len(_hashes(tmp_path / "made")) >= 2
    after = read_question(tmp_path / "repeated")
    for key in ("arms", "seeds", "run", "varied", "title", "same_function", "tuning"):
        assert after[key] == before[key], key
    for key in ("reference", "margin", "looks"):
        assert after["verdict"][key] == before["verdict"][key]
    assert after["verdict"].get("target") == before["verdict"].get("target")


def test_a_clean_split_is_repeated_from_its_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = ["compare", "--data", str(photos), "--arms", "bn", "--seeds", "1", "--clean-split"]
    assert main([*call, "--n", "1", "--epochs", "1", "--workers", "1", "--out", "made"]) == 0
    (command,) = read_question(tmp_path / "made")["commands"]
    assert f"--split {tmp_path}/made/split.json" in command
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "another"))
    assert main([*shlex.split(command)[1:], "--workers", "1"]) == 0
    assert _hashes(tmp_path / "elsewhere/repeated") == _hashes(tmp_path / "made")


def test_a_file_of_ones_own_and_the_sanity_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(
        'title = "Does momentum matter?"\nseeds = 1\nchecks = ["same-function"]\n[run]\nn = 1\n'
        'epochs = 1\n[grid]\nnorm = ["torch_bn", "bn"]\nmomentum = [0.0, 0.9]\n'
    )
    call: Any = ["compare", "grid.toml", "--limit-per-class", "8", "--workers", "1"]
    assert main([*call, "--out", "made"]) == 0
    (tmp_path / "grid.toml").unlink()
    (command,) = read_question(tmp_path / "made")["commands"]
    assert main([*shlex.split(command)[1:], "--workers", "1"]) == 0
    assert _hashes(tmp_path / "repeated") == _hashes(tmp_path / "made")
    assert (tmp_path / "repeated/checks/same-function").is_dir()
