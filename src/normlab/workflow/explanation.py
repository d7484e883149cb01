"""Explaining: find the runs, load their data, choose images, write the gallery."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data import DataSet, DeviceSplit, load
from ..errors import InputError, did_you_mean
from ..explain.choice import choose
from ..explain.exhibit import ExplainedModel
from ..explain.gallery import check_target, write_gallery
from ..models import ModelInfo, load_info, load_model
from ..results import Results, read_results
from ..runs import (
    COMPLETE,
    INTERRUPTED,
    RECORD,
    STUDY,
    is_run,
    is_study,
    read_predictions,
    read_record,
)
from ..studies import recorded_data
from ..training import evaluate

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` made.

    Attributes:
        folder: holds everything.
        page: one offline page.
        contact_sheet: all images and maps in one PNG file.
        chosen: JSON: which images, by which rule, method, site and units.
        notes: plain sentences: what was left out, where there were fewer images than asked.
    """

    folder: Path
    page: Path
    contact_sheet: Path
    chosen: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A complete run to explain."""

    name: str
    folder: Path
    record: Mapping[str, Any]


def explain(
    run: str | Path,
    *,
    data: str | None = None,
    split: str = "val",
    classes: Sequence[str] | None = None,
    right: int = 5,
    wrong: int = 5,
    method: str = "grad-cam",
    site: str = "last",
    out: str | Path | None = None,
    arms: Sequence[str] | None = None,
    seed: int | None = None,
    faithfulness: bool = False,
    randomization: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """Show on real images what a model looks at, or the models of a study side by side.

    Which images is decided by a rule (:data:`normlab.explain.choice.RULE`); in a study by the
    first arm, so that all arms show the same ones.

    Args:
        run: a run's folder, or a study's.
        data: ``"digits"`` or a folder, in place of the run's own data. Where its images are not
            those of the run, the models are run over them.
        split: of which the images are.
        classes: names of the classes to show; None takes all.
        right: at most so many images of a class that the model gets right.
        wrong: likewise wrong.
        method: one of :data:`normlab.explain.METHODS`.
        site: ``"last"``, ``"mean"`` (over the ReLU outputs of the last stage) or a module's path.
        out: the gallery's folder; by default ``explain`` in the folder of the run or study. An
            earlier gallery there is replaced.
        arms: of a study, the arms to show; None takes all that are complete.
        seed: of a study, the seed; None takes the first for which the arms are complete.
        faithfulness: also measure deletion and insertion curves.
        randomization: also randomize the first model's layers from the top.
        progress: called with a stage, and how many of how many are done.

    Raises:
        InputError: no complete run there, data that has vanished or changed or does not fit the
            model, unknown names, or a folder that holds something else.
    """
    where = Path(run)
    sources, notes = _find(where, arms, seed)
    folder = Path(out) if out is not None else where / "explain"
    check_target(folder)
    infos = [load_info(source.folder) for source in sources]
    dataset = _load(sources, infos, data, progress)
    if split not in dataset.splits:
        raise InputError(
            f"there is no split {split!r}{did_you_mean(split, dataset.splits)}; "
            f"splits are {', '.join(dataset.splits)}"
        )
    same = all(_fingerprint(source) == dataset.fingerprint for source in sources)
    if not same:
        notes.append(
            f"The images are not those of the run: {dataset.source}. The models were run over "
            "them; mean and deviation of the pixels are those of the run."
        )
    subjects = [
        _subject(source, info, dataset, split, same)
        for source, info in zip(sources, infos, strict=True)
    ]
    part = dataset.splits[split]
    choice = choose(
        part.names.tolist(), part.labels, subjects[0].probabilities, dataset.classes,
        classes, right, wrong,
    )  # fmt: skip
    several = len(subjects) > 1
    gallery = write_gallery(
        folder,
        subjects,
        dataset,
        split,
        choice,
        method=method,
        site=site,
        title=f"What {f'{len(subjects)} models look' if several else f'{infos[0].norm} looks'} at "
        f"in {dataset.name}",
        record={
            "run": str(where),
            "runs": {source.name: str(source.folder) for source in sources},
            "run_fingerprint": _fingerprint(sources[0]),
        },
        notes=notes,
        with_faithfulness=faithfulness,
        with_randomization=randomization,
        progress=progress,
    )
    return Explanation(
        gallery.folder, gallery.page, gallery.contact_sheet, gallery.chosen, gallery.notes
    )


def _find(
    where: Path, arms: Sequence[str] | None, seed: int | None
) -> tuple[list[_Source], list[str]]:
    """The runs that a folder stands for, and what has to be said about which."""
    if not where.is_dir():
        what = "is a file" if where.exists() else "does not exist"
        raise InputError(f"{where} {what}; give a run's folder or a study's")
    if is_study(where):
        return _of_study(read_results(where), arms, seed)
    if not is_run(where):
        raise InputError(
            f"{where} contains neither a run (no {RECORD}) nor a study (no {STUDY}); give "
            "STUDY/runs/ARM/seed-K, the --out of normlab train, or a study's folder"
        )
    for option, value in (("arms", arms), ("seed", seed)):
        if value is not None:
            raise InputError(f"{option} goes with a study's folder; {where} is a single run")
    record = read_record(where)
    if not isinstance(record.get("data"), dict) or "config" not in record["data"]:
        raise InputError(f"{where / RECORD} does not say which data was used; make the run again")
    if record["status"] != COMPLETE:
        raise InputError(f"{where} cannot be explained: {_unfinished(record['status'])}")
    return [_Source(str(record["config"]["norm"]), where, record)], []


def _unfinished(status: str) -> str:
    if status == INTERRUPTED:
        return "the run has not ended; start it again with the same command and let it finish"
    return f"the run {status} and left no model"


def _of_study(
    results: Results, arms: Sequence[str] | None, seed: int | None
) -> tuple[list[_Source], list[str]]:
    if arms is not None:
        if not arms:
            raise InputError("arms is empty; name at least one arm of the study")
        for arm in arms:
            if arm not in results.arms:
                raise InputError(
                    f"{results.folder} has no arm {arm!r}{did_you_mean(arm, results.arms)}; "
                    f"arms are {', '.join(results.arms)}"
                )
        if len(set(arms)) < len(arms):
            raise InputError(f"an arm is named twice in {', '.join(arms)}")
    wanted = tuple(arms or results.arms)
    complete = {(run.arm, run.seed): run for run in results.runs if run.complete}
    seeds = [int(known) for known in results.question["seeds"]]
    if seed is not None and seed not in seeds:
        raise InputError(
            f"{results.folder} has no seed {seed}; seeds are {', '.join(map(str, seeds))}"
        )
    asked = seeds if seed is None else [seed]
    # The first seed that has the most: all arms, where any has.
    best = max(asked, key=lambda one: sum((arm, one) in complete for arm in wanted))
    missing = [arm for arm in wanted if (arm, best) not in complete]
    if len(missing) == len(wanted) or (arms is not None and missing):
        status = {(run.arm, run.seed): run.status for run in results.runs}
        said = "; ".join(
            f"{arm} seed {best}: {status.get((arm, best), 'not run yet')}" for arm in missing
        )
        raise InputError(f"{results.folder} has no complete run to explain for {said}")
    shown = [arm for arm in wanted if arm not in missing]
    notes = []
    if len(shown) > 1:
        notes.append(
            f"All arms show the same images, chosen by {shown[0]}. Every model is of seed {best}."
        )
    if missing:
        notes.append(f"Left out, since seed {best} has no complete run: {', '.join(missing)}.")
    runs = [complete[arm, best] for arm in shown]
    return [_Source(run.arm, run.folder, run.record) for run in runs], notes


def _fingerprint(source: _Source) -> str:
    return str(source.record["data"]["fingerprint"])


def _load(
    sources: Sequence[_Source],
    infos: Sequence[ModelInfo],
    other: str | None,
    progress: Progress | None,
) -> DataSet:
    """The runs' own data, or other data that fits their models."""
    first, info = sources[0], infos[0]
    config = recorded_data(first.folder, first.record["data"]["config"])
    if other is None:
        try:
            dataset = load(config, progress=progress)
        except InputError as error:
            raise InputError(
                f"the data of {first.folder} cannot be loaded: {error} "
                "If it lies elsewhere now, name the place with --data"
            ) from error
        for source in sources:
            if _fingerprint(source) != dataset.fingerprint:
                raise InputError(
                    f"the data of {source.folder} has changed since the run: {dataset.source} has "
                    "other images, labels or splits now. If the old data lies elsewhere, name the "
                    "place with --data; to look at what is there now, name that with --data"
                )
        return dataset
    dataset = load(replace(config, source=other, image_size=info.image_size), progress=progress)
    if dataset.classes != info.classes:
        raise InputError(
            f"the classes of {other} are not the model's: {_differences(info, dataset)}"
        )
    for one in infos:
        if (one.in_channels, one.image_size) != (dataset.channels, dataset.image_size):
            raise InputError(
                f"{other} has {dataset.channels} colour channels, the model takes "
                f"{one.in_channels} at {one.image_size} pixels; give images of the same kind"
            )
    return replace(dataset, mean=info.mean, std=info.std)


