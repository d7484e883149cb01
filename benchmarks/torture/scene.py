"""What is tortured: small folders of real images and small studies of them."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TINY = ("--n", "1", "--image-size", "8", "--epochs", "2", "--batch-size", "16")
"""Settings that make a run take about a second."""


def images(folder: Path, *, classes: int = 4, each: int = 30) -> Path:
    """Handwritten digits (from scikit-learn) as a folder of class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in range(classes):
        below = folder / str(label)
        below.mkdir(parents=True)
        chosen = digits.images[digits.target == label][:each]
        for number, pixels in enumerate(chosen):
            Image.fromarray((pixels * 15.9).astype("uint8")).save(below / f"{number:03d}.png")
    return folder


def environment(cache: Path) -> dict[str, str]:
    """Of a command that is to keep its cache here."""
    return {
        **os.environ,
        "NORMLAB_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


def started(cache: Path, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "normlab", *arguments],
        env=environment(cache),
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def called(*arguments: str) -> tuple[int, str]:
    """A command in this process; its status and what it said."""
    from normlab.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(arguments)
    return status, said.getvalue()


@contextmanager
def cached_in(folder: Path) -> Iterator[None]:
    """This process keeps its cache here."""
    before = os.environ.get("NORMLAB_CACHE")
    os.environ["NORMLAB_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["NORMLAB_CACHE"]
        else:
            os.environ["NORMLAB_CACHE"] = before


def result_bits(study: Path) -> dict[str, bytes]:
    """The files of a study's runs that must be the same bits however it came to them."""
    names = ("predictions.npz", "weights.safetensors")
    return {
        str(path.relative_to(study)): path.read_bytes()
        for name in names
        for path in sorted(study.glob(f"runs/*/*/{name}"))
    }


def differing(study: Path, expected: dict[str, bytes]) -> list[str]:
    """Names of the files whose bits differ from what is expected, or that are missing."""
    found = result_bits(study)
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
