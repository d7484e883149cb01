"""A new model beside a run: recalibrated, frozen or folded, and the run as it was."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import normlab
from normlab.cli import main
from normlab.models import ResNet, load_card, load_info, save_model
from normlab.seals import digest

_IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that differ in brightness, with all splits."""
    root = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3), ("test", 6)):
        for label, name in enumerate(("ash", "birch", "cedar")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (16, 16, 3)) + 40 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "seed-3"
    settings = ["--norm", "bn", "--n", "1", "--epochs", "2", "--seed", "3", "--batch-size", "8"]
    made = ["train", "--data", str(photos), "--image-size", "16", *settings, "--out", str(folder)]
    assert main(made) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = normlab.load_model(folder).double()(_IMAGES)
    return found


def predicted(folder: Path, photos: Path, output: Path) -> list[tuple[str, float]]:
    assert main(["predict", str(folder), str(photos / "test"), "--output", str(output)]) == 0
    with output.open(newline="") as opened:
        return [(row["class"], float(row["probability"])) for row in csv.DictReader(opened)]


@pytest.mark.parametrize(("verb", "norm"), [("freeze", "frozen_bn"), ("fold", "none")])
def test_the_same_function_as_another_arm(
    run: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    norm: str,
) -> None:
    before, new = contents(run), tmp_path / "new"
    assert main([verb, str(run), "--out", str(new)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("times as fast" in said) == (verb == "fold")
    assert contents(run) == before
    assert load_info(new).norm == norm
    scale = max(1.0, float(logits(run).abs().max()))
    # 32 bits of new weights; freezing changes no bit.
    assert float((logits(run) - logits(new)).abs().max()) <= (1e-5 * scale if norm == "none" else 0)
    a, b = (predicted(f, photos, tmp_path / "p.csv") for f in (run, new))
    assert [name for name, _ in a] == [name for name, _ in b]
    assert [p for _, p in b] == pytest.approx([p for _, p in a], abs=1e-5)
    card: dict[str, Any] = load_card(new)
    assert card["arm"] == norm
    assert {site["layer"].partition("(")[0] for site in card["sites"]} == {
        "NoNorm2d" if norm == "none" else "FrozenBatchNorm2d"
    }
    assert not {"metrics", "command", "chosen_epoch"} & set(card), "it is not what the run made"
    assert "bn, seed 3" in card["changes"][-1]
    assert digest((run / "weights.safetensors").read_bytes()) in card["changes"][-1]
    assert str(run) not in json.dumps(card)
    assert main(["inspect", str(new)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert card["changes"][0] in shown
    assert f"carry {norm}" in shown


def test_recalibrated_statistics_bring_accuracy_back(
    run: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, spoiled, new = normlab.load_model(run), tmp_path / "spoiled", tmp_path / "new"
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.add_(50.0)
    save_model(spoiled, load_info(run), model.state_dict(), load_card(run))
    words = ["recalibrate", str(spoiled), "--out", str(new), "--batch-size", "18"]
    assert main(words) == 2
    assert "does not say which data" in capsys.readouterr().err
    assert not new.exists()
    assert main([*words, "--data", str(photos)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "statistics of 36 training images" in said

    def right(folder: Path) -> float:
        found = [name for name, _ in predicted(folder, photos, tmp_path / "p.csv")]
        truth = [name for name in load_info(folder).classes for _ in range(6)]
        return sum(a == b for a, b in zip(found, truth, strict=True)) / len(truth)

    assert right(new) >= right(run) - 0.1
    assert right(new) > right(spoiled) + 0.2
    weights = [dict(normlab.load_model(f).named_parameters()) for f in (run, new)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    # A run knows its data; and what is done to the new model in turn is added.
    again, last = tmp_path / "again", tmp_path / "last"
    assert main(["recalibrate", str(run), "--out", str(again), "--batch-size", "18"]) == 0
    assert torch.equal(logits(again), logits(new))
    assert main(["fold", str(new), "--out", str(last), "--passes", "1"]) == 0
    begins = [change.split()[0] for change in load_card(last)["changes"]]
    assert begins == ["Recalibrated:", "Validation", "Made", "Folded:", "Made"]
    gallery = tmp_path / "gallery"
    shown = ["explain", str(last), "--out", str(gallery), "--right", "1", "--wrong", "0"]
    assert main(shown) == 2
    assert "Give them with --data" in capsys.readouterr().err
    assert main([*shown, "--data", str(photos)]) == 0
    assert list(gallery.glob("*.html"))


@pytest.mark.parametrize(
    ("norm", "left"),
    [("gn+ws:groups=4:eps=0.001:weight_eps=0.01", "gn:groups=4:eps=0.001"), ("ws", "none"),
     ("extended_bn:eps=0.01", "none")],
)  # fmt: skip
def test_what_folding_leaves_of_other_arms(norm: str, left: str, run: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "a", _info(run, norm), ResNet(1, 3, norm, seed=0).state_dict())
    assert main(["fold", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--passes", "1"]) == 0
    assert load_info(tmp_path / "b").norm == left
    torch.testing.assert_close(logits(tmp_path / "a"), logits(tmp_path / "b"), rtol=1e-4, atol=1e-4)


def _info(run: Path, norm: str) -> Any:
    from dataclasses import replace

    return replace(load_info(run), norm=norm)


def test_refusals(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, there = tmp_path / "gn", tmp_path / "there"
    save_model(other, _info(run, "gn"), ResNet(1, 3, "gn", seed=0).state_dict())
    save_model(tmp_path / "ibn", _info(run, "ibn_a"), ResNet(1, 3, "ibn_a", seed=0).state_dict())
    there.mkdir()
    before, nowhere = contents(run), tmp_path / "nowhere"
    for words, said in (
        (["freeze", other, "--out", nowhere], "no batch normalization"),
        (["fold", other, "--out", nowhere], "nothing to fold"),
        (["recalibrate", other, "--out", nowhere, "--data", photos], "no layer with running"),
        (["fold", tmp_path / "ibn", "--out", nowhere], "no arm is"),
        (["freeze", run, "--out", there], "exists already"),
        (["fold", run, "--out", run / "folded"], "would be inside"),
        (["recalibrate", run, "--out", nowhere, "--batch-size", "0"], "batch_size"),
        (["fold", run, "--out", nowhere, "--passes", "0"], "passes"),
        (["freeze", there, "--out", nowhere], "model.json"),
    ):
        assert main([str(word) for word in words]) == 2, words
        assert said in " ".join(capsys.readouterr().err.split()), words
        assert not nowhere.exists()
    assert not list(there.iterdir())
    assert contents(run) == before
