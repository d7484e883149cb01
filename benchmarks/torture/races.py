"""Several commands at once on one study and one uncached folder of images."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from normlab.results import read_results

from .rows import Row, Watch
from .scene import TINY, differing, images, result_bits, started

ARMS = ("bn", "gn", "ln", "none")
_LONGEST = 300.0


def races(rounds: int) -> list[Row]:
    """Four processes, each asking for another arm of one study, from an empty cache."""
    good = ("complete",)
    row = Row("four `compare` at once, one study, one uncached folder", good)
    watch = Watch(row.name, rounds)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        base = Path(temporary)
        photos = images(base / "photos")
        for round_ in range(rounds):
            study, cache = base / f"study-{round_}", base / f"cache-{round_}"
            running = [
                started(cache, "compare", "--data", str(photos), "--arms", arm, "--seeds", "1",
                        "--workers", "1", "--out", str(study), *TINY)
                for arm in ARMS
            ]  # fmt: skip
            ended = [(one.communicate(timeout=_LONGEST)[0], one.returncode) for one in running]
            if round_ == 0:
                expected = _expected(base, photos)
            row.add(*_outcome(study, cache, ended, expected))
            for folder in (study, cache):
                shutil.rmtree(folder, ignore_errors=True)
            watch.step()
    row.seconds = time.monotonic() - began
    return [row]


def _expected(base: Path, photos: Path) -> dict[str, bytes]:
    alone = base / "alone"
    one = started(base / "cache-alone", "compare", "--data", str(photos), "--arms", ",".join(ARMS),
                  "--seeds", "1", "--workers", "1", "--out", str(alone), *TINY)  # fmt: skip
    said = one.communicate(timeout=_LONGEST)[0]
    assert one.returncode == 0, said
    return result_bits(alone)


def _outcome(
    study: Path, cache: Path, ended: list[tuple[str, int]], expected: dict[str, bytes]
) -> tuple[str, str]:
    failed = [said for said, status in ended if status != 0]
    if failed:
        return "a command failed", failed[0][-300:]
    results = read_results(study)
    missing = set(ARMS) - set(results.arms)
    if missing:
        return "an arm is missing", ", ".join(sorted(missing))
    wrong = differing(study, expected)
    if wrong:
        return "other bits", ", ".join(wrong)
    left = [path.name for path in (*study.rglob("*.part"), *cache.rglob("*.tmp"))]
    if left:
        return "something was left behind", ", ".join(left)
    return "complete", ""
