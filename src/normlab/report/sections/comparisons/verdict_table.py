"""The numbers behind every verdict: a table for people and comparisons.csv for programs."""

from __future__ import annotations

import math
from typing import Any

from ....files import csv_text
from ....pages.tables import Cell, Column, Table
from ....pages.words import NO_VALUE
from ....results.statistics import Interval, PairedComparison, every_pair, judge
from ....runs.rule import LEAST_SEEDS
from ...context import Report
from ...numbers import bracket, margin, places, points, seeds_range, with_interval

COLUMNS = (
    "difference", "verdict", "seeds", "alone (95 %)", "images", "seeds and images", "spread",
    "correlation", "visible", "seeds to see the margin", "seeds for equivalence",
)  # fmt: skip
PAPER = ("arm", "reference", "difference", "verdict", "seeds", "alone (95 %)", "seeds and images",
         "spread", "visible")  # fmt: skip
"""The columns of comparisons.tex."""
EXPLAINED = (
    (
        "difference",
        "the arm's test accuracy minus the reference's, in points, averaged over the seeds, with "
        "the interval that decides the verdict; all these intervals hold simultaneously",
    ),
    (
        "verdict",
        "for these test images, other seeds; withheld where runs without a model could reverse it, "
        f"and none with fewer than {LEAST_SEEDS} seeds",
    ),
    (
        "seeds",
        "how many were completed by both arms and compared; where looks were fixed, those of the "
        "look that decided",
    ),
    (
        "alone",
        "the interval for a reader who asked about this one arm only; it is too short when "
        "several arms are read together",
    ),
    (
        "images",
        "the same trained models on other test images of the same kind: a bootstrap over images "
        "within each class, with the same images for both arms",
    ),
    (
        "seeds and images",
        "for other seeds and other test images of the same kind: the two variances add; a verdict "
        "whose interval here would not give it holds for these test images alone",
    ),
    ("spread", "sample standard deviation of the differences over the seeds, in points"),
    (
        "correlation",
        "of the two arms over the seeds: near 1 pairing helps, near 0 it does not; rough with "
        "few seeds",
    ),
    (
        "visible",
        "the smallest true difference, in points, that this number of seeds with this spread "
        "would find in four out of five studies; accuracies cannot differ by more than 100",
    ),
    (
        "seeds to see the margin",
        "how many seeds would find a difference as large as the margin in four out of five "
        "studies; a range, because few seeds tell the spread only roughly",
    ),
    (
        "seeds for equivalence",
        "how many seeds would find two arms without any difference equivalent in four out of "
        "five studies; a range for the same reason",
    ),
)
"""What each column means."""


OF_FOLDS = {
    "difference": "the arm's test accuracy minus the reference's, in points, averaged over the "
    "seeds, with the interval that decides the verdict; it is wider than that of independent runs, "
    "since runs share training images (the variance of the mean is taken as (1/n + n_test/n_train) "
    "s²); all these intervals hold simultaneously",
    "verdict": "for networks trained on as many images of this kind, whichever these are; withheld "
    "where runs without a model could reverse it, and none with fewer than "
    f"{LEAST_SEEDS} seeds",
    "spread": "sample standard deviation of the differences over the seeds, in points; each seed "
    "is tested on another fold",
    "seeds to see the margin": "how many seeds would find a difference as large as the margin in "
    "four out of five studies; a range, because few seeds tell the spread only roughly; where no "
    "number of seeds would do, it takes more images",
    "seeds for equivalence": "how many seeds would find two arms without any difference equivalent "
    "in four out of five studies; a range for the same reason, and with the same end",
    "images": "",
    "seeds and images": "",
}
"""What columns mean with folds; those without a meaning are left out."""


def explained(report: Report) -> list[tuple[str, str]]:
    """What each column of the table means."""
    if report.results.folds is None:
        return list(EXPLAINED)
    return [(name, text) for name, said in EXPLAINED if (text := OF_FOLDS.get(name, said))]


def comparisons_table(report: Report) -> Table:
    """One row per comparison."""
    table = _whole_table(report)
    if report.results.folds is None:
        return table
    heads = [column.head for column in table.columns]
    return table.only([i for i, head in enumerate(heads) if OF_FOLDS.get(head, head)])


def _whole_table(report: Report) -> Table:
    return Table(
        (
            Column("arm", "left"),
            Column("reference", "left"),
            *(Column(name, "left" if name == "verdict" else "right") for name in COLUMNS),
        ),
        tuple(
            (Cell(found.arm, "name"), Cell(found.reference, "name"), *_cells(found))
            for found in report.judgement.comparisons
        ),
        title=report.title,
        caption="In points of test accuracy; positive where the arm is higher",
    )


