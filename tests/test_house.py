"""The house stands as the architecture page says: imports go down its arrows, never up."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import normlab

SOURCE = Path(normlab.__file__).parent

# Room to the rooms it may import; the ground floor is open to all.
GROUND = {
    "bounded",
    "cache_files",
    "destinations",
    "errors",
    "files",
    "foreign",
    "keyed",
    "launch",
    "lazy",
    "leftovers",
    "locks",
    "once",
    "options",
    "pages",
    "places",
    "processes",
    "seals",
    "splits",
    "stopping",
    "values",
}
ALLOWED = {
    "norms": set(),
    "runs": set(),
    "data": set(),
    "models": {"norms", "runs"},
    "checks": {"data"},
    "results": {"runs"},
    "report": {"results", "runs"},
    "training": {"conversion", "models", "norms", "data", "runs"},
    "studies": {"training", "data", "runs"},
    "explain": {"models", "data"},
    "conversion": {"models", "norms"},
    "workflow": {
        "checks",
        "conversion",
        "data",
        "explain",
        "models",
        "norms",
        "report",
        "results",
        "runs",
        "studies",
        "training",
    },
    "console": {"norms", "report", "results", "runs", "studies", "training", "workflow"},
}
MODULES = {
    "arguments": set(),
    "cli": {"arguments", "console", "data", "norms", "runs", "studies", "workflow"},
}
"""Modules that are no rooms: the command line declares its options from declared fields."""


def _imports(path: Path) -> set[str]:
    """Rooms of the package that a file imports, wherever in the file."""
    package = path.relative_to(SOURCE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            named = [*base, *(node.module.split(".") if node.module else [])]
            found |= {named[0]} if named else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("normlab"):
            found.add((node.module or "").split(".")[1])
    return found


def test_imports_follow_the_arrows() -> None:
    for room, allowed in ALLOWED.items():
        files = list((SOURCE / room).rglob("*.py"))
        assert files, f"no files in {room}"
        for path in files:
            wrong = _imports(path) - allowed - GROUND - {room, "__version__"}
            assert not wrong, f"{path.relative_to(SOURCE)} imports {wrong}"


def test_the_command_line_owns_no_job() -> None:
    for name, allowed in MODULES.items():
        wrong = _imports(SOURCE / f"{name}.py") - allowed - GROUND - {"__version__"}
        assert not wrong, f"{name}.py imports {wrong}"


def test_every_room_is_in_the_picture() -> None:
    there = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
    alone = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert there | alone == {*ALLOWED, *MODULES, *GROUND}
    page = (SOURCE.parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
    for name in there | alone:
        assert f"`{name}" in page, f"docs/architecture.md does not mention {name}"


def test_the_ground_floor_imports_no_room() -> None:
    for name in GROUND:
        place = SOURCE / name
        files = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        for path in files:
            assert _imports(path) <= GROUND | {"__version__"}, path


def test_norms_need_torch_alone() -> None:
    for path in (SOURCE / "norms").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            for name in names:
                top = name.split(".")[0]
                assert top in {"torch", *sys.stdlib_module_names}, f"{path.name} imports {name}"


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys; from normlab.cli import main; status = main(['--help']); "
        "heavy = {'torch', 'sklearn', 'PIL', 'numpy', 'vl_convert'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    # Processor time, which is the wall clock's on a quiet machine and does not suffer from others.
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stderr
        assert "compare" in done.stdout
    assert min(times) < 0.6, times


UNUSED = ("sklearn", "torch._dynamo", "sympy", "pandas", "altair", "ray", "distributed")
"""What nothing of a study needs, and what takes a process seconds to import."""


def test_a_study_imports_nothing_heavy_that_it_does_not_use(photos: Path, tmp_path: Path) -> None:
    asked = {"data": str(photos), "out": str(tmp_path / "study"), "workers": 1,
             "arms": ["bn", "bin"], "n": 1, "epochs": 1, "seeds": 1}  # fmt: skip
    code = (
        f"import sys, normlab; done = normlab.compare(**{asked}); "
        f"heavy = set({UNUSED}) & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else done.runs_made - 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study/report.html").is_file()
