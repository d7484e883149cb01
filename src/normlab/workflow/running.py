"""Making a single run, and what is checked before any run starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from .. import stopping
from ..data import DataConfig, DataSet, load
from ..data.cache import Progress as DataProgress
from ..destinations import check_folder
from ..errors import InputError
from ..launch import launched
from ..leftovers import holds_nothing
from ..locks import alone_in
from ..places import RUNS, dated
from ..runs import RunConfig, ended_record, identity, is_run, is_study, read_record, study_of
from ..runs.damage import damage_of_run
from ..runs.layout import RECORD, damaged_place, file_name
from ..runs.study_file import read_question
from ..seals import DamagedError
from ..studies import check_room, keep_memory
from ..studies.plan import torch_because
from ..training import (
    Group,
    Keeping,
    Progress,
    check_factory,
    check_kernels,
    check_layer,
    code_of_run,
    joined,
    kernels_of,
    resolve_device,
    started,
    train,
    why_not_compiled,
)


@dataclass(frozen=True)
class TrainedRun:
    """What :func:`train_one` made.

    Attributes:
        folder: the run's folder.
        record: its run.json.
    """

    folder: Path
    record: Mapping[str, Any]


def train_one(
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    out: str | Path | None = None,
    *,
    device: str = "auto",
    kernels: str = "auto",
    repair: bool = False,
    reading: DataProgress | None = None,
    progress: Callable[[Progress], None] | None = None,
    keeping: Keeping = Keeping(),  # noqa: B008 - frozen
) -> TrainedRun:
    """Make a single run: one normalization, one seed.

    Where torchrun has started several processes, each calls this and they make the run together.

    Args:
        data: fields of ``DataConfig``.
        settings: fields of ``RunConfig``.
        out: the run's folder; by default a dated one under ``runs/``.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        kernels: ``"torch"``, ``"compiled"`` or ``"auto"``: as in the run or the study that is
            there, else compiled where that can be used.
        repair: move a damaged run to ``damaged`` in its folder and make it again, instead of
            refusing it.
        reading: is told about reading the data.
        progress: is told about the run.
        keeping: how often checkpoints are saved, when one may be used, and whether memory is saved.

    Raises:
        InputError: bad input, a folder that contains something else, or a damaged run; processes
            that do not find each other.
    """
    wanted = check_kernels(settings.get("kernels", kernels))
    here = launched()
    plain = RunConfig.from_dict(
        {
            "processes": here.size,
            **settings,
            "device": resolve_device(device),
            "kernels": "torch",
        }
    )
    asked = DataConfig(**data)
    with stopping.handled(), joined(here, plain.device) as group:
        # How layers are computed is what process 0 finds on its machine. Other settings have to be
        # the same on all, which is compared further down.
        chosen, folder, note = group.from_first(lambda: _computed(wanted, plain, asked, out))
        config = replace(plain, kernels=chosen.kernels)
        with group.together():
            kernels_of(config)  # whether they can be used, before anything else is done
            if group.first:
                check_folder(folder, "--out")
                _check_target(folder)
        dataset = _loaded(asked, reading, group)
        with group.together():
            check_network(config, dataset)
        _check_same(config, dataset, group)
        keep_memory()
        with _alone_in(folder, group), stopping.deferred():
            with group.together():
                if group.first:
                    _check_target(folder)
                    put_right(folder, repair=repair)
                    if ended_record(folder) is None:
                        check_room(folder, [config], dataset)
            made = train(
                config,
                dataset,
                folder,
                progress,
                keeping=keeping,
                kernels_note=note,
                group=group,
            )
            return TrainedRun(folder, made)


def _computed(
    wanted: str, config: RunConfig, data: DataConfig, out: str | Path | None
) -> tuple[RunConfig, Path, str]:
    """The configuration with a choice of how its layers are computed; the run's folder; and why
    this was chosen, where nobody asked for it."""

    def place(config: RunConfig) -> Path:
        return Path(out) if out is not None else _default_folder(data, config)

    if wanted == "torch":
        return config, place(config), ""
    if wanted == "compiled":
        asked = replace(config, kernels="compiled")
        return asked, place(asked), ""
    why = why_not_compiled([config])
    ways = [config]
    if config.can_be_compiled:  # the better one for this machine comes first
        ways.insert(1 if why else 0, replace(config, kernels="compiled"))
    chosen = next((one for one in ways if _computes(place(one), one.kernels)), ways[0])
    note = "" if chosen.kernels == "compiled" else torch_because(why)
    return chosen, place(chosen), note


def _computes(folder: Path, kernels: str) -> bool:
    """Whether the run that is there, or the study, has its layers computed in this way."""
    if is_run(folder):
        with suppress(InputError):  # whatever is wrong with it is said later
            return bool(read_record(folder).get("config", {}).get("kernels", "torch") == kernels)
    if is_study(study_of(folder)):
        with suppress(InputError):
            return bool(read_question(study_of(folder))["run"].get("kernels", "torch") == kernels)
    return False


def _loaded(asked: DataConfig, reading: DataProgress | None, group: Group) -> DataSet:
    """The data on every process; process 0 reads first, and the others find what it has cached."""
    dataset = None
    for turn in (True, False):
        with group.together():
            if group.first is turn:
                dataset = load(asked, progress=reading if group.first else None)
    assert dataset is not None
    return dataset


def _check_same(config: RunConfig, dataset: DataSet, group: Group) -> None:
    """Refuse processes that would make different runs, as on machines with different files."""
    own = identity(config, dataset.fingerprint, code_of_run(config))
    named = group.collected(own)
    other = next((rank for rank, one in enumerate(named) if one != named[0]), None)
    if other is not None:
        raise InputError(
            f"Process {other} has other data, other settings or other code of the layer than "
            "process 0. Start all of them with the same command, on the same files."
        )


@contextmanager
def _alone_in(folder: Path, group: Group) -> Iterator[None]:
    """Process 0 holds the lock for all."""
    if not group.first:
        yield
        return
    # A run of a study is not made while the study makes it.
    study = study_of(folder)
    with alone_in(study if is_study(study) else folder):
        yield


def _check_target(folder: Path) -> None:
    if folder.exists() and not holds_nothing(folder, {"damaged"}) and not is_run(folder):
        raise InputError(
            f"{folder} is not empty and does not contain a run. Choose another folder with --out."
        )


def put_right(folder: Path, *, repair: bool) -> None:
    """Refuse a damaged run, or move it to ``damaged`` in its folder.

    Raises:
        InputError: the run is damaged, and no repair was asked for.
    """
    if not is_run(folder):
        return
    damage = damage_of_run(folder)
    if not damage:
        return
    if not repair:
        said = " ".join(e.found if isinstance(e, DamagedError) else str(e) for e in damage)
        raise InputError(
            f"{said} Give the same command with --repair: the run is moved to {folder / 'damaged'} "
            "and made again. Nothing is deleted."
        )
    place = damaged_place(folder, "run")
    place.mkdir(parents=True)
    left = [
        one
        for one in folder.iterdir()
        if one.name not in ("damaged", RECORD) and not one.name.endswith(".lock")
    ]
    for one in (*left, folder / RECORD):  # the record last: until then the run reads as damaged
        one.replace(place / one.name)


def _default_folder(data: DataConfig, config: RunConfig) -> Path:
    named = identity(config, repr(data), code_of_run(config))[:6]
    name = Path(data.source).name
    folder = dated(RUNS, name, file_name(config.norm), f"seed-{config.seed}", named)
    # The same run begun on another day is continued where it is.
    undated = folder.name[len(date.today().isoformat()) :]
    earlier = sorted(path for path in RUNS.glob("*") if path.name[10:] == undated and is_run(path))
    return earlier[-1] if earlier else folder


def check_network(config: RunConfig, dataset: DataSet) -> tuple[str, ...]:
    """Build the network once, load the weights that it starts from, and try a layer that is not
    ours: what is wrong stops the study before it starts. Returns what is to be known of these."""
    try:
        check_factory(config, dataset)
        notes = started(config, dataset, tried=True).notes
        return (*check_layer(config, dataset).notes, *notes)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"Arm {config.norm}: {error}") from error
