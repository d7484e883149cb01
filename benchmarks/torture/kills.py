"""Workers, their parent, and all of them killed at random moments; the study is then resumed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from .rows import Row, Watch
from .scene import TINY, differing, images, result_bits, started

KINDS = ("a worker", "the parent", "all of them")
EACH = 4
"""Kills of a study before it is left to end. With at most two of a call's workers no run dies three
times."""
_ARMS = ("bn", "gn", "ln", "none")
_EPOCHS = "12"
_LONGEST = 300.0
_GONE = 5.0
"""Seconds within which the workers of a killed parent end."""


def kills(count: int, seed: int = 0) -> list[Row]:
    """So many kills in all, of each kind about a third, over as many studies as that takes."""
    rows = {
        kind: Row(f"{kind} of a `compare` killed, the study resumed", ("same bits",))
        for kind in KINDS
    }
    draw = random.Random(seed)
    watch = Watch("kills", count)
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        base = Path(temporary)
        photos = images(base / "photos")
        began = time.monotonic()
        expected = _expected(base, photos)
        lasts = time.monotonic() - began
        left = count
        while left > 0:
            study = base / "study"
            kinds: list[str] = []
            outcome, example = _one_study(
                base, photos, study, draw, kinds, min(EACH, left), lasts, watch
            )
            if not outcome:
                outcome, example = _compared(base, study, expected)
            for kind in kinds:
                rows[kind].add(outcome, example)
            left -= max(1, len(kinds))
            shutil.rmtree(study, ignore_errors=True)
    return list(rows.values())


def children(parent: int) -> list[int]:
    """Processes that a process has started and that are there."""
    said = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    )
    found = [line.split() for line in said.stdout.splitlines()]
    return [int(pid) for pid, above, state in found if int(above) == parent and state[0] != "Z"]


def is_there(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(said.stdout.strip()) and said.stdout.strip()[0] != "Z"


def _command(base: Path, photos: Path, study: Path) -> subprocess.Popen[str]:
    return started(
        base / "cache", "compare", "--data", str(photos), "--arms", ",".join(_ARMS), "--seeds", "1",
        "--workers", "2", "--checkpoint-minutes", "0", "--out", str(study), *TINY[:4], "--epochs",
        _EPOCHS, *TINY[6:],
    )  # fmt: skip


def _expected(base: Path, photos: Path) -> dict[str, bytes]:
    study = base / "undisturbed"
    one = _command(base, photos, study)
    said = one.communicate(timeout=_LONGEST)[0]
    assert one.returncode == 0, said
    return result_bits(study)


def _one_study(
    base: Path,
    photos: Path,
    study: Path,
    draw: random.Random,
    kinds: list[str],
    most: int,
    lasts: float,
    watch: Watch,
) -> tuple[str, str]:
    """Kill and resume until the study is made; adds the kinds of the kills that met something.
    Returns a failure, or two empty texts."""
    while True:
        process = _command(base, photos, study)
        of_workers = 0
        try:
            while len(kinds) < most and process.poll() is None:
                time.sleep(draw.uniform(0.0, lasts / 2))
                workers = children(process.pid)
                kind = draw.choice(KINDS)
                if process.poll() is not None or (kind == KINDS[0] and not workers):
                    continue
                if kind == KINDS[0] and of_workers == 2:
                    continue
                kinds.append(kind)
                watch.step()
                if kind == KINDS[0]:
                    of_workers += 1
                    _kill(draw.choice(workers))
                    continue
                for pid in [process.pid, *(workers if kind == KINDS[2] else [])]:
                    _kill(pid)
                process.wait(timeout=_LONGEST)
                failure = _still_there(workers)
                if failure:
                    return failure
                break
            said = process.communicate(timeout=_LONGEST)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "a command hung", ", ".join(kinds)
        if process.returncode == 0:
            return "", ""
        if process.returncode != -signal.SIGKILL:
            return f"exit status {process.returncode}", said[-500:]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _still_there(workers: list[int]) -> tuple[str, str] | None:
    until = time.monotonic() + _GONE
    while any(map(is_there, workers)):
        if time.monotonic() > until:
            return "a worker outlived its parent", str(workers)
        time.sleep(0.05)
    return None


def _compared(base: Path, study: Path, expected: dict[str, bytes]) -> tuple[str, str]:
    wrong = differing(study, expected)
    if wrong:
        return "other bits", ", ".join(wrong)
    left = [path.name for path in study.rglob(".*") if path.suffix in (".part", ".lock")]
    left += [path.name for path in (base / "cache").rglob("*.part")]
    if left:
        return "something was left behind", ", ".join(left)
    return "same bits", ""
