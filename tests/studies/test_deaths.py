"""Workers and whole commands that are killed: nothing is lost, and the bits are the same."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import normlab
from normlab.data import load
from normlab.errors import InputError
from normlab.locks import alone_in
from normlab.processes import pool
from normlab.report import write_report
from normlab.results import read_results
from normlab.studies import Reporter, Request, carry_out, make_plan, prepare_study
from watchers import KeepingWatcher

POSIX = pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals as POSIX has them")
TINY_SETTINGS = {"limit_per_class": 8, "n": 1, "image_size": 8, "epochs": 3, "kernels": "torch"}
TINY = {"data": "digits", **TINY_SETTINGS}


ARMS = "bn,none,in,ln"


def _made(
    out: Path, arms: str = ARMS, *, workers: int = 1, reporter: Reporter | None = None
) -> int:
    """Make the runs of a study, as compare does, without a report; returns how many there were."""
    asked = Request.of("norms", TINY["data"], arms=arms, seeds=1, **TINY_SETTINGS)
    plan = make_plan(replace(asked, settings={**asked.settings, "device": "cpu"}))
    data = load(plan.data)
    study = prepare_study(out, plan, data)
    study.write()
    return carry_out(study, data, workers, reporter)


def _bits(study: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(study)): path.read_bytes()
        for name in ("weights.safetensors", "predictions.npz")
        for path in study.glob(f"runs/*/*/{name}")
    }


def _until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    study = tmp_path_factory.mktemp("undisturbed") / "s"
    _made(study)
    return _bits(study)


def _of(bits: dict[str, bytes], *arms: str) -> dict[str, bytes]:
    return {name: content for name, content in bits.items() if name.split("/")[1] in arms}


def _killed(monkeypatch: pytest.MonkeyPatch, job: int, times: int) -> None:
    """Kill the process of a job when it first tells how far it is, so many times."""
    plain = pool._Work._after
    killed: list[int] = []

    def after(self: Any, process: Any, message: tuple[Any, ...]) -> Any:
        pid = process.process.pid
        if message[0] == "note" and process.job == job and len(killed) < times:
            if pid not in killed:
                killed.append(pid)
                process.kill()
            return None
        return plain(self, process, message)

    monkeypatch.setattr(pool._Work, "_after", after)


@POSIX
def test_a_run_whose_worker_is_killed_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    _killed(monkeypatch, job=1, times=1)
    watcher = KeepingWatcher()
    assert _made(tmp_path / "s", "bn,none", workers=2, reporter=watcher) == 2
    assert _bits(tmp_path / "s") == _of(undisturbed, "bn", "none")
    assert watcher.ended == {"bn": "complete", "none": "complete"}
    assert len(watcher.warnings) == 1
    assert watcher.warnings[0].startswith("The process of none seed 0 was killed by SIGKILL (")
    assert watcher.warnings[0].endswith("It is tried again from its last checkpoint.")


@POSIX
def test_a_run_that_dies_three_times_is_shown_as_failed_and_can_be_made_later(
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = tmp_path / "s"
    with monkeypatch.context() as patch:
        _killed(patch, job=1, times=3)
        made = normlab.compare(arms="bn,none", out=study, seeds=1, workers=2, **TINY)
    (run,) = made.results.of_arm("none")
    assert run.status.startswith("failed: killed by SIGKILL three times (")
    assert made.failed == (f"none seed 0 {run.status}",)
    assert (run.ended, run.complete, run.lost) == (True, False, True)
    with (study / "results.csv").open() as opened:
        rows = [row for row in csv.DictReader(opened) if row["arm"] == "none"]
    assert {(row["accuracy"], row["status"]) for row in rows} == {("", run.status)}
    page = (study / "report.html").read_text()
    for text in (str(made), page):
        assert "seed 0 failed: killed by SIGKILL three times" in text
    assert "none failed in its only run, so there is no accuracy to compare." in page
    assert "diverged" not in (study / "results.md").read_text()
    from normlab.cli import main

    assert main(["predict", str(run.folder), "x.png", "--output", "o.csv"]) == 2
    assert "failed: killed by SIGKILL three times" in capsys.readouterr().err
    # A failure is no result, so the same command makes the run.
    assert _made(study, "bn,none") == 1
    assert _bits(study) == _of(undisturbed, "bn", "none")


def test_an_error_in_one_run_leaves_the_others_and_names_run_and_cause(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from normlab.studies import runner

    plain = runner.train
    errors: dict[str, Exception] = {}

    def train(config: Any, *rest: Any, **more: Any) -> Any:
        if config.norm in errors:
            raise errors[config.norm]
        return plain(config, *rest, **more)

    monkeypatch.setattr(runner, "train", train)
    study = tmp_path / "s"
    errors["bn"] = OSError(5, "Input/output error", "/data/a.png")
    with pytest.raises(InputError, match=r"^bn seed 0 failed: /data/a.png: Input/output error\.$"):
        _made(study, "bn,none")
    assert json.loads((study / "runs/none/seed-0/run.json").read_text())["status"] == "complete"
    errors["bn"] = MemoryError()
    with pytest.raises(InputError, match=r"^bn seed 0 ran out of memory\."):
        _made(study, "bn,none")
    errors["bn"] = ZeroDivisionError("of nothing")
    with pytest.raises(InputError, match=r"bn seed 0 failed: ZeroDivisionError.*error\.log has"):
        _made(study, "bn,none")
    log = study / "runs/bn/seed-0/error.log"
    assert "Traceback" in log.read_text()
    del errors["bn"]
    assert _made(study, "bn,none") == 1
    assert not log.exists()
    assert _bits(study) == _of(undisturbed, "bn", "none")


def _started(study: Path, arms: str, workers: int = 2) -> subprocess.Popen[str]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "normlab", "compare", "--arms", arms, "--seeds", "1",
         "--workers", str(workers), "--out", str(study), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip


def _members(group: int) -> list[int]:
    """The processes of a group that are there and no zombies."""
    said = subprocess.run(
        ["ps", "-e", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
    )
    found = [line.split() for line in said.stdout.splitlines()]
    return [int(pid) for pid, pgid, state in found if int(pgid) == group and state[0] != "Z"]


@POSIX
def test_a_command_that_is_stopped_or_killed_leaves_no_process_and_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    study = tmp_path / "s"
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        process = _started(study, ARMS)
        try:
            _until(lambda group=process.pid: len(_members(group)) == 3)
            if number == signal.SIGKILL:
                process.kill()
            else:  # as a batch system does
                os.killpg(process.pid, number)
            _, errors = process.communicate(timeout=60)
            assert "Traceback" not in errors
            assert process.returncode == status, errors
            _until(lambda group=process.pid: not _members(group), 5.0)
        finally:
            _end(process)
    with alone_in(study):
        assert _made(study) > 0
    assert _bits(study) == undisturbed
    left = [path for path in study.rglob(".*") if path.name.endswith((".part", ".lock"))]
    assert left == []


def test_two_comparisons_in_one_folder_share_it(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normlab.workflow.comparison.write_report", lambda results: None)
    study = tmp_path / "s"
    other = _started(study, "bn", workers=1)
    try:
        _until(lambda: (study / ".normlab.lock").exists())
        normlab.compare(arms="none", out=study, seeds=1, workers=1, **TINY)
        said, errors = other.communicate(timeout=60)
        assert other.returncode == 0, errors
    finally:
        _end(other)
    assert "in use" not in said + errors
    assert set(read_results(study).arms) == {"bn", "none"}
    assert _bits(study) == _of(undisturbed, "bn", "none")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_report_can_be_written_while_runs_are_made(tmp_path: Path) -> None:
    out = tmp_path / "study"
    shown: list[tuple[str, ...]] = []

    class Reads(KeepingWatcher):
        def finished(self, arm: str, seed: int, record: dict[str, Any]) -> None:
            super().finished(arm, seed, record)
            write_report(read_results(out))
            with (out / "results.csv").open(encoding="utf-8", newline="") as opened:
                rows = list(csv.DictReader(opened))
            shown.append(tuple(dict.fromkeys(row["arm"] for row in rows)))

    _made(out, "bn,in,none", reporter=Reads())
    assert shown == [("bn",), ("bn", "in"), ("bn", "in", "none")]
