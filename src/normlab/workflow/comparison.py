"""Comparing, and making a single run: load, plan, run, report."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import studies
from ..data import DataConfig, DataSet, load
from ..data.cache import Progress as DataProgress
from ..errors import InputError
from ..report import ReportFiles, scores_table, write_report
from ..results import Results, hardest, read_results
from ..results.statistics import judge
from ..runs import RunConfig, is_run
from ..runs.pictures import write_pictures
from ..runs.tuning import Search
from ..studies import Study, tuning
from ..training import resolve_device
from ..training.command import options
from .checking import known_findings, with_clean_split
from .tuning import tune as tune_setting
from .watching import Estimate, Watcher


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
        return str(scores_table(self.results).html("results"))

    def __str__(self) -> str:
        return scores_table(self.results).markdown()


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
    reference: str | None = None,
    margin: float | None = None,
    until_decided: bool = False,
    tune: str | None = None,
    tune_seeds: int = tuning.SEEDS,
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
        reference: the arm that the others are compared with; or a layer, in a grid where several
            arms have it: then each arm is compared with the one of that layer whose other settings
            are its own. By default bn.
        margin: the largest difference in test accuracy that does not matter, in points; 0.5 by
            default.
        until_decided: add seeds at 3, 5, 8, 12 and 20 until every comparison is decided, with the
            error divided over these looks; ``seeds`` is then the last look.
        tune: choose a setting for each arm from the same values, on validation, with seeds of
            their own: ``"lr"``, or with values ``"lr=0.01,0.03,0.1"``. The report has both, the
            arms at the shared value and at their own.
        tune_seeds: trials of each value.
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
        "reference": reference,
        "margin": margin,
        "tune": tune,
        "tune_seeds": tune_seeds if tune is not None and tune_seeds != tuning.SEEDS else None,
        **settings,
    }
    flags = {
        "--skip-bad": skip_bad,
        "--clean-split": clean_split,
        "--until-decided": until_decided,
    }
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
        reference=reference,
        margin=margin,
        until_decided=until_decided,
    )
    if tune is not None:
        tuning.make_search(tune, plan, tune_seeds)  # what cannot be is said before data is read
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
    search = None if tune is None else tuning.make_search(tune, study.plan, tune_seeds)
    if search is not None:
        tuning.check_same_search(study.folder, search)
    wanted = workers or studies.default_workers(settings["device"])
    estimate = _estimate(study, dataset, wanted, search)
    if watcher:
        watcher.planned(study.plan, study.data_record(), study.folder, estimate)
    if dry_run:
        return estimate

    def run(part: Study, compared: Sequence[tuple[str, str]] | None = None) -> int:
        return _until_decided(part, compared, dataset, wanted, watcher)

    study.write()
    made = run(study)
    if search is not None:
        made += tune_setting(study, dataset, search, wanted, watcher, run)
    results = read_results(study.folder)
    _keep_hardest(results, dataset)
    return Comparison(study.folder, results, write_report(results), made)


def _keep_hardest(results: Results, dataset: DataSet) -> None:
    """Keep the images that most arms get wrong beside the runs, for the report to show."""
    split = dataset.splits["test"]
    row_of = {name: row for row, name in enumerate(split.names.tolist())}
    names = [image.name for image in hardest(results)]
    write_pictures(results.folder, names, split.images([row_of[name] for name in names]))


def _until_decided(
    study: Study,
    compared: Sequence[tuple[str, str]] | None,
    dataset: DataSet,
    workers: int,
    watcher: Watcher | None,
) -> int:
    """Make the runs of a study; where looks are fixed, look by look until all is decided."""
    made = studies.carry_out(study, dataset, workers, watcher)
    looks = study.plan.rule.looks
    while looks:
        found = judge(read_results(study.folder), compared=compared, images=False)
        further = [look for look in looks if look > len(study.plan.seeds)]
        if watcher:
            decided = sum(comparison.settled for comparison in found.comparisons)
            end = "" if found.settled or further else "; this was the last look"
            watcher.stage(
                f"{len(found.seeds)} seeds: {decided} of {len(found.comparisons)} comparisons "
                f"decided{end}"
            )
        if found.settled or not further:
            break
        study.plan = replace(study.plan, seeds=tuple(range(further[0])))
        study.write()
        made += studies.carry_out(study, dataset, workers, watcher)
    return made


def _estimate(study: Study, dataset: DataSet, workers: int, search: Search | None) -> Estimate:
    pending = len(study.pending())
    timed: dict[str, float] = {}
    seconds = studies.estimate_seconds(study, dataset, workers, timed)
    trials = tuned = 0
    if search is not None:
        parts = tuning.trials_study(study, search, search.values)
        trials = len(parts.pending())
        seconds += studies.estimate_seconds(parts, dataset, workers, timed)
        tuned = len(study.runs())
        seconds += seconds * tuned / max(1, trials + pending)
    return Estimate(
        runs=pending,
        already=len(study.runs()) - pending,
        seconds=seconds,
        workers=min(workers, max(1, pending, trials)),
        trials=trials,
        tuned=tuned,
        looks=study.plan.rule.looks,
    )


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
    if folder.exists() and any(folder.iterdir()) and not is_run(folder):
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
