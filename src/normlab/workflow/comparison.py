"""Comparing, and making a single run: load, plan, run, report."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from .. import studies
from ..data import DataConfig, load
from ..data.cache import Progress as DataProgress
from ..errors import InputError
from ..report import ReportFiles, tables, write_report
from ..studies import Plan, Results
from ..training import RunConfig, resolve_device
from ..training.command import options
from .checking import known_findings, with_clean_split


@dataclass(frozen=True)
class Estimate:
    """What a study will take, known before it starts.

    Attributes:
        runs: runs to be made.
        already: runs that the folder already holds.
        seconds: an estimate of the time.
        workers: processes side by side.
    """

    runs: int
    already: int
    seconds: float
    workers: int


class Watcher(studies.Reporter, Protocol):
    """What a comparison tells while it works: the data, the plan, then the runs."""

    def reading(self, stage: str, done: int, total: int) -> None:
        """Images are being decoded."""

    def planned(self, plan: Plan, data: dict[str, Any], folder: Path, estimate: Estimate) -> None:
        """The data is loaded and nothing has been run yet."""


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` returns. In a notebook it shows itself as its table.

    Attributes:
        folder: the study's folder.
        results: every run, read back from the folder.
        report: the files of the report.
        runs_made: how many runs this call made; 0 if all were there.
    """

    folder: Path
    results: Results
    report: ReportFiles
    runs_made: int

    def _repr_html_(self) -> str:
        return tables.html_table(self.results)

    def __str__(self) -> str:
        return tables.markdown_table(self.results)


def compare(
    what: str = "norms",
    data: str | None = None,
    *,
    arms: Sequence[str] | str | None = None,
    seeds: int | None = None,
    image_size: int | None = None,
    limit_per_class: int | None = None,
    skip_bad: bool | None = None,
    split: str | Path | None = None,
    clean_split: bool = False,
    out: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    dry_run: bool = False,
    command: str | None = None,
    watcher: Watcher | None = None,
    **settings: Any,
) -> Comparison | Estimate:
    """Compare normalizations (or anything a grid varies) on real images.

    Args:
        what: a preset (``"norms"``, ``"experiment"``, ...) or a TOML file describing a grid.
        data: ``"digits"`` (the default) or a folder.
        arms: normalizations to compare, a list or one text with commas.
        seeds: how many seeds; every arm gets the same ones.
        image_size: side of the images in pixels.
        limit_per_class: at most so many training images of a class.
        skip_bad: leave out files that are no good images, where otherwise the study stops.
        split: a split file, written by ``check_data``, in place of the source's own splits.
        clean_split: search for copies first, and keep all images of one photograph in one split.
        out: the study's folder; by default a dated one under ``studies/``.
        workers: processes side by side; all cores by default. It does not change results.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        dry_run: only say what would be run.
        command: how to repeat it, for the report; made from the arguments by default.
        watcher: is told about progress.
        settings: any field of ``RunConfig``: ``epochs=8, lr=0.1, batch_size=32, n=2``. A list of
            values varies the field: ``batch_size=[1, 8, 32]``.

    Returns:
        The comparison; with ``dry_run`` the estimate alone.

    Raises:
        InputError: bad input, with what to do about it.
    """
    if isinstance(arms, str):
        arms = [arm for arm in (part.strip() for part in arms.split(",")) if arm]
    if arms is not None and not arms:
        raise InputError("arms is empty; name at least one normalization, for example bn,gn")
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers must be a whole number of at least 1, got {workers!r}")
    asked = {
        "data": data,
        "arms": ",".join(arms) if arms else None,
        "seeds": seeds,
        "image_size": image_size,
        "limit_per_class": limit_per_class,
        "split": None if split is None else str(split),
        **settings,
    }
    flags = {"--skip-bad": skip_bad, "--clean-split": clean_split}
    command = command or _command(what, asked, flags)
    if split is not None and clean_split:
        raise InputError("give --split or --clean-split, not both")
    stated = {
        "source": data,
        "image_size": image_size,
        "limit_per_class": limit_per_class,
        "skip_bad": skip_bad,
        "split": None if split is None else str(split),
    }
    settings = {**settings, "device": resolve_device(device)}
    plan = studies.make_plan(
        what,
        {name: value for name, value in stated.items() if value is not None},
        arms=arms,
        seeds=seeds,
        settings=settings,
    )
    check_out(out)
    reading = watcher.reading if watcher else None
    if clean_split:
        plan = replace(plan, data=with_clean_split(plan.data, progress=reading, workers=workers))
    dataset = load(plan.data, progress=reading, workers=workers)
    findings = known_findings(plan.data, dataset, progress=reading)
    for config in plan.arms.values():
        _check_runs(config, dataset)
    study = studies.prepare_study(
        Path(out) if out is not None else None, plan, dataset, command, findings
    )
    wanted = workers or studies.default_workers(settings["device"])
    pending = len(study.pending())
    estimate = Estimate(
        runs=pending,
        already=len(study.runs()) - pending,
        seconds=studies.estimate_seconds(study, dataset, wanted),
        workers=min(wanted, max(1, pending)),
    )
    if watcher:
        watcher.planned(study.plan, study.data_record(), study.folder, estimate)
    if dry_run:
        return estimate
    study.write()
    made = studies.carry_out(study, dataset, wanted, watcher)
    results = studies.read_results(study.folder)
    return Comparison(study.folder, results, write_report(results), made)


def train_one(
    data: DataConfig,
    config: RunConfig,
    out: str | Path,
    *,
    reading: DataProgress | None = None,
    progress: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """Make a single run in the folder ``out`` and return what its run.json says.

    Raises:
        InputError: bad input, or a folder that holds something else.
    """
    from ..training import train

    check_out(out)
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()) and not (folder / "run.json").exists():
        raise InputError(f"{folder} is not empty and holds no run; choose another with --out")
    dataset = load(data, progress=reading)
    _check_runs(config, dataset)
    studies.keep_memory()
    return train(config, dataset, folder, progress)


def check_out(out: str | Path | None) -> None:
    """Fail before any work if the folder cannot be one."""
    if out is None:
        return
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; choose a folder with --out")
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file, so {path} cannot be made below it")
    disk = shutil.disk_usage(existing)
    if disk.total and disk.free < 1 << 20:
        raise InputError(f"the disk of {existing} is full; free space or choose another --out")


def _check_runs(config: RunConfig, dataset: Any) -> None:
    """Build the network once: a site without the arm's layer stops the study before it starts."""
    from ..training import build

    try:
        build(config, dataset)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"arm {config.norm}: {error}") from error


def _command(what: str, stated: Mapping[str, Any], flags: Mapping[str, bool | None]) -> str:
    """The command line that asks the same."""
    words = ["normlab", "compare", *([what] if what != "norms" else [])]
    words += [flag for flag, given in flags.items() if given]
    return shlex.join([*words, *options(stated)])
