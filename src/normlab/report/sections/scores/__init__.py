"""The table of a study: accuracy, micro F1 and macro F1 of every arm on every split.

One row per arm in the order asked: no arm is left out, none is ranked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ....files import csv_text
from ....pages.tables import Cell, Column, Table
from ....pages.words import NO_VALUE, seeds_between
from ....results import Results, Spread
from ....results.reading import COLUMNS
from ....runs import METRICS
from ....runs.layout import RESULTS
from ....splits import SPLIT_WORDS, SPLITS
from ...context import Report, title
from ...data_findings import data_findings
from ...header import endings
from ...section import FolderSection, TableFile

METRIC_WORDS = {"accuracy": "accuracy", "micro_f1": "micro F1", "macro_f1": "macro F1"}
LATEX = "results.tex"


class ScoresSection(FolderSection):
    """The table, and what its numbers are."""

    heading = "Results"

    def context(self, report: Report) -> Mapping[str, Any]:
        """The table twice, for wide and for narrow screens."""
        table = scores_table(report.results)
        return {
            "wide": table.html("results wide"),
            "narrow": table.html_blocks("results narrow"),
            "notes": meaning(report.results),
        }

    def tables(self, report: Report) -> Sequence[TableFile]:
        """Every number, and the table for papers."""
        return (
            TableFile(
                RESULTS,
                csv_text(COLUMNS, report.results.rows),
                "every number in full precision, one row per run and split",
            ),
            TableFile.latex(LATEX, scores_table(report.results), "the table of results"),
        )

    def markdown(self, report: Report) -> Sequence[str]:
        """The table and its notes."""
        return (scores_table(report.results).markdown(),)


def scores_table(results: Results) -> Table:
    """The table of a study; its notes have what a reader has to know."""
    checked = data_findings(results)
    return Table(
        (
            Column("arm", "left"),
            *(Column(METRIC_WORDS[m], group=SPLIT_WORDS[s]) for s in SPLITS for m in METRICS),
            Column("runs", "right"),
        ),
        tuple(_row(results, arm) for arm in results.arms),
        title=title(results),
        caption="Accuracy, micro F1 and macro F1 of every arm, in percent",
        notes=(
            *(checked.sentences() if checked is not None else ()),
            *meaning(results),
            *endings(results),
        ),
    )


def spread_text(spread: Spread | None) -> str:
    """Percent with one decimal: mean ± sd, the value alone for one run, a dash for none."""
    if spread is None:
        return NO_VALUE
    mean = f"{100 * spread.mean:.1f}"
    return mean if spread.sd is None else f"{mean} ± {100 * spread.sd:.1f}"


def meaning(results: Results) -> list[str]:
    """What the numbers are."""
    said = ["Values are percent."]
    spreads = [results.spread(arm, "test", "accuracy") for arm in results.arms]
    if any(spread is not None and spread.sd is not None for spread in spreads):
        said[0] = "Values are percent: mean ± sample standard deviation over the seeds of an arm."
    if any(spread is not None and spread.sd is None for spread in spreads):
        said.append(
            "A value from a single run is given without a standard deviation, which needs at "
            "least two seeds."
        )
    fewest, most = results.seed_counts
    if fewest < most:
        said.append(
            f"Arms have {seeds_between(fewest, most)}, since seeds are added only "
            "where a comparison is not decided. Their means are over different seeds; the verdicts "
            "compare an arm with its reference over the same ones."
        )
    said += [
        "All numbers of a run come from one evaluation pass (evaluation mode, no augmentation) "
        "with the weights that validation chose. The test split is read once, after that choice.",
        "Every image has one label, so micro F1 equals accuracy.",
    ]
    norms = {str(fields.get("norm", arm)) for arm, fields in results.question["arms"].items()
             if arm in results.arms}  # fmt: skip
    if {"torch_bn", "bn"} <= norms:
        said.append(
            "torch_bn is PyTorch's own batch normalization: the reference that bn, written from "
            "the paper, has to agree with."
        )
    elif "torch_bn" in norms:
        said.append("torch_bn is PyTorch's own batch normalization.")
    folds = results.folds
    if folds is not None:
        said.append(
            f"Each run was tested on one of {folds.number} folds, so that the runs of "
            f"{folds.number} seeds were tested on all {folds.images:,} images."
        )
    share = _most_frequent(results)
    if share is not None:
        said.append(
            "For scale: always answering the most frequent class would be right for "
            f"{100 * share:.1f} % of the test images."
        )
    return said


def _row(results: Results, arm: str) -> tuple[Cell, ...]:
    runs = _runs(results, arm)
    return (
        Cell(arm, "name", note=runs if "(" in runs else ""),
        *(Cell(spread_text(results.spread(arm, s, m))) for s in SPLITS for m in METRICS),
        Cell(runs, attributes={"class": "runs"}),
    )


def _runs(results: Results, arm: str) -> str:
    """ "3", or with what became of the others: "1 (2 of 3 diverged)"."""
    found = results.of_arm(arm)
    asked = len(results.seeds_of(arm))
    complete = sum(run.complete for run in found)
    others = Counter(run.status.split()[0].rstrip(":") for run in found if not run.complete)
    if asked > len(found):
        others["not run"] = asked - len(found)
    if not others:
        return str(complete)
    return f"{complete} ({', '.join(f'{k} of {asked} {what}' for what, k in others.items())})"


def _most_frequent(results: Results) -> float | None:
    folds = results.folds
    of_test = results.data.get("counts", {}).get("test", {}) if folds is None else folds.counts
    counts = list(of_test.values())
    return max(counts) / sum(counts) if counts and sum(counts) else None
