"""Where results cannot be written, that is said before the work and not after it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normlab.data import DataConfig, load
from normlab.errors import InputError
from normlab.runs import RunConfig
from normlab.training import train
from normlab.workflow import (
    check_data,
    compare,
    convert_run,
    explain,
    export,
    fold_run,
    freeze_run,
    predict,
    recalibrate_run,
    report,
    train_one,
)

Job = Callable[[Path, Path, Path], Any]
JOBS: dict[str, tuple[Job, str]] = {
    "compare": (lambda out, run, photos: compare(data=photos, out=out), "comparison.load"),
    "train": (lambda out, run, photos: train_one({"source": photos}, {}, out), "running.load"),
    "check-data": (lambda out, run, photos: check_data(photos, out=out), "checking.read_image_set"),
    "written split": (
        lambda out, run, photos: check_data(photos, out=out.parent / "new", write_split=out),
        "checking.read_image_set",
    ),
    "explain": (lambda out, run, photos: explain(run, out=out), "explanation._load"),
    "predict": (lambda out, run, photos: predict(run, photos, out), "prediction.write_with"),
    "export": (lambda out, run, photos: export(run, onnx=out), "exporting._own_images"),
    "recalibrate": (lambda out, run, photos: recalibrate_run(run, out), "after_training._images"),
    "freeze": (lambda out, run, photos: freeze_run(run, out), "after_training._as_arm"),
    "fold": (lambda out, run, photos: fold_run(run, out), "after_training._as_arm"),
    "convert": (lambda out, run, photos: convert_run(run, "torch_bn", out), "converting.own_data"),
    "report": (lambda out, run, photos: report(out), "reporting.write_report"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    data = load(DataConfig(limit_per_class=3))
    train(RunConfig(n=1, epochs=1), data, folder)
    return folder


@pytest.fixture(params=list(JOBS))
def job(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job whose work must not begin."""
    call, work = JOBS[request.param]

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(f"normlab.workflow.{work}", begun)
    monkeypatch.setattr("normlab.workflow.reporting.read_results", lambda study: None)
    return call


def test_a_place_that_cannot_be_is_named(job: Job, run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file/below.* is a file, not a folder"):
        job(tmp_path / "file/below", run, photos)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_without_permission_is_named(
    job: Job, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> tuple[int, str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(InputError, match=r"out cannot be written: permission denied"):
        job(tmp_path / "out", run, photos)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]
