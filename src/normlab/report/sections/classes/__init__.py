"""What each arm gets wrong: confusion matrices, F1 by class, and the hardest images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....results import answers, hardest
from ...context import Report
from ...section import FolderSection, TableFile
from ...vega import Figure, for_page, picture
from .class_scores import f1_spec, f1_table, hardness, page_table
from .hard_images import FIRST, SHOWN, cards
from .matrix import (
    COUNTS_UP_TO,
    TONES,
    chart_label,
    confused,
    figure,
    figures,
    rows,
    spec,
    told,
    width,
)

F1_FIGURE = "f1-by-class"
LATEX = "f1-by-class.tex"


class ClassesSection(FolderSection):
    """A matrix to choose, a table of F1, and a gallery."""

    heading = "What each arm gets wrong"

    def context(self, report: Report) -> Mapping[str, Any]:
        """Sentences, tables and images; without predictions only which runs left none."""
        found = answers(report.results)
        arms = told(found)
        shared = {"left_out": found.left_out, "arms": [_arm(report, arm) for arm in arms]}
        if not arms:
            return shared
        hard, damaged = cards(report.results, hardest(report.results, count=SHOWN), found)
        return {
            **shared,
            "without": [arm for arm in report.arms if arm not in arms],
            "images": len(found.first.labels) if found.first else 0,
            "folds": found.folds,
            "width": width(found.classes),
            "f1_says": hardness(report.results).says,
            "f1": page_table(report.results).html("dense f1"),
            "f1_file": f"figures/{F1_FIGURE}.svg",
            "classes": len(found.classes),
            "folded": len(found.classes) > COUNTS_UP_TO,
            "cards": hard[:FIRST],
            "more_cards": hard[FIRST:],
            "pictured": any(card["picture"] for card in hard),
            "damaged": damaged,
        }

    def payload(self, report: Report) -> dict[str, Any] | None:
        """Counts as true, predicted, count, one cell after the other; None without predictions."""
        found = answers(report.results)
        arms = told(found)
        if not arms:
            return None
        return {
            "classes": list(found.classes),
            "arms": {
                arm: {
                    "cells": [
                        number
                        for row in rows(report.results, arm)
                        for number in (row["t"], row["p"], row["count"])
                    ],
                    "label": chart_label(report.results, found, arm),
                }
                for arm in arms
            },
            "tones": TONES,
            "spec": for_page(spec(report.results)),
        }

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """A matrix for every arm, and F1 by class; none without predictions."""
        made = figures(report.results)
        return {**made, F1_FIGURE: picture(f1_spec(report.results))} if made else {}

    def tables(self, report: Report) -> Sequence[TableFile]:
        """F1 by class; nothing without predictions."""
        if not told(answers(report.results)):
            return ()
        return (TableFile.latex(LATEX, f1_table(report.results), "F1 by class"),)

    def markdown(self, report: Report) -> Sequence[str]:
        """F1 by class; nothing without predictions."""
        if not told(answers(report.results)):
            return ()
        return ("### F1 by class", f1_table(report.results).markdown())


def _arm(report: Report, arm: str) -> dict[str, Any]:
    found = answers(report.results)
    return {
        "name": arm,
        "says": confused(report.results, found, arm),
        "file": f"figures/{figure(arm)}",
    }
