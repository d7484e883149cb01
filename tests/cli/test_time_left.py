"""The time that is left is told from what this call has done."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from normlab.console import ConsoleWatcher
from normlab.studies.progress import RunProgress
from normlab.training import Progress


def test_steps_of_an_earlier_call_take_no_time_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    page = io.StringIO()
    watcher = ConsoleWatcher(Console(file=page, width=200))

    def reached(step: int) -> str:
        run = RunProgress("bn", 0, Progress(1, 6, step, 1000, 2.0, 500.0))
        watcher.advanced(step, [run])
        return page.getvalue().splitlines()[-1] if page.getvalue() else ""

    watcher.started(1, 1000)
    assert "left" not in reached(600)  # resumed here
    now = 100.0
    # A hundred steps in a hundred seconds, so three hundred more.
    assert "about 5 min 0 s left" in reached(700)