def _differences(info: ModelInfo, dataset: DataSet) -> str:
    missing = [name for name in info.classes if name not in dataset.classes]
    new = [name for name in dataset.classes if name not in info.classes]
    said = [
        f"{words} {', '.join(names[:10])}{' and more' if len(names) > 10 else ''}"
        for words, names in (("it lacks", missing), ("the model does not know", new))
        if names
    ]
    return "; ".join(said) or f"they stand in another order, {', '.join(dataset.classes)}"


def _subject(
    source: _Source, info: ModelInfo, data: DataSet, split: str, same: bool
) -> ExplainedModel:
    model = load_model(source.folder)
    precision = str(source.record["config"].get("precision", "float32"))
    if same:
        probabilities = _predictions(source.folder, data, split)
    else:
        outcome = evaluate(model, DeviceSplit(data, split), len(data.classes), precision)
        probabilities = outcome.probabilities
    hits = float((probabilities.argmax(1) == data.splits[split].labels).mean())
    config = source.record["config"]
    return ExplainedModel(
        source.name,
        model,
        probabilities,
        {
            "Model": f"{info.norm}, {6 * info.n + 2} layers (n = {info.n})",
            "Seed": str(config["seed"]),
            "Epoch chosen": f"{source.record['chosen_epoch']} of {config['epochs']}",
            "Accuracy": f"{100 * hits:.1f} % on {split}",
        },
    )


def _predictions(folder: Path, data: DataSet, split: str) -> npt.NDArray[np.float32]:
    found = read_predictions(folder, split)
    if not np.array_equal(found.images, data.splits[split].names):
        raise InputError(
            f"the predictions in {folder} are not of the images of its data; make the run again"
        )
    return found.probabilities
