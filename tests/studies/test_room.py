"""A disk without room is said before anything begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from normlab import compare
from normlab.data import DataConfig, load
from normlab.errors import InputError
from normlab.runs import RunConfig
from normlab.studies import check_room, room
from normlab.training import Keeping, run, train
from normlab.workflow import train_one

SMALL: dict[str, Any] = {"n": 1, "epochs": 1, "batch_size": 20}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_estimate_is_what_a_run_takes(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its most: just before its checkpoints go, as they are when one more is written."""
    monkeypatch.setattr(run, "REPORT_SECONDS", 0.0)
    data = load(DataConfig(limit_per_class=8))
    config = RunConfig(**{**SMALL, "optimizer": optimizer})
    most = [0]

    def measure(_: run.Progress) -> None:
        sizes = [path.stat().st_size for path in (tmp_path / "checkpoint").glob("*.safetensors")]
        most[0] = max(most[0], sum(sizes))

    train(config, data, tmp_path, measure, keeping=Keeping(checkpoint_minutes=0))
    left = sum(path.stat().st_size for path in tmp_path.iterdir())
    kept, under_way = room.bytes_of_run(config, data)
    assert left == pytest.approx(kept, rel=0.2)
    # Before the first validation nothing is chosen, so these two have a third or a quarter less.
    assert most[0] * 3 / 2 < under_way * 1.1
    assert under_way < 3 * most[0]


def test_more_runs_and_workers_need_more(tmp_path: Path) -> None:
    data = load(DataConfig(limit_per_class=8))
    configs = [RunConfig(**SMALL, seed=seed) for seed in range(4)]
    kept, under_way = room.bytes_of_run(configs[0], data)
    assert check_room(tmp_path / "new" / "folder", configs, data) == 4 * kept + under_way
    assert check_room(tmp_path, configs, data, workers=2) == 4 * kept + 2 * under_way
    assert not (tmp_path / "new").exists()


def test_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    asked: dict[str, Any] = {"data": "digits", "limit_per_class": 4, "epochs": 1}
    with pytest.raises(InputError, match=r"needs about .* MB of disk .* 2\.0 MB are free there"):
        compare("norms", arms="bn,in", seeds=3, out=tmp_path / "study", **asked)
    compare("norms", arms="bn,in", seeds=3, out=tmp_path / "study", dry_run=True, **asked)
    with pytest.raises(InputError, match=r"needs about .* MB of disk"):
        train_one({"limit_per_class": 4}, {"n": 9, "epochs": 1}, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
