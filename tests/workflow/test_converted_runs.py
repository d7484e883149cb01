"""The model of a run with another normalization."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from normlab import InputError, load_model
from normlab.cli import main
from normlab.data import DataConfig, load
from normlab.models import load_card, load_info
from normlab.runs import RunConfig
from normlab.training import train
from normlab.workflow import convert_run, inspect


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(RunConfig(n=1, epochs=1, norm="bn"), load(DataConfig(limit_per_class=6)), folder)
    return folder


def test_the_command_writes_a_model(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gn"
    assert main(["convert", str(run), "--to", "gn:groups=8", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"Approximate\. On \d+ images", said)
    found = inspect(out)
    assert found.norm == "gn:groups=8"
    assert {site.layer for site in found.sites} == {"GroupNorm2d"}
    # What was measured on the other model is not said of this one.
    card = load_card(out)
    assert not {"metrics", "command", "chosen_epoch"} & card.keys()
    assert card["converted"] == {"from": "bn", "how": "distilled"}
    rows = tmp_path / "rows.csv"
    assert main(["predict", str(out), str(photos), "--output", str(rows)]) == 0
    assert len(rows.read_text().splitlines()) == 49


@pytest.mark.parametrize("to", ["frozen_bn", "none"])
def test_an_exact_conversion_answers_as_the_run(run: Path, tmp_path: Path, to: str) -> None:
    made = convert_run(run, to, tmp_path / "made")
    assert made.exact
    assert load_info(tmp_path / "made").norm == to
    x = torch.randn(4, 1, 8, 8)
    expected, found = load_model(run)(x), load_model(tmp_path / "made")(x)
    torch.testing.assert_close(found, expected)


def test_what_cannot_be_converted_is_said_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for to, said in (
        ("gn:groups=5", r"norm0 \(16 channels\)"),
        ("frn_tlu", "puts more than a layer"),
        ("layers:Mine", "not part of normlab"),
        ("gn:groups", "cannot read"),
        ("bn", "already"),
    ):
        with pytest.raises(InputError, match=said):
            convert_run(run, to, out, how="matched")
    handed = tmp_path / "handed"
    handed.mkdir()
    for name in ("model.json", "weights.safetensors"):
        shutil.copy(run / name, handed)
    with pytest.raises(InputError, match="--data"):
        convert_run(handed, "gn", out)
    assert not out.exists() or not list(out.iterdir())
    with pytest.raises(InputError, match=r"has a model\.json already"):
        convert_run(run, "gn", handed)
    assert convert_run(handed, "gn", out, data="digits", how="matched").images == 64
    assert load_card(out)["converted"]["how"] == "matched"
