"""Runs on disks that fill, and what a checkpoint costs.

python benchmarks/disks.py [--data FOLDER]

``full_disk`` makes a small file system (as root, on Linux), fills it while a run is made, and makes
room when the run says that it waits. ``file_limit`` does likewise with the system's limit on the
size of a file. Both compare the results with those of a run that had room. ``cost`` times the
saving of checkpoints of networks of several depths, as a share of the minute between two.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.runs import CHECKPOINTS, RunConfig
from normlab.training import Keeping, Progress, run, saving, train

CONFIG = RunConfig(n=1, epochs=3, batch_size=20)
ROOM = 4 << 20
"""Bytes of the small file system: more than the results, less than all checkpoints beside them."""
RESULTS = ("weights.safetensors", "predictions.npz")


def full_disk() -> str:
    """A real file system is full when checkpoints are saved, and again when the run ends."""
    data = load(DataConfig(limit_per_class=8))
    with tempfile.TemporaryDirectory() as folder, _small_file_system(Path(folder)) as small:
        if small is None:
            return "skipped: a file system cannot be mounted here (that takes root on Linux)"
        train(CONFIG, data, Path(folder) / "whole")
        said: list[str] = []
        filler = small / "filler"

        def watch(at: Progress) -> None:
            said[:] = at.notes
            if at.step == 3:
                _fill(filler)
            if at.step == 5 or (at.notes and "waits for room" in at.notes[-1]):
                filler.unlink(missing_ok=True)
            if at.step == at.steps - 1:
                _fill(filler)

        with _told_at_every_step():
            train(CONFIG, data, small / "run", watch, keeping=Keeping(checkpoint_minutes=0))
        expected = ("could not be saved: the disk is full", "saved again", "waits for room")
        missing = [words for words in expected if not any(words in note for note in said)]
        return _verdict(small / "run", Path(folder) / "whole", missing)


def file_limit() -> str:
    """No file may be larger than a checkpoint is: training goes on without any."""
    try:
        import resource
        import signal
    except ImportError:
        return "skipped: there is no such limit here"
    data = load(DataConfig(limit_per_class=8))
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        train(CONFIG, data, whole)
        largest = max(path.stat().st_size for path in whole.iterdir())
        said: list[str] = []

        def watch(at: Progress) -> None:
            said[:] = at.notes

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        missing: list[str] = []
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
            with _told_at_every_step():
                train(CONFIG, data, cut, watch, keeping=Keeping(checkpoint_minutes=0))
            if not any("larger than allowed" in note for note in said):
                missing.append("larger than allowed")
            shutil.rmtree(cut)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, before[1]))
            with suppress(InputError):
                train(CONFIG, data, cut)
                missing.append("InputError")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        train(CONFIG, data, cut)
        return _verdict(cut, whole, missing)


def cost(source: str, size: int | None, depths: Iterator[int] | tuple[int, ...]) -> Iterator[str]:
    """Seconds that saving one checkpoint takes, and their share of a minute."""
    data = load(DataConfig(source=source, image_size=size, limit_per_class=100))
    for n in depths:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            seconds, busy, written = _save_seconds(RunConfig(n=n), data, Path(folder))
            yield (
                f"n = {n}: {written / 1e6:.1f} MB, {1e3 * seconds:.0f} ms ({1e3 * busy:.0f} ms of "
                f"the processor), {100 * seconds / 60:.2f} % of a minute"
            )


def _save_seconds(config: RunConfig, data: DataSet, folder: Path) -> tuple[float, float, int]:
    one = run._Run(config, data, folder, {}, keeping=Keeping(checkpoint_minutes=1e6))
    one.model.train()
    batches = next(one.updates.of(1))
    one.running.add(*run.train_step(one.model, one.optimizer, batches, config), batches[0][1])
    one.best = run.packed(one.model.state_dict())
    times, busy = [], []
    for _ in range(7):
        began, before = time.perf_counter(), time.process_time()
        one._save()
        times.append(time.perf_counter() - began)
        busy.append(time.process_time() - before)
    newest = next((folder / CHECKPOINTS).iterdir())
    return statistics.median(times[1:]), statistics.median(busy[1:]), newest.stat().st_size


@contextmanager
def _small_file_system(folder: Path) -> Iterator[Path | None]:
    place = folder / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("ab", buffering=0) as opened:
        while True:
            opened.write(bytes(4096))


@contextmanager
def _told_at_every_step() -> Iterator[None]:
    every, run.REPORT_SECONDS = run.REPORT_SECONDS, 0.0
    poll, saving.POLL_SECONDS = saving.POLL_SECONDS, 0.01
    try:
        yield
    finally:
        run.REPORT_SECONDS, saving.POLL_SECONDS = every, poll


def _verdict(folder: Path, whole: Path, missing: list[str]) -> str:
    differing = [
        name
        for name in RESULTS
        if hashlib.sha256((folder / name).read_bytes()).digest()
        != hashlib.sha256((whole / name).read_bytes()).digest()
    ]
    if differing or missing:
        return f"FAILED: {', '.join([*differing, *missing])}"
    return "the same bits"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--image-size", type=int)
    asked = parser.parse_args()
    checks: tuple[Callable[[], str], ...] = (full_disk, file_limit)
    for check in checks:
        print(f"{check.__name__}: {check()}", flush=True)
    for line in cost(asked.data, asked.image_size, (2, 3, 5, 9)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
