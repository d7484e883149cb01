"""The arms at one shared value of a setting and at values chosen for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....pages.words import setting_title
from ....results import Tuning
from ...context import Report
from ...section import FolderSection, TableFile
from ...setting_chart import payload
from ...vega import Figure, render
from .shared_and_tuned import sentences, title, tuned_table, unfinished
from .tuning_chart import bounds, chart_label, charted, cut, points, spec


class TunedSection(FolderSection):
    """A table and a chart per tuned setting."""

    def title(self, report: Report) -> str:
        """Its heading."""
        settings = [
            *map(title, report.tunings),
            *(setting_title(found.field) for found in report.unfinished_tunings),
        ]
        return f"Shared and tuned: {settings[0]}" if len(settings) == 1 else "Shared and tuned"

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """What each setting says; None where nothing was tuned."""
        found = [_context(one) for one in report.tunings]
        open_ = [unfinished(one) for one in report.unfinished_tunings]
        return {"tunings": found, "unfinished": open_} if found or open_ else None

    def payload(self, report: Report) -> list[dict[str, Any]] | None:
        """The trials of every setting with numbers as values."""
        drawn = []
        for tuning in report.tunings:
            if charted(tuning):
                field, found = tuning.search.field, points(tuning)
                made = payload(tuning.trials, field, found, spec(tuning), _name(tuning))
                low, high = bounds(found)
                drawn.append({**made, "low": low, "high": high, "field": field})
        return drawn or None

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """The chart of every setting."""
        made = {}
        for tuning in report.tunings:
            if charted(tuning):
                drawn, found = spec(tuning), points(tuning)
                drawn["data"]["values"] = found
                made[_name(tuning)] = render(drawn, bounds(found))
        return made

    def tables(self, report: Report) -> Sequence[TableFile]:
        """The table of every setting."""
        return [
            TableFile.latex(f"{_name(tuning)}.tex", tuned_table(tuning), f"{title(tuning)}, tuned")
            for tuning in report.tunings
        ]

    def markdown(self, report: Report) -> Sequence[str]:
        """The table of every setting and its notes."""
        several = len(report.tunings) > 1
        blocks = []
        for tuning in report.tunings:
            if several:
                blocks.append(f"### {title(tuning).capitalize()}")
            blocks.append(tuned_table(tuning).markdown())
        return [*blocks, *(unfinished(one) for one in report.unfinished_tunings)]


def _context(tuning: Tuning) -> dict[str, Any]:
    says = sentences(tuning)
    return {
        "id": tuning.search.field,
        "title": title(tuning),
        "changes": says[-1],
        "says": says[:-1],
        "table": tuned_table(tuning).html("tuned many"),
        "name": _name(tuning),
        "chart": charted(tuning),
        "label": chart_label(tuning),
        "cut": cut(tuning) if charted(tuning) else None,
        "file": f"figures/{_name(tuning)}",
    }


def _name(tuning: Tuning) -> str:
    """Of its figure and table."""
    return f"tuning-{tuning.search.field.replace('_', '-')}"
