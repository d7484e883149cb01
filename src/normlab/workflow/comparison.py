"""Comparing, and making a single run: load, plan, run, report."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import stopping
from ..data import DataSet, load, sources
from ..destinations import check_folder
from ..errors import InputError
from ..launch import refuse_several
from ..locks import alone_in
from ..options import whole
from ..pages.words import counted, listed
from ..places import STUDIES
from ..report import ReportFiles, scores_table, write_report
from ..results import Results, hardest, read_results
from ..runs import FAILED
from ..runs.pictures import write_pictures
from ..runs.tuning import Search
from ..studies import (
    MACHINES_FIELDS,
    Machines,
    Plan,
    Request,
    Study,
    StudyCluster,
    check_room,
    default_folder,
    default_workers,
    estimate_seconds,
    make_plan,
    making_runs,
    prepare_study,
)
from ..studies.plan import torch_because
from ..studies.request import DATA_FIELDS, REQUEST_FIELDS, SETTINGS
from ..studies.room import PAGE
from ..studies.tuning import check_same_search, make_search, trials_study
from ..training import (
    KEEPING_FIELDS,
    Keeping,
    check_kernels,
    kernels_of,
    resolve_device,
    why_not_compiled,
)
from .checking import known_findings, with_clean_split
from .looks import most_added, run_until_decided
from .running import check_network
from .tuning import tune
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

    @property
    def failed(self) -> tuple[str, ...]:
        """The runs that could not be made, with the reason; the same call tries them again."""
        runs = self.results.runs
        return tuple(
            f"{run.arm} seed {run.seed} {run.status}"
            for run in runs
            if run.status.startswith(FAILED)
        )

    def __repr__(self) -> str:
        made = f"{self.runs_made} new of {counted(len(self.results.runs), 'run')}"
        return f"<Comparison in {self.folder}: {', '.join(self.results.arms)}; {made}>"

    def _repr_html_(self) -> str:
        return str(scores_table(self.results).html("results"))

    def __str__(self) -> str:
        return scores_table(self.results).markdown()


@stopping.handled()
def compare(
    what: str | Path = "norms",
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    kernels: str = "auto",
    dry_run: bool = False,
    repair: bool = False,
    watcher: Watcher | None = None,
    call: str | None = None,
    **options: Any,
) -> Comparison | Estimate:
    """Compare normalizations (or anything that a grid varies) on real images.

    Args:
        what: a preset (``"norms"``, ``"experiment"``, ...) or a TOML file that describes a grid. A
            folder here is the data.
        data: ``"digits"`` (the default) or a folder.
        out: the study's folder; by default a dated one under ``studies/``.
        workers: processes side by side; all cores by default, of this machine or of a cluster. It
            does not change results.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        kernels: how layers of normlab are computed: ``"torch"``, by operations of PyTorch;
            ``"compiled"``, by C, which the system's compiler builds at first use; or ``"auto"``, as
            the study has it that is continued, else compiled where that can be used.
        dry_run: only say what would be run.
        repair: move what is damaged in the study to its folder ``damaged`` and make it again,
            instead of refusing it.
        watcher: is told about progress.
        call: how this was called, kept in study.toml; made from the arguments by default.
        options: what follows.

    OPTIONS

    Returns:
        The comparison; with ``dry_run`` only the estimate.

    Raises:
        InputError: bad input, with what to do about it.
    """
    if workers is not None:
        workers = whole("workers", workers)
    if repair and dry_run:
        raise InputError("Give --repair or --dry-run, not both: --repair moves files.")
    kept = {name: options.pop(name) for name in KEEPING_FIELDS if name in options}
    keeping = Keeping(**{name: value for name, value in kept.items() if value is not None})
    refuse_several("compare")
    where = {name: options.pop(name) for name in MACHINES_FIELDS if name in options}
    machines = Machines(**{name: value for name, value in where.items() if value is not None})
    chosen = None if check_kernels(kernels) == "auto" else kernels
    asked = Request.of(what, data, **options, kernels=chosen)
    call = call or asked.command(None if out is None else str(out))
    request = replace(asked, settings={**asked.settings, "device": resolve_device(device)})
    plan = _computed(make_plan(request))
    named = {name for config in plan.arms.values() for name in config.named}
    decoders = workers if machines.engine == "processes" else None  # which is done here
    search = None
    if request.tune is not None:
        search = make_search(request.tune, plan, request.tune_seeds)
    check_folder(STUDIES if out is None else out, "--out")
    reading = watcher.reading if watcher else None
    listing = sources.find(plan.data.source)
    if request.clean_split:
        clean = with_clean_split(plan.data, progress=reading, workers=decoders, listing=listing)
        plan = replace(plan, data=clean)
    dataset = load(plan.data, progress=reading, workers=decoders, listing=listing)
    if dataset.folds is not None:
        # Before any run, since every repetition deals its own folds.
        for seed in range(max([len(plan.seeds), *plan.rule.looks])):
            dataset.folds.rows(seed)
    findings = known_findings(plan.data, dataset, progress=reading, listing=listing)
    notes = [note for config in plan.arms.values() for note in check_network(config, dataset)]
    folder = default_folder(plan, dataset) if out is None else Path(out)
    alone = nullcontext() if dry_run else alone_in(folder, watcher.stage if watcher else None)
    # What the folder has is read only once nobody else adds to it.
    with machines.joined(plan.arms.values(), workers) as cluster, alone:
        study = prepare_study(folder, plan, dataset, call, findings, search, repair=repair)
        _check_computable(study)
        study.check_trust(named, tuned=search is not None)
        if search is not None:
            make_search(str(request.tune), study.plan, request.tune_seeds)  # with the seeds there
            check_same_search(study.folder, search)
        wanted = workers or (
            cluster.slots() if cluster else default_workers(str(request.settings["device"]))
        )
        estimate = _estimate(study, dataset, wanted, search)
        if watcher:
            watcher.planned(study.plan, study.data_record(), study.folder, estimate)
            for note in dict.fromkeys([*study.put_right, *notes]):
                watcher.stage(note)
            if told := _replaced(study):
                watcher.stage(told)
        if dry_run:
            return estimate
        if missing := [config for _, config, _ in study.pending()]:
            tuned = [] if search is None else [config for _, config, _ in study.runs()]
            check_room(study.folder, [*missing, *tuned], dataset, estimate.workers, PAGE)
        with making_runs(cluster, study, dataset) as makes:
            if makes and missing:  # before anything is written
                if watcher:
                    watcher.stage(
                        f"Asking {makes.said} for what runs need: folder, data, versions, layers"
                    )
                makes.check()
            return _run(study, dataset, search, wanted, watcher, keeping, makes)


def _computed(plan: Plan) -> Plan:
    """The plan with a choice of how layers are computed, before anything else is done.

    Raises:
        InputError: it is stated, and cannot be had on this machine.
    """
    if "kernels" in plan.stated:
        for config in plan.arms.values():
            kernels_of(config)
        return plan
    why = why_not_compiled(plan.arms.values())
    return plan.computed_by("torch", torch_because(why)) if why else plan.computed_by("compiled")


def _check_computable(study: Study) -> None:
    """Refuse a study that was begun where its layers could be compiled."""
    if study.plan.kernels != "compiled":
        return
    why = why_not_compiled(study.plan.arms.values())
    if why:
        raise InputError(
            f"The study in {study.folder} has compiled layers, which this machine cannot make: "
            f"{why}. Continue it where they can be compiled, or make another study with --kernels "
            "torch and another --out."
        )


def _run(
    study: Study,
    dataset: DataSet,
    search: Search | None,
    workers: int,
    watcher: Watcher | None,
    keeping: Keeping,
    cluster: StudyCluster | None,
) -> Comparison:
    """Make the runs that are missing and the report."""

    def run(part: Study, compared: Sequence[tuple[str, str]] | None = None) -> int:
        return run_until_decided(part, compared, dataset, workers, watcher, keeping, cluster)

    study.write()
    made = run(study)
    if search is not None:
        made += tune(study, dataset, search, workers, watcher, run, keeping, cluster)
    results = read_results(study.folder)
    _keep_hardest(results, dataset)
    return Comparison(study.folder, results, write_report(results), made)


def _replaced(study: Study) -> str:
    """That runs will be made again, and why; nothing where none will."""
    count = len(study.superseded())
    if not count:
        return ""
    said = listed(f"{why} of {listed(arms)}" for why, arms in study.replaced().items())
    return (
        f"{said[0].upper()}{said[1:]} changed after {counted(count, 'run')} had been made. "
        f"{'It is' if count == 1 else 'They are'} made again; the earlier results are kept in "
        f"{study.folder / 'superseded'}."
    )


def _keep_hardest(results: Results, dataset: DataSet) -> None:
    """Keep the images that most arms get wrong with the runs, for the report to show."""
    split = dataset.tested
    row_of = {name: row for row, name in enumerate(split.names.tolist())}
    names = [image.name for image in hardest(results)]
    write_pictures(results.folder, names, split.images([row_of[name] for name in names]))


def _estimate(study: Study, dataset: DataSet, workers: int, search: Search | None) -> Estimate:
    pending = len(study.pending())
    timed: dict[str, float] = {}
    seconds = estimate_seconds(study, dataset, workers, timed)
    trials = tuned = 0
    if search is not None:
        parts = trials_study(study, search, search.values)
        trials = len(parts.pending())
        seconds += estimate_seconds(parts, dataset, workers, timed)
        tuned = len(study.runs())
        seconds += seconds * tuned / max(1, trials + pending)
    return Estimate(
        runs=pending,
        already=len(study.runs()) - pending,
        seconds=seconds,
        workers=min(workers, max(1, pending, trials)),
        trials=trials,
        tuned=tuned,
        added=most_added(study),
    )


def _document_options() -> None:
    """Options are described where they are declared; the docstring repeats them from there."""
    known = {**{k: f for k, f in REQUEST_FIELDS.items() if k != "what"},
             **{k: f for k, f in DATA_FIELDS.items() if k != "source"}, **SETTINGS,
             **KEEPING_FIELDS, **MACHINES_FIELDS}  # fmt: skip
    said = "\n".join(f"    {name}: {f.metadata['help']}" for name, f in known.items())
    text = (
        f"Options:\n{said}\n\n    A list of values of a setting varies it: batch_size=[1, 8, 32]."
    )
    compare.__doc__ = str(compare.__doc__).replace("OPTIONS", text)
    signature = inspect.signature(compare)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=f.type)
        for name, f in known.items()
    ]
    compare.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]


_document_options()
