"""The list of mistakes that ``make mutants`` plants still fits the code."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def _harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "benchmarks" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


HARNESS = _harness()
MUTANTS = HARNESS.read()


def test_every_mutant_fits_the_code() -> None:
    """Its text occurs once, what comes out is Python, and its tests exist. All misfits at once."""
    misfits = []
    for mutant in MUTANTS:
        assert mutant.tests, mutant.name
        assert mutant.harm.endswith("."), mutant.name
        try:
            ast.parse(mutant.planted(ROOT))
        except (ValueError, SyntaxError) as error:
            misfits.append(str(error))
        for test in mutant.tests:
            file, _, name = test.partition("::")
            content = (ROOT / file).read_text() if (ROOT / file).is_file() else ""
            if f"def {name or 'test_'}" not in content:
                misfits.append(f"{mutant.name}: there is no {test}")
    assert not misfits, "\n".join(misfits)


def test_names_of_mutants_are_different() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names))


def test_a_mutant_that_does_not_fit_is_named() -> None:
    lost = HARNESS.Mutant("lost", "keyed.py", "no such text", "other", ("tests",), "None.")
    with pytest.raises(ValueError, match=r"lost does not fit: .* keyed.py and occurs 0 times"):
        lost.planted(ROOT)
    twice = HARNESS.Mutant("twice", "keyed.py", "import", "other", ("tests",), "None.")
    with pytest.raises(ValueError, match="twice does not fit"):
        twice.planted(ROOT)


def test_what_tests_notice_and_what_they_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a project of one function, tested here; the work tree is not touched."""
    for name in HARNESS.COPIED:
        (tmp_path / name).touch() if "." in name or name == "Makefile" else (
            tmp_path / name
        ).mkdir()
    source = tmp_path / "src/normlab/sums.py"
    source.parent.mkdir()
    source.write_text("def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n")
    before = source.read_text()

    def run_tests(root: Path, tests: object) -> tuple[int, str]:
        assert root != tmp_path
        found: dict[str, Callable[[int, int], int]] = {}
        try:
            exec((root / "src/normlab/sums.py").read_text(), found)
        except SyntaxError:
            return 2, "cannot be imported"
        return int(not (found["add"](1, 2) == 3 and found["sub"](2, 0) == 2)), ""

    monkeypatch.setattr(HARNESS, "ROOT", tmp_path)
    monkeypatch.setattr(HARNESS, "run_tests", run_tests)
    add, sub, broken, everything = (
        HARNESS.Mutant(name, "sums.py", original, mutated, ("tests/test_sums.py",), harm)
        for name, original, mutated, harm in (
            ("add", "a + b", "a - b", "Wrong."),
            ("sub", "a - b", "a + b", "Unseen."),
            ("broken", "a + b", "a +", "None."),
            ("twice", "a", "b", "None."),
        )
    )
    assert HARNESS.try_out([add]) == 0
    assert "1 of 1 killed" in capsys.readouterr().out
    assert HARNESS.try_out([sub, add]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 killed" in said
    assert "survived: sub (sums.py). Unseen." in said
    assert HARNESS.try_out([broken, add]) == 2, "a mistake that no test could run with"
    with pytest.raises(ValueError, match="twice does not fit"):
        everything.planted(tmp_path)
    assert source.read_text() == before
    source.write_text(before.replace("a + b", "a * b"))
    assert HARNESS.try_out([sub]) == 2, "tests that fail by themselves say nothing"
