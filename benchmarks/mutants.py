"""Whether the tests see what matters: one mistake at a time is planted, and a test must fail.

python benchmarks/mutants.py [--only NAME ...] [--list]

``mutants.toml`` lists the mistakes: a piece of source that occurs exactly once, what is put in its
place, the tests next to it, and what would go wrong for a user. The layers have mutants of their
own (``tests/norms/test_mutations.py``); these are about everything else.

The project is copied to a temporary folder and mistakes are planted there, never in the work tree.
First the tests named must pass without a mistake, each once. Then, for each mistake, they run until
one fails. A mistake that no test notices has survived, and the exit status is 1; it is 2 where the
list does not fit the code, or tests fail without a mistake or cannot run with one.

Mutation tools (mutmut, cosmic-ray) change every operator everywhere and run all tests for each,
which is hours and mostly about error messages; a list of mistakes that would mislead somebody takes
minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".toml")
COPIED = ("src", "tests", "benchmarks", "docs", "examples", "pyproject.toml", "README.md",
          "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")  # fmt: skip
FAILED = 1
"""pytest's exit status where a test failed; higher ones mean that tests could not run."""
TOO_LONG = 600.0
"""Seconds. Tests that hang because of a mistake have noticed it."""


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: unique.
        file: inside ``src/normlab``.
        original: text that occurs exactly once in the file.
        mutated: what is put in its place.
        tests: files or tests of this project, as pytest takes them.
        harm: what would go wrong.
    """

    name: str
    file: str
    original: str
    mutated: str
    tests: tuple[str, ...]
    harm: str

    def path(self, root: Path) -> Path:
        """The file to change in this copy of the project."""
        return root / "src" / "normlab" / self.file

    def planted(self, root: Path) -> str:
        """The file's content with the mistake in it.

        Raises:
            ValueError: the original text does not occur exactly once, or nothing changes.
        """
        path = self.path(root)
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        count = content.count(self.original)
        if count != 1 or self.original == self.mutated:
            raise ValueError(
                f"The mutant {self.name} does not fit: its original text must occur once in "
                f"{self.file} and occurs {count} times. Correct it in {LIST.name}."
            )
        return content.replace(self.original, self.mutated)


def read(path: Path = LIST) -> list[Mutant]:
    """The list."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def copy_of_project(folder: Path) -> Path:
    """The work tree as it is, without what it has built."""
    built = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "build")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=built)
        else:
            shutil.copy2(source, folder / name)
    return folder


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit status and output of pytest in a copy, until the first failure."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=TOO_LONG
        )
    except subprocess.TimeoutExpired:
        return FAILED, "The tests did not end."
    return done.returncode, done.stdout[-3000:]


def try_out(mutants: Sequence[Mutant]) -> int:
    """Plant each in turn and print what became of it; the exit status."""
    survived, broken = [], []
    with tempfile.TemporaryDirectory(prefix="mutants-") as made:
        root = copy_of_project(Path(made))
        named = sorted({test for mutant in mutants for test in mutant.tests})
        started = time.perf_counter()
        status, said = run_tests(root, named)
        if status:
            print(f"{said}\nThe tests fail without a mistake, so nothing can be said.")
            return 2
        print(f"without a mistake: all pass ({time.perf_counter() - started:.0f} s)", flush=True)
        for number, mutant in enumerate(mutants, 1):
            path = mutant.path(root)
            content = path.read_text(encoding="utf-8")
            path.write_text(mutant.planted(root), encoding="utf-8")
            started = time.perf_counter()
            status, said = run_tests(root, mutant.tests)
            path.write_text(content, encoding="utf-8")
            word = {0: "SURVIVED", FAILED: "killed"}.get(status, "CANNOT RUN")
            seconds = time.perf_counter() - started
            print(f"{number:3} {word:10} {seconds:5.1f} s  {mutant.name}", flush=True)
            if status == 0:
                survived.append(mutant)
            elif status != FAILED:
                broken.append(mutant)
                print(said)
    print(f"{len(mutants) - len(survived) - len(broken)} of {len(mutants)} killed.")
    for mutant in survived:
        print(f"survived: {mutant.name} ({mutant.file}). {mutant.harm}")
    return 2 if broken else int(bool(survived))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plant mistakes and see whether tests fail.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only mutants with these names")
    parser.add_argument("--list", action="store_true", help="print the list and run nothing")
    asked = parser.parse_args(arguments)
    mutants = read()
    names = [mutant.name for mutant in mutants]
    unknown = [name for name in asked.only or () if name not in names]
    if unknown:
        parser.error(f"There is no mutant {unknown[0]}. See --list.")
    if asked.only:
        mutants = [mutant for mutant in mutants if mutant.name in asked.only]
    try:
        for mutant in mutants:
            mutant.planted(ROOT)
    except ValueError as error:
        parser.error(str(error))
    if asked.list:
        for mutant in mutants:
            print(f"{mutant.name:40} {mutant.file:36} {mutant.harm}")
        return 0
    return try_out(mutants)


if __name__ == "__main__":
    sys.exit(main())
