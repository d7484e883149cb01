"""Checking the data: the full check with its page, and the quick part that every study runs."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..cache_files import keep_record, kept_record
from ..checks import (
    FORMAT,
    NEAR,
    clean_part,
    clean_split,
    decide,
    decisions_about,
    find_copies,
    full_check,
    glance_check,
    groups_file,
    quick_check,
    quick_name,
    read_decisions,
    read_image_set,
    render,
)
from ..data import DataConfig, DataSet
from ..data.cache import Progress as DataProgress
from ..data.config import Resize
from ..data.sources import Listing, find
from ..data.splitfile import SplitFile
from ..destinations import check_file, check_folder
from ..errors import InputError
from ..files import read_json, write_json, write_text
from ..keyed import key
from ..leftovers import holds_nothing
from ..locks import alone_in
from ..options import whole
from ..pages.findings import Finding, Level, worst
from ..places import CHECKS, cache_folder, dated
from ..values import plain

RECORD, PAGE = "data.json", "index.html"


@dataclass(frozen=True)
class DataReport:
    """What ``check_data`` returns.

    Attributes:
        folder: contains everything.
        page: ``index.html``, one page that works offline.
        record: ``data.json``.
        findings: every finding, in the order of the checks.
        split: the split file, if one was requested.
        split_notes: what moved.
        scope: what was not looked at, in sentences; empty after a full check of all images.
    """

    folder: Path
    page: Path
    record: Path
    findings: tuple[Finding, ...]
    split: Path | None
    split_notes: tuple[str, ...]
    scope: tuple[str, ...] = ()

    @property
    def verdict(self) -> Level:
        """The worst level of the findings."""
        return worst(self.findings)


def check_data(
    data: str | Path = "digits",
    *,
    image_size: int | None = None,
    resize: Resize = "crop",
    split: str | Path | None = None,
    write_split: str | Path | None = None,
    test: Literal["auto", "keep", "redraw"] = "auto",
    drop_conflicts: bool = False,
    split_seed: int = 0,
    group_by: str | None = None,
    decisions: str | Path | None = None,
    quick: bool = False,
    limit_per_class: int | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    progress: DataProgress | None = None,
) -> DataReport:
    """Check a source: copies, leaks between splits, shortcuts, balance, health.

    Args:
        data: ``"digits"`` or a folder.
        image_size: side of the images in pixels, as the network will see them.
        resize: how an image becomes a square.
        split: a split file to check instead of the source's own splits.
        write_split: where to write a clean split.
        test: what the clean split does with the test split, see
            :func:`normlab.checks.clean_split`.
        drop_conflicts: omit images with two labels from the clean split.
        split_seed: seed of the clean split, and of splits that the source lacks.
        group_by: a regular expression searched in each image's path; what it captures names a
            group that no split should separate.
        decisions: a table of what a person decided about pairs of near copies, see
            ``docs/data-checks.md``. It holds from then on for this source: later checks and
            ``compare`` use it until another one is given.
        quick: only look for exact copies, balance, names and health, which takes seconds.
        limit_per_class: check a sample of at most this many training images per class and the same
            share of the other splits. Nothing is then said about the whole set.
        out: the folder of the report; by default a dated one under ``checks/``.
        workers: processes that decode.
        command: how to repeat it, for the report.
        progress: called with a stage, and how many of how many are done.

    Raises:
        InputError: bad input, with what to do about it.
    """
    data = str(plain(data))
    if workers is not None:
        workers = whole("workers", workers)
    if test not in ("auto", "keep", "redraw"):
        raise InputError(f"test must be auto, keep or redraw, not {test!r}.")
    if write_split is None and (test != "auto" or drop_conflicts):
        raise InputError(
            "--test and --drop-conflicts only apply to a written split: add --write-split."
        )
    for name, asked in (("quick", quick), ("limit_per_class", limit_per_class is not None)):
        if asked and write_split is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"A clean split needs a full check of all images: leave out {option}, or "
                "--write-split."
            )
    if write_split is not None:
        check_file(write_split, "--write-split")
    if limit_per_class is not None:
        limit_per_class = whole("limit_per_class", limit_per_class)
    decided = None if decisions is None else read_decisions(Path(decisions))
    config = DataConfig(
        source=data,
        image_size=image_size,
        resize=resize,
        split=None if split is None else str(split),
        split_seed=split_seed,
        group_by=group_by,
        skip_bad=True,
    )
    folder = Path(out) if out is not None else _default_folder(config)
    _check_target(folder)
    image_set = read_image_set(config, progress=progress, workers=workers, sample=limit_per_class)
    if decided is not None and decisions is not None:
        about = decisions_about(image_set, decided, Path(decisions))
        decide(image_set, about, remember=limit_per_class is None)
    found = glance_check(image_set) if quick else full_check(image_set, progress=progress)
    clean, more = None, []
    if not quick:
        copies = found.of(NEAR)
        if write_split is not None:
            clean = clean_split(copies, seed=split_seed, test=test, drop_conflicts=drop_conflicts)
            beyond = {} if split is None else SplitFile.read(Path(split), len(image_set)).left_out
            clean.file(beyond).write(Path(write_split))
        more = [clean_part(copies, clean)]
    words = command or shlex.join(["normlab", "check-data", data])
    record = {**found.describe(), "command": words}
    if clean is not None:
        record["split"] = {"file": str(write_split), **clean.describe()}
    page = render(found, more=more, command=words)
    with alone_in(folder):
        write_json(folder / RECORD, record)
        for table in (table for part in found.parts for table in part.tables):
            write_text(folder / table.name, table.text)
        write_text(folder / PAGE, page)
    return DataReport(
        folder,
        folder / PAGE,
        folder / RECORD,
        tuple(found.findings()),
        None if clean is None or write_split is None else Path(write_split),
        () if clean is None else tuple(clean.sentences()),
        found.scope,
    )


def with_clean_split(
    config: DataConfig,
    *,
    progress: DataProgress | None = None,
    workers: int | None = None,
    listing: Listing | None = None,
) -> DataConfig:
    """The same data with a clean split, whose file is in the cache; with folds, the file says which
    images stay together. ``listing`` is of the source, where it has been listed already.

    Copies are searched for at the source's own image size, whatever size the network sees: small
    images hide copies, and make different images look like copies.

    Raises:
        InputError: the source cannot be used, or a class would be missing from a split.
    """
    own = replace(config, split=None, image_size=None)
    listing = listing or find(config.source)
    image_set = read_image_set(own, progress=progress, workers=workers, listing=listing)
    # Images that differ at their own size may be equal at the size of the network.
    seen = read_image_set(
        replace(config, split=None), progress=progress, workers=workers, listing=listing
    )
    digest = dict(zip(seen.names.tolist(), seen.digests.tolist(), strict=True))
    digests = np.array([digest[name] for name in image_set.names.tolist()], dtype=np.uint64)
    copies = find_copies(image_set, progress=progress)
    if config.folds is None:
        file = clean_split(copies, seed=config.split_seed, also=[digests]).file()
    else:
        file = groups_file(copies, seed=config.split_seed, also=[digests])
    parts = (
        image_set.data.fingerprint,
        seen.data.fingerprint,
        str(config.group_by),
        copies.decisions.everything,
    )
    named = f"{image_set.data.fingerprint}-{config.split_seed}-{key(*parts):016x}"
    place = cache_folder("splits") / f"{named}.json"
    file.write(place)
    return replace(config, split=str(place))


def known_findings(
    config: DataConfig,
    data: DataSet,
    *,
    progress: DataProgress | None = None,
    listing: Listing | None = None,
) -> list[dict[str, str]]:
    """What can be said within seconds about the images a study uses; kept in the cache."""
    image_set = read_image_set(config, data=data, progress=progress, listing=listing)
    name = quick_name(image_set)
    kept = kept_record("checks", name)
    with suppress(KeyError, TypeError, ValueError):
        if kept is not None:
            return [Finding.read(found).describe() for found in kept["findings"]]
    found = [finding.describe() for finding in quick_check(image_set)]
    keep_record("checks", name, {"findings": found})
    return found


def _default_folder(config: DataConfig) -> Path:
    name = Path(config.source).name or "data"
    return dated(CHECKS, name)


def _check_target(folder: Path) -> None:
    """Fail before any work if the report cannot be written."""
    check_folder(folder, "--out")
    if not folder.exists() or (folder.is_dir() and holds_nothing(folder)):
        return
    known: Any = None
    if (folder / RECORD).is_file():
        known = read_json(folder / RECORD)
    if not (isinstance(known, dict) and known.get("format") == FORMAT):
        raise InputError(
            f"{folder} already exists and does not contain a data check. Choose another folder "
            "with --out."
        )
