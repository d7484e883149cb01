"""Test accuracy against each setting that the study varies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....pages.words import setting_title
from ....results import Results
from ...context import Report
from ...section import FolderSection
from ...setting_chart import bounds, payload, rows, settings, spec
from ...vega import Figure, render


class SettingsSection(FolderSection):
    """One chart per varied setting."""

    heading = "Test accuracy against what varies"

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """The charts in words; None where the arms vary in nothing but the layer."""
        charts = [
            {
                "name": name,
                "title": f"Test accuracy against {setting_title(name)}",
                "file": f"figures/{_figure(name)}",
                "label": _label(report.results, name),
            }
            for name in _charted(report.results)
        ]
        return {"charts": charts} if charts else None

    def payload(self, report: Report) -> list[dict[str, Any]] | None:
        """The points of every chart."""
        results = report.results
        return [
            payload(results, name, rows(results, name), spec(results, name), name)
            for name in _charted(results)
        ] or None

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """Every chart."""
        made = {}
        for name in _charted(report.results):
            found = rows(report.results, name)
            drawn = spec(report.results, name)
            drawn["data"]["values"] = found
            made[_figure(name)] = render(drawn, bounds(found))
        return made


def _charted(results: Results) -> list[str]:
    return [name for name in settings(results) if rows(results, name)]


def _figure(name: str) -> str:
    return f"accuracy-test-by-{name.replace('_', '-')}"


def _label(results: Results, name: str) -> str:
    """The chart in words, for those who do not see it."""
    said = [
        f"{row['line']} at {row['x']:g}: {row['value']:.1f}"
        for row in rows(results, name)
        if row["mean"]
    ]
    return f"Test accuracy in percent against {setting_title(name)}. Means: {'; '.join(said)}."
