"""Explaining: find the runs, load their data, select images, write the gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ..data import DataConfig, DataSet, DeviceSplit, load
from ..data.levels import Levels, read_otherwise
from ..errors import InputError, did_you_mean
from ..explain.exhibit import ExplainedModel
from ..explain.gallery import check_target, write_gallery
from ..explain.selection import choose
from ..locks import alone_in
from ..models import (
    ModelInfo,
    ResNet,
    check_model_trusted,
    code_of_model,
    load_info,
    load_model,
    not_finite,
)
from ..options import names_in, several
from ..pages.words import counted
from ..places import EXPLANATION
from ..results import Results, read_results
from ..runs import (
    COMPLETE,
    INTERRUPTED,
    MODEL,
    RECORD,
    STUDY,
    is_run,
    is_study,
    read_predictions,
    read_record,
)
from ..studies import recorded_data
from ..training import evaluate
from ..values import plain

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` made.

    Attributes:
        folder: contains everything.
        page: one offline page.
        contact_sheet: all images and maps in one PNG file.
        chosen: JSON: the images, the rule that selected them, method, site and units.
        notes: plain sentences: what was left out, which classes have fewer images than asked.
    """

    folder: Path
    page: Path
    contact_sheet: Path
    chosen: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A complete run to explain, or a model alone, whose record is empty."""

    name: str
    folder: Path
    record: Mapping[str, Any]


def explain(
    run: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "val",
    classes: str | Iterable[str] | None = None,
    right: int = 5,
    wrong: int = 5,
    method: str = "grad-cam",
    site: str = "last",
    out: str | Path | None = None,
    arms: str | Iterable[str] | None = None,
    seed: int | None = None,
    faithfulness: bool = False,
    randomization: bool = False,
    trust: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """Show on real images what a model looks at, or the models of a study side by side.

    The images are selected by a rule (:data:`normlab.explain.selection.RULE`). In a study the
    first arm selects them, and all arms show the same ones.

    Args:
        run: the folder of a run or a study, or any folder with ``model.json`` and
            ``weights.safetensors``.
        data: ``"digits"`` or a folder, in place of the run's own data. The models predict its
            images again if they are not those of the run. A model without its run needs it.
        split: the split that the images are from.
        classes: names of the classes to show, in a list, or with commas between them; None shows
            all.
        right: at most this many images per class that the model gets right.
        wrong: at most this many that it gets wrong.
        method: one of :data:`normlab.explain.METHODS`.
        site: ``"last"``, the end of the last convolution's stage; ``"mean"``, over the ReLU outputs
            of the last stage of the 6n+2 network; or a module's path.
        out: the gallery's folder; by default ``explain`` in the folder of the run or study. An
            earlier gallery there is replaced.
        arms: for a study, the arms to show, likewise; None shows all that are complete.
        seed: for a study, the seed; None uses the first for which the arms are complete.
        faithfulness: also measure deletion and insertion curves.
        randomization: also randomize the first model's layers from the top.
        trust: as for :func:`normlab.load_model`.
        progress: called with a stage, the number done and the total.

    Raises:
        InputError: no complete run there, a model that is not trusted, data that is gone, has
            changed or does not fit the model, unknown names, or a folder that contains something
            else.
    """
    where = Path(run)
    data = None if data is None else str(plain(data))
    seed = plain(seed)
    sources, notes = _find(where, arms, seed, data)
    folder = Path(out) if out is not None else where / EXPLANATION
    check_target(folder)
    for source in sources:
        check_model_trusted(source.folder, trust)
    infos = [load_info(source.folder) for source in sources]
    dataset = _load(sources, infos, data, progress)
    if split not in dataset.splits:
        raise InputError(
            f"There is no split {split!r}{did_you_mean(split, dataset.splits)}. "
            f"The splits are {', '.join(dataset.splits)}."
        )
    same = all(_fingerprint(source) == dataset.fingerprint for source in sources)
    if not sources[0].record:
        notes.append(
            f"The images are from {dataset.source}. The model predicted them for this page, since "
            "its run is not with it. Pixels are normalized as it was trained."
        )
    elif not same:
        notes.append(
            f"The images are from {dataset.source}, not from the run's data. The models predicted "
            "them for this page. Pixels are normalized by the mean and deviation of the run."
        )
    models = [
        _explained_model(source, info, dataset, split, same, trust)
        for source, info in zip(sources, infos, strict=True)
    ]
    if classes is not None:
        classes = names_in(several("classes", classes), dataset.classes)
    part = dataset.splits[split]
    selection = choose(
        part.names.tolist(), part.labels, models[0].probabilities, dataset.classes,
        classes, right, wrong,
    )  # fmt: skip
    together = len(models) > 1
    with alone_in(folder, beside=True):
        gallery = write_gallery(
            folder,
            models,
            dataset,
            split,
            selection,
            method=method,
            site=site,
            title=f"What {f'{len(models)} models look' if together else f'{infos[0].norm} looks'} "
            f"at in {dataset.name}",
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
    where: Path, arms: str | Iterable[str] | None, seed: int | None, data: str | None
) -> tuple[list[_Source], list[str]]:
    """The runs that a folder stands for, and notes on which were taken."""
    if not where.is_dir():
        what = "is a file" if where.exists() else "does not exist"
        raise InputError(f"{where} {what}. Give the folder of a run or a study.")
    if is_study(where):
        results = read_results(where)
        if arms is not None:
            arms = names_in(several("arms", arms), results.arms)
        return _of_study(results, arms, seed)
    alone = not is_run(where)
    if alone and not (where / MODEL).is_file():
        raise InputError(
            f"{where} contains neither a run (no {RECORD}) nor a study (no {STUDY}). Give "
            "STUDY/runs/ARM/seed-K, the --out of normlab train, or the folder of a study."
        )
    for option, value in (("arms", arms), ("seed", seed)):
        if value is not None:
            raise InputError(f"{option} applies to a study, but {where} is a single run.")
    if alone:
        if data is None:
            raise InputError(
                f"{where} has a model without its run, so it does not say where images are. Give "
                "them with --data."
            )
        return [_Source(load_info(where).norm, where, {})], []
    record = read_record(where)
    if record["status"] != COMPLETE:
        raise InputError(f"{where} cannot be explained: {_unfinished(record['status'])}.")
    _check_told(where, record)
    return [_Source(str(record["config"]["norm"]), where, record)], []


def _check_told(where: Path, record: Mapping[str, Any]) -> None:
    """Refuse a run whose record does not have what the page says or needs."""
    told = {**record, **record.get("config", {}), "config": None, **record.get("data", {})}
    for name, what in (
        ("config", "which data was used"),
        ("fingerprint", "which data was used"),
        ("norm", "which normalization it has"),
        ("seed", "which seed it has"),
        ("epochs", "how many epochs it was to have"),
        ("chosen_epoch", "which epoch was chosen"),
    ):
        if told.get(name) is None:
            raise InputError(f"{where / RECORD} does not say {what}. Repeat the run.")


def _unfinished(status: str) -> str:
    if status == INTERRUPTED:
        return "the run has not finished. Resume it with the same command"
    return f"the run {status} and has no model"


def _of_study(
    results: Results, arms: Sequence[str] | None, seed: int | None
) -> tuple[list[_Source], list[str]]:
    if arms is not None:
        if not arms:
            raise InputError("arms is empty. Name at least one arm of the study.")
        for arm in arms:
            if arm not in results.arms:
                raise InputError(
                    f"{results.folder} has no arm {arm!r}{did_you_mean(arm, results.arms)}. "
                    f"The arms are {', '.join(results.arms)}."
                )
        if len(set(arms)) < len(arms):
            raise InputError(f"An arm is named twice in {', '.join(arms)}.")
    wanted = tuple(arms or results.arms)
    complete = {(run.arm, run.seed): run for run in results.runs if run.complete}
    seeds = [int(known) for known in results.question["seeds"]]
    if seed is not None and seed not in seeds:
        raise InputError(
            f"{results.folder} has no seed {seed}. The seeds are {', '.join(map(str, seeds))}."
        )
    asked = seeds if seed is None else [seed]
    # The first seed with the most complete arms.
    best = max(asked, key=lambda one: sum((arm, one) in complete for arm in wanted))
    missing = [arm for arm in wanted if (arm, best) not in complete]
    if len(missing) == len(wanted) or (arms is not None and missing):
        status = {(run.arm, run.seed): run.status for run in results.runs}
        said = "; ".join(
            f"{arm} seed {best}: {status.get((arm, best), 'not run')}" for arm in missing
        )
        raise InputError(f"{results.folder} has no complete run to explain for {said}.")
    shown = [arm for arm in wanted if arm not in missing]
    notes = []
    if len(shown) > 1:
        notes.append(
            f"All arms show the same images, selected by {shown[0]}. All models have seed {best}."
        )
    if missing:
        notes.append(f"No complete run with seed {best}, so not shown: {', '.join(missing)}.")
    runs = [complete[arm, best] for arm in shown]
    for run in runs:
        _check_told(run.folder, run.record)
    return [_Source(run.arm, run.folder, run.record) for run in runs], notes


def _fingerprint(source: _Source) -> str:
    """Of the data of a run; empty where there is no run."""
    return str(source.record["data"]["fingerprint"]) if source.record else ""


def _load(
    sources: Sequence[_Source],
    infos: Sequence[ModelInfo],
    other: str | None,
    progress: Progress | None,
) -> DataSet:
    """The runs' own data, or other data that fits their models."""
    first, info = sources[0], infos[0]
    config = DataConfig()
    if first.record:
        config = recorded_data(first.folder, first.record["data"]["config"])
    if other is None:
        seed = int(first.record["config"]["seed"])  # of all of them
        try:
            dataset = load(config, progress=progress).of_seed(seed)
        except InputError as error:
            raise InputError(
                f"The data of {first.folder} cannot be loaded: {error} "
                "If it has moved, give its new place with --data."
            ) from error
        for source in sources:
            if _fingerprint(source) != dataset.fingerprint:
                raise InputError(
                    f"The data of {source.folder} has changed since the run: {dataset.source} now "
                    f"has other images, labels or splits{_read_otherwise(source, dataset)}. If the "
                    "old data is elsewhere, give its place with --data. To use what is there now, "
                    "give that with --data."
                )
        return dataset
    asked = replace(
        config,
        source=other,
        image_size=info.image_size,
        resize=info.resize,
        group_by=None,  # of the paths of the run's own data
    )
    levels = Levels(info.grey_range, info.float_range)
    moved = None
    if config.folds is not None:
        moved = _moved(replace(asked, group_by=config.group_by), first, progress, levels)
        # Other images have splits of their own.
        asked = replace(asked, folds=None, split=None)
    dataset = moved or load(asked, progress=progress, levels=levels)
    if dataset.classes != info.classes:
        raise InputError(
            f"The classes of {other} are not the model's: {_differences(info, dataset)}."
        )
    for one in infos:
        if (one.in_channels, one.image_size) != (dataset.channels, dataset.image_size):
            raise InputError(
                f"{other} has {dataset.channels} colour channels, but the model takes "
                f"{one.in_channels} at {one.image_size} pixels. Give images of the same kind."
            )
    return replace(dataset, mean=info.mean, std=info.std)


