"""Runs on other machines: what these must have, and what is said where they have not."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import normlab
from normlab.cli import main
from normlab.data import DataConfig, load
from normlab.errors import InputError
from normlab.processes import Needs
from normlab.processes.engine import Events
from normlab.processes.own import OwnProcesses, Process
from normlab.runs import RunConfig
from normlab.studies import Machines, Request, make_plan, making_runs, prepare_study
from normlab.studies.cluster import StudyCluster

TINY: dict[str, Any] = {"limit_per_class": 8, "n": 1, "image_size": 8, "epochs": 1, "seeds": 1}
ASKED: dict[str, Any] = {"data": "digits", "arms": "bn,none", "device": "cpu", **TINY}
FAR: dict[str, Any] = {"engine": "dask", "engine_address": "here"}


class _Here(OwnProcesses):
    """A cluster whose two machines are this one."""

    name = "the cluster of a test"

    def machines(self) -> list[str]:
        return ["one", "two"]

    def slots(self) -> int:
        return self.at_once()

    def worker_on(self, machine: str, events: Events) -> Process:
        return self.worker(events)

    def close(self) -> None: ...


@contextmanager
def _joined(kind: str, address: str, needs: Needs) -> Iterator[_Here]:
    yield _Here(2)


def _by_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever cluster is asked for is the one of this test. No report is written."""
    monkeypatch.setattr("normlab.studies.machines.joined", _joined)
    monkeypatch.setattr("normlab.studies.machines.check_installed", lambda kind: None)
    monkeypatch.setattr("normlab.workflow.comparison.write_report", lambda results: None)


def _study(out: Path, source: str = "digits") -> tuple[Any, Any]:
    asked = Request.of("norms", source, arms="bn,none", **TINY)
    plan = make_plan(replace(asked, settings={**asked.settings, "device": "cpu"}))
    data = load(plan.data)
    study = prepare_study(out, plan, data)
    study.write()
    return study, data


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyCluster]:
    out = tmp_path_factory.mktemp("study") / "s"
    with making_runs(_Here(2), *_study(out)) as made:
        assert made is not None
        made.check()
        assert len(list(out.glob(".token*"))) == 1  # for machines that come later
        yield made
    assert list(out.glob(".*")) == []


def test_a_machine_that_does_not_see_the_study_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _by_a_cluster(monkeypatch)
    monkeypatch.setattr("normlab.studies.cluster.write_text", lambda *_: None)
    with pytest.raises(InputError) as refused:
        normlab.compare(out=tmp_path / "s", **FAR, **ASKED)
    said = str(refused.value)
    assert said.startswith("2 of 2 machines in the cluster of a test cannot make these runs:\n- ")
    assert f"does not see the study's folder {tmp_path / 's'}." in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"versions": {"torch": "0.1"}}, r" other versions: torch \S+ instead of 0\.1\.$"),
        ({"versions": {"nothing": "1"}}, r" other versions: nothing \(missing\) instead of 1\.$"),
        (
            {"code": ((RunConfig(norm="mine:Layer"), {"mine.py": "1"}),)},
            r" has other code or other weights for the arm mine:Layer in 14 layers, shortcut A\.$",
        ),
        (
            {"code": ((RunConfig(norm="no_such:Layer"), {"a.py": "1"}),)},
            r"does not find a\.py of the arm no_such:Layer",
        ),
        ({"token": (".", "1")}, r"does not see the study's folder"),
    ],
)
def test_what_a_machine_lacks_is_named(
    cluster: StudyCluster,
    what: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import torch\nclass Layer(torch.nn.Identity): ...\n")
    cluster.asked.check()
    with pytest.raises(InputError, match=said):
        replace(cluster.asked, **what).check()


def test_a_machine_that_cannot_write_is_named(
    cluster: StudyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"cannot write to the study's folder .*\(Read-only file"):
        cluster.asked.check()


def test_a_machine_needs_the_cached_images_or_their_source(
    cluster: StudyCluster, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for label in "ab":
        for split in ("train", "val", "test"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(
                tmp_path / "images" / split / label / "0.png"
            )
    data = load(DataConfig(source=str(tmp_path / "images"), image_size=8))
    pixels = data.splits["train"]._pixels.path
    shutil.rmtree(pixels.parent)
    there = pickle.dumps(data)
    cluster.asked.check_data(pickle.loads(there))  # they are made again from the source
    shutil.rmtree(pixels.parent)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(InputError, match=r"neither the cached images nor the data .*images"):
        cluster.asked.check_data(pickle.loads(there))


def test_runs_of_a_cluster_are_those_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _by_a_cluster(monkeypatch)
    normlab.compare(out=tmp_path / "far", **FAR, **ASKED)
    normlab.compare(out=tmp_path / "near", workers=1, **ASKED)
    for name in ("weights.safetensors", "predictions.npz"):
        for arm in ("bn", "none"):
            far, near = (tmp_path / w / "runs" / arm / "seed-0" / name for w in ("far", "near"))
            assert far.read_bytes() == near.read_bytes()
    assert list((tmp_path / "far").rglob(".*")) == []


def test_an_engine_that_cannot_be_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for options, said in (
        (["--engine", "ray"], "--engine ray needs the cluster's address"),
        (["--engine", "dask"], "--engine-address tcp://10.0.0.5:8786"),
        (["--engine-address", "auto"], "--engine-address needs --engine ray or --engine dask"),
    ):
        assert main(["compare", *options]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(InputError, match="engine"):
        Machines(engine="slurm")  # type: ignore[arg-type]
    monkeypatch.setattr("normlab.processes.cluster.find_spec", lambda name: None)
    for kind, package in (("ray", "ray"), ("dask", "distributed")):
        assert main(["compare", "--engine", kind, "--engine-address", "auto"]) == 2
        error = capsys.readouterr().err
        assert f"needs the package {package}, which is not installed." in error
        assert f"pip install 'normlab[{kind}]'" in error
    assert list(tmp_path.iterdir()) == []