def paper_table(report: Report) -> Table:
    """The columns that a paper needs, with what they mean."""
    whole = comparisons_table(report)
    names = [column.head for column in whole.columns]
    shown = whole.only([names.index(name) for name in PAPER if name in names])
    notes = (
        f"Differences in points of test accuracy, margin {margin(report.judgement.rule.margin)}.",
        *(
            f"{name}: {said}."
            for name, said in explained(report)
            if any(name in head for head in PAPER)
        ),
    )
    return Table(shown.columns, shown.rows, shown.title, notes=notes)


def pairs_table(report: Report) -> Table:
    """Every two arms; the error is divided over all pairs."""
    judgement = judge(
        report.results,
        report.judgement.rule,
        compared=every_pair(report.results),
        images=False,
    )
    return Table(
        (
            Column("arm", "left"),
            Column("reference", "left"),
            Column("difference"),
            Column("verdict", "left"),
        ),
        tuple(
            (Cell(found.arm, "name"), Cell(found.reference, "name"), *_cells(found)[:2])
            for found in judgement.comparisons
        ),
        caption="In points of test accuracy; positive where the arm is higher",
    )


def pairs_note(report: Report) -> str:
    """What a reader of the table of all pairs has to know."""
    count = len(every_pair(report.results))
    return (
        f"Every two arms, asked for after the runs. The error is divided over all {count} pairs, "
        "so these intervals are wider than those of the comparisons with the reference. They too "
        "hold simultaneously."
    )


def _cells(found: PairedComparison) -> list[Cell]:
    """The columns from the difference on."""
    none = NO_VALUE
    if found.difference is None:
        others = [Cell(none)] * (len(COLUMNS) - 2)
        return [Cell(none), Cell(found.verdict, "mark"), *others]
    digits = places(found.interval)

    def interval(of: Interval | None) -> str:
        return none if of is None else bracket(of, digits)

    def seeds(bounds: tuple[int | None, int | None] | None) -> str:
        return none if bounds is None else seeds_range(bounds, endless=not found.general)

    sd = found.difference.sd
    numbers = [
        str(len(found.difference.seeds)),
        interval(found.unadjusted),
        interval(found.images.interval if found.images else None),
        interval(found.both),
        none if sd is None else points(sd, 2),
        none if found.correlation is None else f"{found.correlation:.2f}".replace("-", "−"),
        none if found.visible is None else _visible(found.visible, digits),
        seeds(found.seeds_to_see_margin),
        seeds(found.seeds_for_equivalence),
    ]
    return [
        _unbroken(with_interval(found.difference.mean, found.interval)),
        Cell(found.verdict, "mark"),
        *map(_unbroken, numbers),
    ]


def _unbroken(text: str) -> Cell:
    """On a narrow page an interval may stand below its difference, but stays whole."""
    from markupsafe import Markup

    whole = text.replace(", ", ",\N{NO-BREAK SPACE}")
    return Cell(text, html=None if whole == text else Markup("{}").format(whole))


def _visible(size: float, digits: int) -> str:
    return "over 100" if math.isinf(size) else points(size, digits)


CSV = (
    "arm", "reference", "seeds", "mean", "sd", "low", "high", "level", "unadjusted_low",
    "unadjusted_high", "images_low", "images_high", "both_low", "both_high", "margin", "verdict",
    "withheld", "other_images", "arm_lost", "reference_lost", "correlation", "visible",
)  # fmt: skip
"""``verdict`` is for these test images (with folds, for images of their kind), ``other_images`` for
others of their kind; ``withheld`` is the verdict that would be given if no run had been lost."""


def comparisons_csv(report: Report) -> str:
    """comparisons.csv: every number in full precision, differences as shares of 1."""
    return csv_text(CSV, map(_csv_row, report.judgement.comparisons))


def _csv_row(found: PairedComparison) -> dict[str, Any]:
    row: dict[str, Any] = {
        "arm": found.arm,
        "reference": found.reference,
        "level": found.level,
        "margin": found.margin,
        "verdict": str(found.verdict),
        "withheld": found.withheld,
        "other_images": found.elsewhere,
        "arm_lost": len(found.lost[0]),
        "reference_lost": len(found.lost[1]),
        "correlation": found.correlation,
        "visible": found.visible,
    }
    if found.difference is not None:
        row["seeds"] = len(found.difference.seeds)
        row["mean"], row["sd"] = found.difference.mean, found.difference.sd
    for name, interval in (
        ("", found.interval),
        ("unadjusted_", found.unadjusted),
        ("images_", found.images.interval if found.images else None),
        ("both_", found.both),
    ):
        if interval is not None:
            row[f"{name}low"], row[f"{name}high"] = interval.low, interval.high
    return row