def _moved(
    asked: DataConfig, source: _Source, progress: Progress | None, levels: Levels
) -> DataSet | None:
    """What a run with folds saw, if its images are in another place now; None for other images."""
    with suppress(InputError):
        found = load(asked, progress=progress, levels=levels)
        if found.fingerprint == _fingerprint(source):
            return found.of_seed(int(source.record["config"]["seed"]))
    return None


def _read_otherwise(source: _Source, data: DataSet) -> str:
    """Why pixels and splits may have changed though the files have not."""
    if "group_by" in source.record["data"]["config"]:
        return ""
    said = " (or copies in different splits then, which now stay together"
    if read_otherwise(data.levels):
        said += "; or grey values of more than 8 bits, which were then read with another range"
    return f"{said})"


def _differences(info: ModelInfo, dataset: DataSet) -> str:
    missing = [name for name in info.classes if name not in dataset.classes]
    new = [name for name in dataset.classes if name not in info.classes]
    said = [
        f"{words} {', '.join(names[:10])}{' and more' if len(names) > 10 else ''}"
        for words, names in (("it lacks", missing), ("the model does not know", new))
        if names
    ]
    return "; ".join(said) or f"they are in a different order, {', '.join(dataset.classes)}"


def _explained_model(
    source: _Source, info: ModelInfo, data: DataSet, split: str, same: bool, trust: bool
) -> ExplainedModel:
    model = load_model(source.folder, trust=trust)
    config = source.record.get("config", {})
    precision = str(config.get("precision", "float32"))
    if same:
        probabilities = _predictions(source.folder, data, split)
    else:
        outcome = evaluate(model, DeviceSplit(data, split), len(data.classes), precision)
        probabilities = outcome.probabilities
        if not np.isfinite(probabilities).all():
            raise InputError(
                f"The model in {source.folder} gives probabilities that are not finite for images "
                f"of {data.source}. {not_finite(model)}".rstrip()
            )
    hits = float((probabilities.argmax(1) == data.splits[split].labels).mean())
    of_run = {
        "Seed": str(config["seed"]),
        "Epoch chosen": f"{source.record['chosen_epoch']} of {config['epochs']}",
    } if config else {}  # fmt: skip
    return ExplainedModel(
        source.name,
        model,
        probabilities,
        {
            "Model": _network_words(model, info),
            **of_run,
            "Accuracy": f"{100 * hits:.1f} % on {split}",
        },
        None if info.ours else partial(_fresh, source.folder, info),
    )


def _fresh(folder: Path, info: ModelInfo, seed: int) -> nn.Module:
    """An untrained network as a model's."""
    with code_of_model(folder):
        return info.build(seed)


def _network_words(model: nn.Module, info: ModelInfo) -> str:
    """The network's normalization and size."""
    if isinstance(model, ResNet):
        return f"{info.norm}, {6 * model.n + 2} layers (n = {model.n})"
    weights = sum(p.numel() for p in model.parameters())
    return f"{info.norm}, {info.said} with {counted(weights, 'parameter')}"


def _predictions(folder: Path, data: DataSet, split: str) -> npt.NDArray[np.float32]:
    found = read_predictions(folder, split)
    if not np.array_equal(found.images, data.splits[split].names):
        raise InputError(
            f"The predictions in {folder} are not for the images of its data. Repeat the run."
        )
    return found.probabilities
