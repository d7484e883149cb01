"""The bench of where a study's time goes still finds what it times, and counts no second twice."""

from __future__ import annotations

import importlib.util
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def overhead() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks/overhead.py"
    spec = importlib.util.spec_from_file_location("overhead", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_timed_is_there(overhead: ModuleType) -> None:
    for path, part in overhead.FUNCTIONS.items():
        place, _, name = path.rpartition(".")
        assert callable(getattr(import_module(f"normlab.{place}"), name)), path
        assert part in overhead.PARTS


def test_a_part_has_its_own_time_alone(
    overhead: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "process_time", lambda: now)
    clock = overhead.Clock()
    evaluate = clock.timed("evaluation", lambda: passes(1.0))

    def fail() -> None:
        passes(2.0)
        evaluate()
        passes(4.0)
        raise ValueError

    passes(8.0)
    with pytest.raises(ValueError, match=r"^$"):
        clock.timed("steps", fail)()
    passes(16.0)
    spent = {part: seconds for part, seconds in clock.stop().items() if seconds}
    assert spent == {"steps": 6.0, "evaluation": 1.0, overhead.REST: 24.0}
