"""Writing that fails, at every step of every save: no space, an I/O error, no permission."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from faults import ERRORS, STEPS, failing
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.runs import RunConfig
from normlab.training import Keeping, saving, train

from .rows import Row, Watch
from .scene import cached_in, images

FILES = ("checkpoint/", "history.csv", "features.csv", "predictions.npz", "weights.safetensors",
         "model.json", "run.json")  # fmt: skip
"""What a run writes."""
_WENT_ON, _TOLD = "the run went on", "one message, then a good run"
_RESULTS = ("history.csv", "features.csv", "predictions.npz", "weights.safetensors")


def failures(times: Sequence[int] = (1, 10**6)) -> list[Row]:
    """Every step, error and file of a run; once, and again and again."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        base = Path(temporary)
        with (
            cached_in(base / "cache"),
            mock.patch.object(saving, "WAIT_SECONDS", 0.05),
            mock.patch.object(saving, "POLL_SECONDS", 0.01),
        ):
            data = load(DataConfig(source=str(images(base / "photos")), image_size=8))
            config = RunConfig(n=1, epochs=2, batch_size=32, record_features=True)
            train(config, data, base / "whole")
            for name, number in ERRORS.items():
                row = Row(f"writing fails ({name}), at every step of every file",
                          (_WENT_ON, _TOLD))  # fmt: skip
                began = time.monotonic()
                watch = Watch(row.name, len(STEPS) * len(FILES) * len(times))
                for step in STEPS:
                    for file in FILES:
                        for often in times:
                            folder = base / f"{name}-{step}-{file.strip('/')}-{often}"
                            made = _made(config, data, folder, base / "whole", step, number, file,
                                         often)  # fmt: skip
                            row.add(*made)
                            watch.step()
                row.seconds = time.monotonic() - began
                rows.append(row)
    return rows


def _made(
    config: RunConfig,
    data: DataSet,
    folder: Path,
    whole: Path,
    step: str,
    number: int,
    file: str,
    often: int,
) -> tuple[str, str]:
    place = f"{step} of {file}, {often} times"
    keeping, outcome = Keeping(checkpoint_minutes=0), _WENT_ON
    with failing(step, number, file, often) as failed:
        try:
            train(config, data, folder, keeping=keeping)
        except InputError:
            outcome = _TOLD
        except Exception as error:
            return "a traceback", f"{place}: {type(error).__name__}: {error}"
    if not failed:
        return "nothing failed", place
    train(config, data, folder, keeping=keeping)
    differing = [name for name in _RESULTS if _bits(folder / name) != _bits(whole / name)]
    if differing:
        return "other bits", f"{place}: {', '.join(differing)}"
    left = [path.name for path in folder.rglob("*.part")]
    return ("something was left behind", f"{place}: {left[0]}") if left else (outcome, "")


def _bits(path: Path) -> object:
    """A file's content; of a history, without the times."""
    if path.name != "history.csv":
        return path.read_bytes()
    return [line.rsplit(",", 1)[0] for line in path.read_text(encoding="utf-8").splitlines()]
