"""One flipped bit in a file that is read back: found, or without any effect, never silent."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from normlab import stopping
from normlab.data import DataConfig, load
from normlab.runs import RunConfig
from normlab.training import train

from .rows import Row, Watch
from .scene import TINY, cached_in, called, images

REFUSED, MADE_AGAIN, HARMLESS = "refused by name", "made again", "without effect"
LEFT_OUT = "left out, and said on the page"
SILENT, CRASHED, UNNAMED = "SILENT", "CRASHED", "refused without a name"
GOOD = (REFUSED, MADE_AGAIN, HARMLESS, LEFT_OUT)
_REPORT = ("results.csv", "comparisons.csv", "results.md", "results.tex", "report.html")


@dataclass(frozen=True)
class Target:
    """Files of one kind, and what reads them.

    Attributes:
        name: of the kind.
        files: to flip bits in, one at a time.
        read: given the file that was flipped; returns an outcome and what to show of a failure.
        restore: puts everything back that reading may have changed.
    """

    name: str
    files: Sequence[Path]
    read: Callable[[Path], tuple[str, str]]
    restore: Callable[[], object]


def flips(count: int, seed: int = 0) -> list[Row]:
    """Flip ``count`` bits in all, spread evenly over the kinds of files."""
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        base = Path(temporary)
        with cached_in(base / "cache"):
            targets = list(_targets(base))
            return [
                _flip(target, -(-count // len(targets)), random.Random(f"{seed} {target.name}"))
                for target in targets
            ]


def _flip(target: Target, count: int, draw: random.Random) -> Row:
    row = Row(f"a bit flipped in {target.name}", GOOD)
    watch = Watch(row.name, count)
    began = time.monotonic()
    for number in range(count):
        path = target.files[number % len(target.files)]
        whole = path.read_bytes()
        at, bit = draw.randrange(len(whole)), draw.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
        try:
            outcome, shown = target.read(path)
        except Exception as error:
            outcome, shown = CRASHED, f"{type(error).__name__}: {error}"
        row.add(outcome, f"{path.name}, byte {at}, bit {bit}: {shown}")
        target.restore()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)
        watch.step()
    row.seconds = time.monotonic() - began
    return row


def _targets(base: Path) -> Iterator[Target]:
    photos = images(base / "photos")
    split = base / "split.json"
    _must("check-data", str(photos), "--image-size", "8", "--write-split", str(split),
          "--out", str(base / "check"))  # fmt: skip
    study, sanity = base / "study", base / "sanity"
    asked = ("compare", "--data", str(photos), "--split", str(split), "--arms", "bn,gn", "--seeds",
             "3", "--tune", "lr=0.02,0.05", "--tune-seeds", "1", "--record-features", "--workers",
             "1", "--out", str(study), *TINY)  # fmt: skip
    _must(*asked)
    _must("compare", "sanity", "--data", str(photos), "--seeds", "1", "--workers", "1", "--out",
          str(sanity), *TINY)  # fmt: skip

    of_studies = {
        "study.toml": [study / "study.toml", study / "tuning/lr/tuned/study.toml"],
        "data.json": [study / "data.json"],
        "run.json": sorted(study.glob("runs/*/*/run.json")),
        "history.csv and features.csv": sorted(study.glob("runs/*/*/*.csv")),
        "predictions.npz": sorted(study.glob("runs/*/*/predictions.npz")),
        "tuning.json": [study / "tuning/lr/tuning.json"],
        "hardest.npz": [study / "hardest.npz"],
    }
    for name, files in of_studies.items():
        yield Target(f"{name} of a study, then `report`", files, _reports(study), _keeps(study))
    checks = sorted(sanity.glob("checks/same-function/*.json"))
    yield Target("what the sanity check found, then `report`", checks, _reports(sanity),
                 _keeps(sanity))  # fmt: skip

    run = study / "runs/bn/seed-0"
    unread = [run / "model.json", run / "weights.safetensors", study / "split.json"]
    yield Target("the model or the split of a study, then `compare`", unread,
                 _compares(study, asked), _keeps(study))  # fmt: skip

    bundle = base / "bundle"
    bundle.mkdir()
    for name in ("model.json", "weights.safetensors"):
        shutil.copy(run / name, bundle / name)
    yield Target("a model, then `predict`", sorted(bundle.iterdir()), _predicts(bundle, photos),
                 _keeps(bundle))  # fmt: skip

    yield Target("a split file, then loading by it", [split], _loads(photos, split),
                 _keeps(split))  # fmt: skip
    yield _checkpoints(base, photos)
    yield _cache(base, photos)


def _must(*arguments: str) -> None:
    status, said = called(*arguments)
    if status != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {status}: {said[-2000:]}")


def _keeps(place: Path) -> Callable[[], object]:
    """A copy of a file or folder now, and what puts it back."""
    copy = place.with_name(f"{place.name}.whole")
    if place.is_file():
        shutil.copy2(place, copy)
        return lambda: shutil.copy2(copy, place)
    if not copy.exists():
        shutil.copytree(place, copy)

    def back() -> None:
        for path in copy.rglob("*"):
            now = place / path.relative_to(copy)
            if path.is_file() and (not now.is_file() or now.read_bytes() != path.read_bytes()):
                now.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, now)
        for path in sorted(place.rglob("*"), reverse=True):
            if not (copy / path.relative_to(place)).exists():
                path.rmdir() if path.is_dir() else path.unlink()

    return back


def _judged(status: int, said: str, path: Path, same: bool) -> tuple[str, str]:
    """The outcome of a command that read a flipped file."""
    if "Traceback" in said:
        return CRASHED, said[-300:]
    if status == 2:
        plain = "".join(said.split())  # lines may be broken within a name
        named = path.name in plain or path.parent.name in plain
        return (REFUSED, "") if named else (UNNAMED, said[-300:])
    if status != 0:
        return CRASHED, f"status {status}: {said[-300:]}"
    return (HARMLESS, "") if same else (SILENT, "")


def _reports(study: Path) -> Callable[[Path], tuple[str, str]]:
    _must("report", str(study))
    known = {name: (study / name).read_bytes() for name in _REPORT}

    def read(path: Path) -> tuple[str, str]:
        status, said = called("report", str(study))
        now = {name: (study / name).read_bytes() for name in _REPORT}
        outcome = _judged(status, said, path, now == known)
        page = "report.html"
        if outcome[0] == SILENT and path.name.encode() in now[page] and _same_numbers(now, known):
            return LEFT_OUT, ""
        return outcome

    return read


def _same_numbers(one: dict[str, bytes], other: dict[str, bytes]) -> bool:
    return all(one[name] == other[name] for name in one if name != "report.html")


def _compares(study: Path, asked: Sequence[str]) -> Callable[[Path], tuple[str, str]]:
    def read(path: Path) -> tuple[str, str]:
        whole = (study.with_name(f"{study.name}.whole") / path.relative_to(study)).read_bytes()
        status, said = called(*asked)
        if status == 0:
            return (MADE_AGAIN, "") if path.read_bytes() == whole else (SILENT, said[-300:])
        return _judged(status, said, path, same=False)

    return read


def _predicts(bundle: Path, photos: Path) -> Callable[[Path], tuple[str, str]]:
    output = bundle.parent / "predicted.csv"
    asked = ("predict", str(bundle), str(photos), "--output", str(output), "--probabilities")
    _must(*asked)
    known = output.read_bytes()

    def read(path: Path) -> tuple[str, str]:
        output.unlink(missing_ok=True)
        status, said = called(*asked)
        return _judged(status, said, path, output.is_file() and output.read_bytes() == known)

    return read


def _loads(photos: Path, split: Path) -> Callable[[Path], tuple[str, str]]:
    from normlab.errors import InputError

    config = DataConfig(source=str(photos), image_size=8, split=str(split))
    known = load(config)

    def read(path: Path) -> tuple[str, str]:
        try:
            found = load(config)
        except InputError as error:
            return _judged(2, str(error), path, same=False)
        return _judged(0, "", path, found.fingerprint == known.fingerprint)

    return read


def _checkpoints(base: Path, photos: Path) -> Target:
    """A run that was stopped in the middle, and resumed from a damaged checkpoint."""
    config = RunConfig(n=1, epochs=4, batch_size=16)
    data = load(DataConfig(source=str(photos), image_size=8))
    whole, cut = base / "whole", base / "cut"
    train(config, data, whole)
    known = (whole / "weights.safetensors").read_bytes()
    for stop_at in (5, 11):  # two generations
        _train_to(stop_at, config, data, cut)
    files = sorted(path for path in (cut / "checkpoint").iterdir() if path.is_file())

    def read(path: Path) -> tuple[str, str]:
        train(config, data, cut)
        same = (cut / "weights.safetensors").read_bytes() == known
        noted = "damaged" in (cut / "run.json").read_text(encoding="utf-8")
        if not same:
            return SILENT, "other weights"
        return (MADE_AGAIN if noted else HARMLESS), ""

    return Target("a checkpoint, then resuming", files, read, _keeps(cut))


def _train_to(steps: int, config: RunConfig, data: object, folder: Path) -> None:
    """Train until a stop is asked for in the middle."""
    from normlab.training import run as loop

    before, done = loop.train_step, 0  # type: ignore[attr-defined]

    def step(*arguments: object, **options: object) -> object:
        nonlocal done
        done += 1
        if done == steps:
            stopping.request()
        return before(*arguments, **options)

    loop.train_step = step  # type: ignore[attr-defined]
    try:
        with stopping.handled(), suppress(stopping.Stopped):
            train(config, data, folder)  # type: ignore[arg-type]
    finally:
        loop.train_step = before  # type: ignore[attr-defined]


def _cache(base: Path, photos: Path) -> Target:
    """Everything in the cache, and a data set that is read from it."""
    config = DataConfig(source=str(photos), image_size=8)
    known = load(config)
    pixels = {name: split.images() for name, split in known.splits.items()}
    cache = base / "cache"
    files = sorted(
        path for path in cache.rglob("*") if path.is_file() and path.suffix in (".npy", ".npz",
                                                                               ".json")
    )  # fmt: skip

    def read(path: Path) -> tuple[str, str]:
        damaged = path.read_bytes() if path.is_file() else b""
        found = load(config)
        same = found.fingerprint == known.fingerprint and all(
            (found.splits[name].images() == pixels[name]).all() for name in pixels
        )
        status, said = called("check-data", str(photos), "--image-size", "8", "--out",
                              str(base / "check"))  # fmt: skip
        if status != 0:
            return CRASHED, said[-300:]
        again = not path.is_file() or path.read_bytes() != damaged
        if not same:
            return SILENT, "other pixels"
        return (MADE_AGAIN if again else HARMLESS), ""

    return Target("a file of the cache, then loading and `check-data`", files, read, _keeps(cache))
