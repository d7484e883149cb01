"""Jobs and studies on a cluster of two workers: processes are killed, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import normlab
from normlab import stopping
from normlab.processes import Cluster, Death, DiedError, Needs, in_processes, joined
from normlab.studies.progress import Standings
from normlab.training import Progress
from test_processes import is_there, until
from watchers import KeepingWatcher

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals as POSIX has them"),
    pytest.mark.xdist_group("clusters"),
]


@contextmanager
def _dask() -> Iterator[str]:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60
    ) as local:
        yield local.scheduler_address


@contextmanager
def _ray() -> Iterator[str]:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster as Machines

    machines = Machines()
    try:
        for _ in range(2):
            machines.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
        machines.wait_for_nodes()
        yield machines.address
    finally:
        machines.shutdown()


@dataclass(frozen=True)
class Place:
    """A cluster of two workers."""

    kind: str
    address: str

    @contextmanager
    def joined(self, at_once: int | None = None) -> Iterator[Cluster]:
        with joined(self.kind, self.address, Needs(at_once=at_once)) as cluster:
            yield cluster


@pytest.fixture(scope="module", params=["dask", "ray"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        # What a cluster's workers import is what the tests import.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        with {"dask": _dask, "ray": _ray}[request.param]() as address:
            yield Place(request.param, address)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of jobs; returns the folder that it is in, which is also for their notes."""
    (tmp_path / "far_jobs.py").write_text(
        "import os, pathlib, time\n"
        "from normlab import stopping\n"
        "from normlab.processes import tell\n"
        "def job(number, folder, tries):\n"
        "    folder = pathlib.Path(folder)\n"
        "    with open(folder / f'{number}.tries', 'a') as opened: opened.write('x')\n"
        "    tell({'job': os.getpid(), 'worker': os.getppid()})\n"
        "    while (folder / f'{number}.tries').stat().st_size < tries: time.sleep(0.01)\n"
        "    if number == 3: raise KeyError('three')\n"
        "    return number * number\n"
        "def lasts(number, folder):\n"
        "    folder = pathlib.Path(folder)\n"
        "    (folder / f'{os.getpid()}.pid').touch()\n"
        "    while stopping.requested() is None: time.sleep(0.01)\n"
        "    (folder / f'{os.getpid()}.saved').touch()\n"
        "    raise stopping.Stopped(stopping.requested())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("far_jobs", None)


def test_jobs_whose_process_or_worker_is_killed_are_done_again_and_the_others_go_on(
    place: Place, jobs: Path
) -> None:
    import far_jobs

    killed = {1: "job", 2: "worker"}
    told: dict[int, list[tuple[Death, bool]]] = {}

    def noted(number: int, note: Any) -> None:
        if number in killed:
            os.kill(note[killed.pop(number)], signal.SIGKILL)

    def died(number: int, death: Death, again: bool) -> None:
        told.setdefault(number, []).append((death, again))

    tries = {1: 2, 2: 2}
    with place.joined() as cluster:
        assert cluster.slots() == 2
        found = {
            one.job: one
            for one in in_processes(
                far_jobs.job,
                [(n, str(jobs), tries.get(n, 1)) for n in range(5)],
                1,
                noted=noted,
                died=died,
                engine=cluster,
            )
        }
    assert {n: one.value for n, one in found.items() if n != 3} == {0: 0, 1: 1, 2: 4, 4: 16}
    assert isinstance(found[3].error, KeyError)
    assert "in job" in found[3].traceback
    assert {n: [again for _, again in deaths] for n, deaths in told.items()} == {
        1: [True],
        2: [True],
    }
    assert told[1][0][0].how == "killed by SIGKILL"
    assert told[1][0][0].why.startswith(f"on {os.uname().nodename!r}")
    assert told[2][0][0].how == f"lost with its {place.kind.title()} worker"
    assert {n: (jobs / f"{n}.tries").read_text() for n in range(5)} == {
        n: "x" * tries.get(n, 1) for n in range(5)
    }


def test_a_job_that_dies_three_times_is_given_up(place: Place, jobs: Path) -> None:
    import far_jobs

    def noted(number: int, note: Any) -> None:
        os.kill(note["job"], signal.SIGKILL)

    with place.joined() as cluster:
        (found,) = in_processes(far_jobs.job, [(0, str(jobs), 99)], 1, noted=noted, engine=cluster)
    assert isinstance(found.error, DiedError)
    assert str(found.error).startswith("killed by SIGKILL three times (on ")
    assert (jobs / "0.tries").read_text() == "xxx"


def test_a_signal_lets_jobs_save_and_does_not_wait_for_those_that_have_not_begun(
    place: Place, jobs: Path
) -> None:
    import far_jobs

    before = signal.getsignal(signal.SIGTERM)

    def signals() -> None:
        until(lambda: len(list(jobs.glob("*.pid"))) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        thread = Thread(target=signals)
        with stopping.handled(), place.joined() as cluster, stopping.deferred():
            thread.start()
            arguments = [(n, str(jobs)) for n in range(4)]
            list(in_processes(far_jobs.lasts, arguments, 1, saves=True, engine=cluster))

    with pytest.raises(stopping.Stopped) as stopped:
        work()
    assert stopped.value.status == 143
    assert signal.getsignal(signal.SIGTERM) == before
    began = {int(path.stem) for path in jobs.glob("*.pid")}
    assert len(began) == 2
    assert {int(path.stem) for path in jobs.glob("*.saved")} == began


DRIVER = """
import sys
sys.path.insert(0, sys.argv[3])
import far_jobs
from normlab.processes import Needs, in_processes, joined
with joined(sys.argv[1], sys.argv[2], Needs()) as cluster:
    list(in_processes(far_jobs.lasts, [(n, sys.argv[3]) for n in range(2)], 1, engine=cluster))
"""


def test_jobs_end_with_whoever_gave_them(place: Place, jobs: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, place.kind, place.address, str(jobs)])
    try:
        until(lambda: len(list(jobs.glob("*.pid"))) == 2)
        working = [int(path.stem) for path in jobs.glob("*.pid")]
        driver.kill()
        driver.wait()
        until(lambda: not any(map(is_there, working)))
    finally:
        driver.kill()
        driver.wait()
    assert list(jobs.glob("*.saved")) == []


SMALL: dict[str, Any] = {
    "data": "digits",
    "arms": "bn,far:Layer",
    "seeds": 1,
    "limit_per_class": 8,
    "n": 1,
    "image_size": 8,
    "epochs": 10,
}
LAYER = "import torch\nclass Layer(torch.nn.BatchNorm2d): ...\n"


def _bits(study: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(study)): path.read_bytes()
        for name in ("weights.safetensors", "predictions.npz")
        for path in study.glob(f"runs/*/*/{name}")
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The study's bits as the processes of this machine make them, without a cluster."""
    here = tmp_path_factory.mktemp("undisturbed")
    (here / "far.py").write_text(LAYER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr("normlab.workflow.comparison.write_report", lambda results: None)
        normlab.compare(out="s", workers=1, device="cpu", **SMALL)
    return _bits(here / "s")


def test_a_run_that_is_killed_on_a_cluster_goes_on_from_its_checkpoint_to_the_same_bits(
    place: Place,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("normlab.workflow.comparison.write_report", lambda results: None)
    (tmp_path / "far.py").write_text(LAYER)
    run = tmp_path / "s/runs/bn/seed-0"
    where = {"engine": place.kind, "engine_address": place.address, "device": "cpu"}

    def kill() -> None:
        """The process that makes the run, as soon as there is something to go on from."""
        until(lambda: list(run.glob("checkpoint/*.safetensors")), 120.0)
        holder = json.loads((run / ".normlab.holder.lock").read_text())
        os.kill(holder["process"], signal.SIGKILL)

    notes: set[str] = set()
    at = Standings.at

    def noted(self: Standings, arm: str, seed: int, progress: Progress) -> None:
        notes.update(progress.notes)
        at(self, arm, seed, progress)

    monkeypatch.setattr(Standings, "at", noted)
    thread = Thread(target=kill)
    thread.start()
    watcher = KeepingWatcher()
    normlab.compare(out="s", watcher=watcher, checkpoint_minutes=0, **where, **SMALL)
    thread.join()
    assert _bits(tmp_path / "s") == undisturbed
    assert watcher.ended == {"bn": "complete", "far:Layer": "complete"}
    (said,) = watcher.warnings
    assert said.startswith("The process of bn seed 0 was killed by SIGKILL (on ")
    assert any(note.startswith("The run resumes at step ") for note in notes)
    assert json.loads((run / "run.json").read_text())["side_by_side"] <= 2
    left = [path.name for path in (tmp_path / "s").rglob(".*")]
    assert left == []
