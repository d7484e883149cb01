"""Reports of studies, and comparisons of two models, from what runs left. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ..destinations import check_folder
from ..errors import InputError
from ..report import ReportFiles, write_report
from ..results import Results, read_results, read_run
from ..results.statistics import McNemar, mcnemar
from ..runs.rule import checked_target


def report(
    studies: str | Path | Iterable[str | Path],
    *,
    all_pairs: bool = False,
    target: float | None = None,
) -> list[tuple[Results, ReportFiles]]:
    """Write the tables, charts and pages of studies again from their runs.

    All are read before any is written, so that a wrong name is said at once.

    Args:
        studies: their folders, or one.
        all_pairs: compare every two arms too, not only each with the reference.
        target: a validation accuracy in percent, of which the report says when runs reach it;
            instead of the one that the study states, which stays as it is.

    Raises:
        InputError: no study is named, or one cannot be read.
    """
    studies = [studies] if isinstance(studies, (str, Path)) else list(studies)
    if not studies:
        raise InputError("Name the folder of a study: normlab report STUDY")
    share = None if target is None else checked_target(target)
    found = [read_results(study) for study in studies]
    for study in studies:
        check_folder(study)
    return [
        (results, write_report(results, all_pairs=all_pairs, target=share)) for results in found
    ]


def compare_models(
    first: str | Path, second: str | Path, *, split: Literal["val", "test"] = "test"
) -> McNemar:
    """Compare two trained models on the same images with McNemar's exact test.

    Raises:
        InputError: a folder without a run, or runs over different images.
    """
    return mcnemar(read_run(first), read_run(second), split=split)
