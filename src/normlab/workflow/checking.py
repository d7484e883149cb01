"""Checking the data: the whole check with its page, and the cheap part that a study makes."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from ..checks.check import FORMAT, METHOD, check, quick_check
from ..checks.copies.clean import clean_split
from ..checks.copies.exact import exact_copies
from ..checks.copies.groups import copies, known_groups
from ..checks.copies.near import near_copies
from ..checks.image_set import subject
from ..data import DataConfig, DataSet
from ..data.cache import Progress as DataProgress
from ..data.cache_files import cache_folder
from ..errors import InputError
from ..files import read_json, write_json, write_text
from ..pages.findings import Finding, Level, worst

RECORD, PAGE, PAIRS = "data.json", "index.html", "pairs.csv"


@dataclass(frozen=True)
class DataReport:
    """What ``check_data`` returns.

    Attributes:
        folder: holds everything.
        page: ``index.html``, one offline page.
        record: ``data.json``.
        findings: every finding, in the order of the checks.
        split: the split file, if one was asked for.
        split_notes: what moved.
    """

    folder: Path
    page: Path
    record: Path
    findings: tuple[Finding, ...]
    split: Path | None
    split_notes: tuple[str, ...]

    @property
    def verdict(self) -> Level:
        """The worst level of the findings."""
        return worst(self.findings)


def check_data(
    data: str = "digits",
    *,
    image_size: int | None = None,
    split: str | Path | None = None,
    write_split: str | Path | None = None,
    test: Literal["auto", "keep", "redraw"] = "auto",
    drop_conflicts: bool = False,
    split_seed: int = 0,
    out: str | Path | None = None,
    workers: int | None = None,
    command: str | None = None,
    progress: DataProgress | None = None,
) -> DataReport:
    """Check a source: copies, leaks between splits, shortcuts, balance, health.

    Args:
        data: ``"digits"`` or a folder.
        image_size: side of the images in pixels, as the network will see them.
        split: a split file to check in place of the source's own splits.
        write_split: where to write a clean split.
        test: what the clean split does with the test split, see
            :func:`normlab.checks.copies.clean.clean_split`.
        drop_conflicts: leave images that stand under two labels out of the clean split.
        split_seed: the seed of the clean split, and of splits that the source lacks.
        out: the folder of the report; by default a dated one under ``checks/``.
        workers: processes that decode.
        command: how to repeat it, for the report.
        progress: called with a stage, and how many of how many are done.

    Raises:
        InputError: bad input, with what to do about it.
    """
    from ..checks.page import page

    if test not in ("auto", "keep", "redraw"):
        raise InputError(f"test must be auto, keep or redraw, got {test!r}")
    if write_split is None and (test != "auto" or drop_conflicts):
        raise InputError("--test and --drop-conflicts belong to a written split: add --write-split")
    if write_split is not None and Path(write_split).is_dir():
        raise InputError(f"{write_split} is a folder; name a file with --write-split")
    config = DataConfig(
        source=data,
        image_size=image_size,
        split=None if split is None else str(split),
        split_seed=split_seed,
        skip_bad=True,
    )
    folder = Path(out) if out is not None else _default_folder(config)
    _check_target(folder)
    whole = subject(config, progress=progress, workers=workers)
    found = check(whole, progress=progress)
    clean = None
    if write_split is not None:
        clean = clean_split(found.copies, seed=split_seed, test=test, drop_conflicts=drop_conflicts)
        clean.file().write(Path(write_split))
    words = command or shlex.join(["normlab", "check-data", data])
    record = {**found.describe(), "command": words}
    if clean is not None:
        record["split"] = {"file": str(write_split), **clean.describe()}
    write_json(folder / RECORD, record)
    write_text(folder / PAIRS, page.pairs_csv(found))
    write_text(folder / PAGE, page.render(found, split=clean, command=words))
    return DataReport(
        folder,
        folder / PAGE,
        folder / RECORD,
        tuple(found.findings()),
        None if clean is None or write_split is None else Path(write_split),
        () if clean is None else tuple(clean.sentences()),
    )


def with_clean_split(
    config: DataConfig, *, progress: DataProgress | None = None, workers: int | None = None
) -> DataConfig:
    """The same data with a clean split, whose file lies in the cache.

    Copies are searched for at the source's own image size, whatever size the network sees: small
    images would hide copies, and make others look like some.

    Raises:
        InputError: the source cannot be used, or a class would be missing from a split.
    """
    own = replace(config, split=None, image_size=None)
    whole = subject(own, progress=progress, workers=workers)
    near = near_copies(whole, progress=progress)
    clean = clean_split(copies(whole, exact_copies(whole), near), seed=config.split_seed)
    place = cache_folder("splits") / f"{whole.data.fingerprint}-{config.split_seed}.json"
    clean.file().write(place)
    return replace(config, split=str(place))


def known_findings(
    config: DataConfig, data: DataSet, *, progress: DataProgress | None = None
) -> list[dict[str, str]]:
    """What can be said in seconds of the images a study uses; kept in the cache."""
    whole = subject(config, data=data, progress=progress)
    group = known_groups(whole)
    grouped = "full" if group is not None else "quick"
    place = cache_folder("checks") / f"{data.fingerprint}-{METHOD}-{grouped}.json"
    with suppress(InputError, KeyError, TypeError, ValueError):
        return [Finding.read(found).describe() for found in read_json(place)]
    found = [finding.describe() for finding in quick_check(whole, group)]
    with suppress(InputError, OSError):
        write_json(place, found)
    return found


def _default_folder(config: DataConfig) -> Path:
    name = Path(config.source).name or "data"
    return Path("checks") / f"{date.today().isoformat()}-{name}"


def _check_target(folder: Path) -> None:
    """Fail before any work where the report cannot be written."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    known: Any = None
    if (folder / RECORD).is_file():
        known = read_json(folder / RECORD)
    if not (isinstance(known, dict) and known.get("format") == FORMAT):
        raise InputError(
            f"{folder} is there already and holds no data check; choose another folder with --out"
        )
