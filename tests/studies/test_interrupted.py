"""A study that is stopped within a run and resumed with something changed: the options reach the
run, and the page says it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from normlab import compare, stopping
from normlab.cli import main
from normlab.errors import InputError
from normlab.results import read_results
from normlab.training import run

ASKED: dict[str, Any] = {
    "data": "digits", "arms": "bn,in", "seeds": 1, "n": 1, "epochs": 1, "limit_per_class": 8,
    "batch_size": 20, "workers": 1,
}  # fmt: skip


def _stopping_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, made = run.train_step, [0]

    def counted(*args: Any, **options: Any) -> Any:
        made[0] += 1
        if made[0] == step:
            stopping.request()
        return whole(*args, **options)

    monkeypatch.setattr(run, "train_step", counted)


def test_a_study_is_resumed_elsewhere_only_when_told_and_its_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study, here = tmp_path / "study", run.fingerprint
    with monkeypatch.context() as patched:
        _stopping_at(6, patched)  # the second update of the second run
        with pytest.raises(stopping.Stopped), stopping.handled():
            compare(**ASKED, out=study, checkpoint_minutes=1e6)
    monkeypatch.setattr(run, "fingerprint", lambda device: {**here(device), "numpy": "0.0"})
    words = ["compare", "--out", str(study)]
    words += [w for k, v in ASKED.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    assert main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "numpy (was" in said
    assert "--resume changed" in said
    with pytest.raises(InputError, match="resume must be one of same, changed, restart"):
        compare(**ASKED, out=study, resume="yes")

    assert main([*words, "--resume", "changed", "--checkpoint-minutes", "0.5"]) == 0
    (resumed,) = [one for one in read_results(study).runs if one.record.get("resumed")]
    assert (resumed.arm, resumed.record["resumed"][0]["step"]) == ("in", 2)
    expected = "in, seed 0, was interrupted and resumed at step 2 with something changed: numpy"
    assert expected in (study / "results.md").read_text() + (study / "report.html").read_text()


def test_a_single_run_takes_the_options_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--n", "1", "--epochs", "1", "--limit-per-class", "8", "--batch-size", "20"]
    words += ["--out", str(tmp_path / "run")]
    with monkeypatch.context() as patched:
        _stopping_at(3, patched)
        with stopping.handled():
            assert main([*words, "--checkpoint-minutes", "0"]) != 0
    names = sorted(p.name.partition("-")[0] for p in (tmp_path / "run/checkpoint").iterdir())
    assert names == ["2", "3"]
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    capsys.readouterr()
    assert main([*words[:-1], str(tmp_path / "whole")]) == 0
    assert "The run resumes at step 3." in " ".join(capsys.readouterr().out.split())
    (newest,) = (tmp_path / "run/checkpoint").glob("3-*")
    newest.write_bytes(newest.read_bytes()[:1000])
    capsys.readouterr()
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The last checkpoint was damaged. The run resumes from the one at step 2." in said
    assert main([*words, "--checkpoint-minutes", "-1"]) == 2
    assert "checkpoint_minutes must be >= 0, got -1" in capsys.readouterr().err
