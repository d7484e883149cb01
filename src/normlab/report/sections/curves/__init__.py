"""Curves by epoch, and what they say by fixed rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....pages.words import listed
from ....results import Results, read_curves
from ....results.trends import GAP, IMPROVING, OSCILLATION, RISE, at_chance
from ....runs import has_smoothed_loss
from ...context import Report
from ...section import FolderSection
from ...vega import Figure, for_page, short
from .curve_chart import (
    QUANTITIES,
    SPLIT_TITLES,
    SPLITS,
    TITLES,
    Line,
    curve_spec,
    extents,
    figures,
    last_epoch,
    lines,
    loss_is_cut,
)


class CurvesSection(FolderSection):
    """Eight charts, and a few sentences per arm."""

    heading = "Curves"

    def context(self, report: Report) -> Mapping[str, Any]:
        """The charts in words, and the readings."""
        drawn = lines(report.results)
        return {
            "groups": [[_chart(drawn, split, quantity) for split in SPLITS]
                       for quantity in QUANTITIES],
            "loss_cut": loss_is_cut(drawn),
            "smoothed": listed(
                dict.fromkeys(
                    run.arm for run in report.results.runs if has_smoothed_loss(run.record)
                )
            ),
            "any_cut": any(line.cut for line in drawn),
            "readings": [(arm, _sentences(report.results, arm)) for arm in report.arms],
            "folded": report.many,
            "improving": 100 * IMPROVING,
            "gap": 100 * GAP,
            "rise": 100 * RISE,
            "at_chance": at_chance(report.results),
            "oscillation": 100 * OSCILLATION,
        }  # fmt: skip

    def payload(self, report: Report) -> dict[str, Any]:
        """Every value once; the script makes the rows."""
        drawn = lines(report.results)
        return {
            "lines": [
                {
                    "arm": line.arm,
                    "seed": line.seed,
                    "cut": line.cut,
                    "epochs": line.epochs,
                    "values": {
                        f"{quantity}-{split}": [short(value) for value in values]
                        for (split, quantity), values in line.values.items()
                    },
                }
                for line in drawn
            ],
            "bounds": extents(drawn),
            "spec": for_page(curve_spec(report.results, last_epoch(report.results))),
        }

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """Every chart, with all arms and with those of each layer."""
        return figures(report.results)


def _chart(drawn: list[Line], split: str, quantity: str) -> dict[str, str]:
    return {
        "quantity": quantity,
        "split": split,
        "title": f"{SPLIT_TITLES[split]} {TITLES[quantity]}",
        "label": _label(drawn, split, quantity),
        "file": f"figures/{quantity.replace('_', '-')}-{split}",
    }


def _label(drawn: list[Line], split: str, quantity: str) -> str:
    """The chart in words, for those who do not see it."""
    ends = []
    for line in drawn:
        values = [v for v in line.values[split, quantity] if v is not None]
        if line.seed is None and values:
            ends.append(f"{line.arm} {values[-1]:.{3 if quantity == 'loss' else 1}f}")
    what = f"{SPLIT_TITLES[split]} {TITLES[quantity]} by epoch, one line per arm."
    return f"{what} Means at the last epoch: {', '.join(ends)}." if ends else what


def _sentences(results: Results, arm: str) -> list[str]:
    reading = read_curves(results, arm)
    parts = (reading.trend, reading.gap, reading.oscillation)
    return [part[0].upper() + part[1:] + "." for part in parts if part]
